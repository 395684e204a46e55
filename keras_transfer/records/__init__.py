"""What runs and bundles say about themselves, and what an export is told: types, checked at the border. Light."""

from keras_transfer.records.bundle import ArtefactRecord, BundleRecord, TargetRecord, Tolerance
from keras_transfer.records.contract import ModelContract, Origin
from keras_transfer.records.export_options import ExportOptions
from keras_transfer.records.fields import DamagedError
from keras_transfer.records.run import BackboneRecord, DataRecord, RunRecord, TrainingRequest

__all__ = [
    "ArtefactRecord",
    "BackboneRecord",
    "BundleRecord",
    "DamagedError",
    "DataRecord",
    "ExportOptions",
    "ModelContract",
    "Origin",
    "RunRecord",
    "TargetRecord",
    "Tolerance",
    "TrainingRequest",
]
