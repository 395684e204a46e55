"""The tasks that come with the core. They enter through the same door as a plugin's."""

from __future__ import annotations

from dataclasses import dataclass

from keras_transfer.options import option
from keras_transfer.tasks.base import FIT, GRADIENT, TaskSpec

FOR_SINGLE_CLASSES = ("balance", "teacher", "temperature", "teacher_weight", "deploy")
FOR_LABELS = ("focal", "label_smoothing")
HONOURED = (*FIT, *GRADIENT)
HEADS = ("linear", "svm", "svm-rbf", "knn", "prototype")


@dataclass(frozen=True)
class HeadOptions:
    """The head of any of these tasks."""

    hidden: tuple[int, ...] = option((), "Width of a hidden Dense layer in the head (repeatable).", minimum=1)
    dropout: float = option(0.2, "Share of the features dropped in training.", minimum=0.0, below=1.0)


@dataclass(frozen=True)
class ClassificationOptions(HeadOptions):
    """The head of a classifier."""

    head: str = option("linear", "What decides on the features.", choices=HEADS)
    calibrate: bool = option(True, "Fit a temperature on the validation images and fold it in.")


CLASSIFICATION = TaskSpec(
    name="classification",
    summary="One label per image.",
    factory="keras_transfer.tasks.classification:Classification",
    options=ClassificationOptions,
    metrics={
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "macro_f1": "higher",
        "log_loss": "lower",
        "calibration_error": "lower",
    },
    main_metric="accuracy",
    honours=HONOURED,
    sample="keras_transfer.testing.samples:two_photographs",
)


@dataclass(frozen=True)
class MultiLabelOptions(HeadOptions):
    """The head of a model with several labels per image."""


MULTILABEL = TaskSpec(
    name="multilabel",
    summary="Any number of labels per image.",
    factory="keras_transfer.tasks.multilabel:MultiLabel",
    options=MultiLabelOptions,
    metrics={
        "mean_average_precision": "higher",
        "micro_f1": "higher",
        "macro_f1": "higher",
        "subset_accuracy": "higher",
        "hamming_loss": "lower",
        "log_loss": "lower",
    },
    main_metric="mean_average_precision",
    honours=tuple(name for name in HONOURED if name not in FOR_SINGLE_CLASSES),
    sample="keras_transfer.testing.samples:with_labels",
)


@dataclass(frozen=True)
class RegressionOptions(HeadOptions):
    """The head of a model that gives numbers."""


REGRESSION = TaskSpec(
    name="regression",
    summary="One number per image, or several.",
    factory="keras_transfer.tasks.regression:Regression",
    options=RegressionOptions,
    metrics={"mae": "lower", "rmse": "lower", "r2": "higher"},
    main_metric="mae",
    honours=tuple(name for name in HONOURED if name not in (*FOR_SINGLE_CLASSES, *FOR_LABELS)),
    drop=0.05,
    sample="keras_transfer.testing.samples:with_numbers",
)
