"""What runs and bundles say about themselves, as types: parsed and checked once where a file is opened. Light."""

from keras_transfer.records.bundle import ArtefactRecord, BundleRecord, Tolerance
from keras_transfer.records.contract import ModelContract, Origin
from keras_transfer.records.fields import DamagedError
from keras_transfer.records.run import BackboneRecord, DataRecord, RunRecord, TrainingRequest

__all__ = [
    "ArtefactRecord",
    "BackboneRecord",
    "BundleRecord",
    "DamagedError",
    "DataRecord",
    "ModelContract",
    "Origin",
    "RunRecord",
    "Tolerance",
    "TrainingRequest",
]
