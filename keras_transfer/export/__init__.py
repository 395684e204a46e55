"""Export: SavedModel and TFLite, each proven to answer like the Keras model.

Names are imported on first use: what is light in here (``inspection``, ``targets``) stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_transfer.export.bundle import Bundle, load_bundle
    from keras_transfer.export.exporter import export_model
    from keras_transfer.export.listing import is_bundle
    from keras_transfer.export.manifest import About
    from keras_transfer.export.parity import Judge, Parity, breaches, measure_parity, tolerance_for
    from keras_transfer.export.report import ArtefactReport, CalibrationReport, ExportReport
    from keras_transfer.inference import KerasRunner, Runner, load_runner
    from keras_transfer.records import ArtefactRecord, ExportOptions, Tolerance
    from keras_transfer.records.export_options import FORMATS, PRECISIONS

__all__ = [
    "FORMATS",
    "PRECISIONS",
    "About",
    "ArtefactRecord",
    "ArtefactReport",
    "Bundle",
    "CalibrationReport",
    "ExportOptions",
    "ExportReport",
    "Judge",
    "KerasRunner",
    "Parity",
    "Runner",
    "Tolerance",
    "breaches",
    "export_model",
    "is_bundle",
    "load_bundle",
    "load_runner",
    "measure_parity",
    "tolerance_for",
]

_HOMES = {
    "FORMATS": "keras_transfer.records.export_options",
    "PRECISIONS": "keras_transfer.records.export_options",
    "About": "keras_transfer.export.manifest",
    "ArtefactRecord": "keras_transfer.records",
    "ArtefactReport": "keras_transfer.export.report",
    "Bundle": "keras_transfer.export.bundle",
    "CalibrationReport": "keras_transfer.export.report",
    "ExportOptions": "keras_transfer.records",
    "ExportReport": "keras_transfer.export.report",
    "Judge": "keras_transfer.export.parity",
    "KerasRunner": "keras_transfer.inference",
    "Parity": "keras_transfer.export.parity",
    "Runner": "keras_transfer.inference",
    "Tolerance": "keras_transfer.records",
    "breaches": "keras_transfer.export.parity",
    "export_model": "keras_transfer.export.exporter",
    "is_bundle": "keras_transfer.export.listing",
    "load_bundle": "keras_transfer.export.bundle",
    "load_runner": "keras_transfer.inference",
    "measure_parity": "keras_transfer.export.parity",
    "tolerance_for": "keras_transfer.export.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_transfer.export' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
