"""What a gradient training minimises and watches: loss, targets and metrics for each kind of label, on logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.augmentation import Augmenter, mixes_images
from keras_transfer.data.order import Order
from keras_transfer.errors import UsageError
from keras_transfer.evaluation.contact_sheet import draw_contact_sheet
from keras_transfer.heads import LOGITS
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import GradientSettings

METRICS = {
    "classes": ("loss", "accuracy"),
    "multilabel": ("loss", "average_precision"),
    "regression": ("loss", "mean_absolute_error"),
}
HIGHER = ("accuracy", "average_precision")
"""Metrics of which more is better."""


class Varying(Protocol):
    """What varies training images. How it is called is between an objective's targets and the feed."""

    def to_dict(self) -> dict[str, Any]:
        """What it does, JSON-able: a run notes it."""


class TrainingObjective(Protocol):
    """What a gradient training asks of its objective. A task may bring one of its own (:func:`fine_tune`).

    Attributes:
        label_mode: what the labels are, for messages.
    """

    @property
    def label_mode(self) -> str: ...

    @property
    def watched(self) -> tuple[str, ...]:
        """The metrics an epoch can be chosen by, without ``val_``."""

    @property
    def higher(self) -> tuple[str, ...]:
        """Those of which more is better."""

    def targets(self, table: ImageTable, teacher: np.ndarray | None = None) -> Any:
        """What the loss compares with, a row per image."""

    def loss(self) -> keras.losses.Loss:
        """On the outputs of the network that is trained."""

    def metrics(self) -> list[keras.metrics.Metric]:
        """What is shown beside the loss."""

    def order(self, table: ImageTable, batch_size: int) -> Order | None:
        """See :class:`Shuffled`."""

    def arranged(self, table: ImageTable, rows: np.ndarray, batch_size: int) -> np.ndarray:
        """See :class:`Shuffled`."""

    def augmenter(self, settings: GradientSettings, preprocessing: Preprocessing, seed: int) -> Varying:
        """What varies the training images, and their targets where they have a place in the image.

        Raises ``UsageError`` for a policy that the targets cannot follow.
        """

    def draw_augmentation(
        self, table: ImageTable, preprocessing: Preprocessing, augmenter: Any, path: Path
    ) -> None:
        """A picture of training images and what the augmenter makes of them."""

    def in_training_units(self, model: keras.Model) -> contextlib.AbstractContextManager[None]:
        """See :class:`Shuffled`."""


class Shuffled:
    """Where a loss looks at one image at a time, batches may hold any images. Losses that compare them say which."""

    def in_training_units(self, model: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Within this context the model gives what the loss is computed on; here: what it gives anyway."""
        return contextlib.nullcontext()

    def order(self, table: ImageTable, batch_size: int) -> Order | None:
        """What gives the training rows of an epoch, in ``ceil(n / batch_size)`` full batches; None: a permutation."""
        return None

    def arranged(self, table: ImageTable, rows: np.ndarray, batch_size: int) -> np.ndarray:
        """The watched rows in the order in which batches of them are measured, every time the same."""
        return rows


@dataclass(frozen=True)
class Objective(Shuffled):
    """Loss, targets and metrics of a network that ends in logits ``(B, C)`` (in values ``(B, T)`` for regression).

    Attributes:
        label_mode: ``classes``, ``multilabel`` or ``regression``, as in :class:`ImageTable`.
        label_smoothing: share of the target spread over all classes, in [0, 1) (Szegedy et al. 2016,
            arXiv:1512.00567). Only for ``classes`` and ``multilabel``.
        focal: the focal loss's gamma, above 0; None for cross-entropy (Lin et al. 2017, arXiv:1708.02002).
        temperature: of a distillation (Hinton et al. 2015, arXiv:1503.02531), above 0; None without a teacher.
        mix: weight of the teacher's part, in [0, 1]; the rest is the ordinary loss.
        centre, scale: for ``regression``, the mean and the deviation of each target in training. The network is
            trained on ``(y - centre) / scale`` (see :meth:`in_training_units`), and metrics are in those units.
    """

    label_mode: str = "classes"
    label_smoothing: float = 0.0
    focal: float | None = None
    temperature: float | None = None
    mix: float = 0.5
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.label_mode not in METRICS:
            raise UsageError(
                f"label_mode={self.label_mode!r} was given; one of {', '.join(METRICS)} is expected."
            )
        for option, given in (("--label-smoothing", self.label_smoothing), ("--focal", self.focal)):
            if given and self.label_mode == "regression":
                raise UsageError(
                    f"{option} {given:g} was given; it is for classes, not for numbers. Leave it out."
                )
        if self.temperature is not None and self.label_mode != "classes":
            raise UsageError(
                f"A teacher was given; distillation is for single classes, not for {self.label_mode} labels. Leave "
                "--teacher out."
            )

    @property
    def watched(self) -> tuple[str, ...]:
        """The metrics an epoch can be chosen by, without ``val_``."""
        return METRICS[self.label_mode]

    @property
    def higher(self) -> tuple[str, ...]:
        """Those of which more is better."""
        return HIGHER

    def augmenter(self, settings: GradientSettings, preprocessing: Preprocessing, seed: int) -> Augmenter:
        """What varies the training images.

        Raises ``UsageError`` for a policy that these labels cannot follow.
        """
        self.refuse_mixing(settings)
        return Augmenter(settings.augment, preprocessing.size, seed=seed, flips=settings.flips)

    def refuse_mixing(self, settings: GradientSettings) -> None:
        """Raise ``UsageError`` where the augmentation mixes images and the labels cannot be mixed."""
        if mixes_images(settings.augment) and self.label_mode == "regression":
            raise UsageError(
                f"--augment {settings.augment} mixes images, and numbers cannot be mixed. Use --augment standard."
            )

    def draw_augmentation(
        self, table: ImageTable, preprocessing: Preprocessing, augmenter: Augmenter, path: Path
    ) -> None:
        """A picture of training images and what the augmenter makes of them."""
        draw_contact_sheet(table, preprocessing, augmenter, path)

    def in_training_units(self, model: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Within this context the last Dense gives ``(y - centre) / scale`` instead of ``y``, where there is a scale.

        An optimizer's steps have a size of their own: on a head that gives metres they would be a thousand times as
        large as on one that gives millimetres.
        """
        if not self.scale:
            return contextlib.nullcontext()
        return _in_standard_units(model, self.centre, self.scale)

    def targets(self, table: ImageTable, teacher: np.ndarray | None = None) -> np.ndarray:
        """What the loss compares with.

        Args:
            table: its labels.
            teacher: float ``(N, C)`` probabilities of the teacher, for a distillation.

        Returns:
            float32 ``(N, C)``: one-hot classes, 0/1 labels, or standardised numbers; with a teacher ``(N, 2 C)``, the
            second half the teacher's probabilities softened by the temperature.
        """
        if self.label_mode == "regression" and self.scale:
            return ((table.labels - np.array(self.centre)) / np.array(self.scale)).astype(np.float32)
        if self.label_mode != "classes":
            return table.labels.astype(np.float32)
        hard = (table.labels[:, np.newaxis] == np.arange(len(table.classes))).astype(np.float32)
        if self.temperature is None:
            return hard
        if teacher is None or teacher.shape != hard.shape:
            raise UsageError(
                f"The teacher's probabilities have shape {None if teacher is None else teacher.shape}; "
                f"{hard.shape} is expected, one row per image."
            )
        scores = np.log(np.maximum(teacher.astype(np.float64), 1e-12)) / self.temperature
        soft = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.concatenate([hard, soft / soft.sum(axis=1, keepdims=True)], axis=1, dtype=np.float32)

    def loss(self) -> keras.losses.Loss:
        """The loss on logits."""
        if self.label_mode == "regression":
            return keras.losses.MeanSquaredError()
        smoothing = {"from_logits": True, "label_smoothing": self.label_smoothing}
        if self.label_mode == "multilabel":
            if self.focal:
                return keras.losses.BinaryFocalCrossentropy(gamma=self.focal, **smoothing)
            return keras.losses.BinaryCrossentropy(**smoothing)
        if self.focal:
            plain = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=self.focal, **smoothing)
        else:
            plain = keras.losses.CategoricalCrossentropy(**smoothing)
        return plain if self.temperature is None else Distillation(plain, self.temperature, self.mix)

    def metrics(self) -> list[keras.metrics.Metric]:
        """What is shown beside the loss."""
        if self.label_mode == "classes":
            return [keras.metrics.MeanMetricWrapper(_hits, name="accuracy")]
        if self.label_mode == "multilabel":
            curve = keras.metrics.AUC(
                curve="PR", multi_label=True, from_logits=True, name="average_precision"
            )
            return [curve]
        return [keras.metrics.MeanAbsoluteError()]


class Distillation(keras.losses.Loss):
    """``(1 - mix) * plain(hard, z) + mix * T^2 * crossentropy(soft, z / T)`` on targets ``[hard, soft]``."""

    def __init__(self, plain: keras.losses.Loss, temperature: float, mix: float) -> None:
        super().__init__(name="distillation")
        self.plain, self.temperature, self.mix = plain, temperature, mix

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Per-image losses ``(B,)``; ``y_true`` is ``(B, 2 C)``."""
        hard, soft = keras.ops.split(y_true, 2, axis=-1)
        teacher = keras.losses.categorical_crossentropy(soft, y_pred / self.temperature, from_logits=True)
        return (1 - self.mix) * self.plain.call(hard, y_pred) + self.mix * self.temperature**2 * teacher


@contextlib.contextmanager
def _in_standard_units(
    model: keras.Model, centre_of: tuple[float, ...], scale_of: tuple[float, ...]
) -> Iterator[None]:
    dense, centre, scale = model.get_layer(LOGITS), np.array(centre_of), np.array(scale_of)
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel / scale, (bias - centre) / scale])
    try:
        yield
    finally:
        kernel, bias = dense.get_weights()
        dense.set_weights([kernel * scale, bias * scale + centre])


def _hits(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
    """1 where the highest logit is the labelled class; of mixed labels the larger part. ``(B,)``."""
    hard = y_true[:, : y_pred.shape[-1]]
    equal = keras.ops.equal(keras.ops.argmax(hard, axis=-1), keras.ops.argmax(y_pred, axis=-1))
    return keras.ops.cast(equal, "float32")
