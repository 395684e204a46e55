"""The public names, for editors and type checkers, which run nothing; made by tests/stubs.py."""

from keras_transfer.backbones import load_backbone
from keras_transfer.data import ImageTable, load_data
from keras_transfer.export import export_model, load_bundle
from keras_transfer.features import extract
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.freezing import freeze, set_trainable, unfreeze_from
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.finetune import fine_tune
from keras_transfer.training.probe import fit_probe
from keras_transfer.workflow.check import check
from keras_transfer.workflow.compare import compare
from keras_transfer.workflow.describe import describe
from keras_transfer.workflow.doctor import diagnose_quantization
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.explain import explain
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.features import save_features
from keras_transfer.workflow.pick import pick
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.replay import replay
from keras_transfer.workflow.report import report
from keras_transfer.workflow.similar import find_similar
from keras_transfer.workflow.train import train
from keras_transfer.workflow.verify import verify

__version__: str

__all__ = [
    "FreezePlan",
    "ImageTable",
    "Preprocessing",
    "adapt_batchnorm",
    "add_head",
    "check",
    "compare",
    "describe",
    "diagnose_quantization",
    "evaluate",
    "explain",
    "export_model",
    "export_run",
    "extract",
    "find_similar",
    "fine_tune",
    "fit_probe",
    "freeze",
    "load_backbone",
    "load_bundle",
    "load_data",
    "pick",
    "predict",
    "replay",
    "report",
    "save_features",
    "set_trainable",
    "train",
    "unfreeze_from",
    "verify",
]
