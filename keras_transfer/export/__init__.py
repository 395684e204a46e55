"""Export: SavedModel and TFLite, each proven to answer like the Keras model."""

from keras_transfer.export.bundle import Bundle, is_bundle, load_bundle
from keras_transfer.export.exporter import export_model
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
