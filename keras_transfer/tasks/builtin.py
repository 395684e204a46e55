"""The tasks that come with the core. They enter through the same door as a plugin's."""

from __future__ import annotations

from dataclasses import dataclass

from keras_transfer.options import option
from keras_transfer.tasks.base import TaskSpec


@dataclass(frozen=True)
class ClassificationOptions:
    """The head of a classifier."""

    hidden: tuple[int, ...] = option((), "Width of a hidden Dense layer in the head (repeatable).", minimum=1)
    dropout: float = option(0.2, "Share of the features dropped in training.", minimum=0.0, below=1.0)


CLASSIFICATION = TaskSpec(
    name="classification",
    summary="One label an image.",
    factory="keras_transfer.tasks.classification:Classification",
    options=ClassificationOptions,
    metrics={
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "macro_f1": "higher",
        "log_loss": "lower",
    },
    main_metric="accuracy",
)
