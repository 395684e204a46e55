"""Transfer learning with Keras 3 for people who end on an edge device.

    import keras_transfer as ktr

    table = ktr.load_data("photos/")                           # classes, splits, unreadable files set aside
    pixels = ktr.Preprocessing(size=(224, 224))                # the contract that travels with the model
    backbone = ktr.load_backbone("efficientnet_lite0")         # a plain Keras model, ImageNet weights
    model = ktr.add_head(backbone, len(table.classes))         # + GlobalAveragePooling + Dense
    features = ktr.extract(table, backbone, preprocessing=pixels)   # computed once, kept on disk
    ktr.fit_probe(model, features.values, table.labels, train=table.indices("train"), val=table.indices("val"))
    ktr.unfreeze_from(model, "block6a")                        # or stop at the probe
    ktr.fine_tune(model, table, pixels, epochs=5)
    ktr.export_model(model, "edge", table=table, preprocessing=pixels)

Everything in between is a plain Keras object. Names are imported on first use: ``import keras_transfer`` alone
imports neither TensorFlow nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import Any

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()  # once, before any module here imports Keras

__version__ = "0.1.0"

_HOMES = {
    "FreezePlan": "keras_transfer.freeze_plan",
    "ImageTable": "keras_transfer.data",
    "Preprocessing": "keras_transfer.preprocessing",
    "adapt_batchnorm": "keras_transfer.training.adapt",
    "add_head": "keras_transfer.heads",
    "check": "keras_transfer.workflow.check",
    "compare": "keras_transfer.workflow.compare",
    "describe": "keras_transfer.workflow.describe",
    "diagnose_quantization": "keras_transfer.workflow.doctor",
    "evaluate": "keras_transfer.workflow.evaluate",
    "explain": "keras_transfer.workflow.explain",
    "export_model": "keras_transfer.export",
    "export_run": "keras_transfer.workflow.export",
    "extract": "keras_transfer.features",
    "find_similar": "keras_transfer.workflow.similar",
    "fine_tune": "keras_transfer.training.finetune",
    "fit_probe": "keras_transfer.training.probe",
    "freeze": "keras_transfer.freezing",
    "load_backbone": "keras_transfer.backbones",
    "load_bundle": "keras_transfer.export",
    "load_data": "keras_transfer.data",
    "pick": "keras_transfer.workflow.pick",
    "predict": "keras_transfer.workflow.predict",
    "replay": "keras_transfer.workflow.replay",
    "report": "keras_transfer.workflow.report",
    "save_features": "keras_transfer.workflow.features",
    "set_trainable": "keras_transfer.freezing",
    "train": "keras_transfer.workflow.train",
    "unfreeze_from": "keras_transfer.freezing",
    "verify": "keras_transfer.workflow.verify",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_transfer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
