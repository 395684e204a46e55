"""What a segmentation network is trained on: loss, targets, metrics and augmentation, for the core's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import GradientSettings
from keras_transfer.training.objective import Shuffled
from keras_transfer_segmentation.augment import Augmentation
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.losses import WeightedSum
from keras_transfer_segmentation.pictures import overlay, save_picture

SHOWN, VIEWS = 4, 4
"""Images in the picture of the augmentation, and views of each."""
POLICIES: dict[str, dict[str, Any]] = {
    "light": {"scale": (1.0, 1.25), "rotation": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
    "standard": {},
    "strong": {
        "scale": (0.6, 2.0),
        "rotation": 25.0,
        "brightness": 0.25,
        "contrast": 0.4,
        "saturation": 0.4,
    },
    "alexnet": {
        "scale": (256 / 227, 256 / 227),
        "rotation": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
    },
}
"""``--augment``: strengths of :class:`Augmentation`; ``standard`` are its defaults."""


@dataclass(frozen=True)
class SegmentationObjective(Shuffled):
    """The counterpart of the core's ``Objective`` for networks that end in logits ``(B, H, W, C)``.

    Attributes:
        spec: the loss, see :class:`WeightedSum`.
        classes: what the masks hold.
        class_weights: of the loss, one per class; None: all alike.
    """

    spec: str
    classes: Classes
    class_weights: tuple[float, ...] | None = None
    label_mode: str = "targets"

    @property
    def watched(self) -> tuple[str, ...]:
        """What an epoch can be chosen by."""
        return ("loss", "pixel_accuracy")

    @property
    def higher(self) -> tuple[str, ...]:
        """Those of which more is better."""
        return ("pixel_accuracy",)

    def targets(self, table: ImageTable, teacher: np.ndarray | None = None) -> Any:
        """The table's masks. Raises ``UsageError`` for a teacher: distillation is for classifiers."""
        if teacher is not None:
            raise UsageError("--teacher is for classifiers; segmentation learns from masks alone.")
        return table.labels

    def loss(self) -> keras.losses.Loss:
        """On logits."""
        return WeightedSum(
            self.spec,
            from_logits=True,
            ignore_index=self.classes.ignore_index,
            class_weights=self.class_weights,
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """The share of right pixels, the mean over images."""
        return [keras.metrics.MeanMetricWrapper(self._right, name="pixel_accuracy")]

    def augmenter(self, settings: GradientSettings, preprocessing: Preprocessing, seed: int) -> Augmentation:
        """What varies image and mask together."""
        strengths = POLICIES[settings.augment]
        return Augmentation(
            flips=settings.flips, seed=seed, ignore_index=self.classes.ignore_index, **strengths
        )

    def draw_augmentation(
        self, table: ImageTable, preprocessing: Preprocessing, augmenter: Augmentation, path: Path
    ) -> None:
        """Training images with their masks, and beside them as training sees both."""
        rows = table.indices("train")[:SHOWN]
        images = np.stack([table.images.load(int(i), preprocessing) for i in rows])
        masks = np.stack([table.labels.load(int(i), preprocessing) for i in rows])
        columns = [(images, masks)]
        for view in range(VIEWS):
            varied, moved = augmenter(images, masks, (view, view))
            columns.append((np.rint(varied).astype(np.uint8), moved))
        sheet = [
            np.hstack([overlay(pixels[row], mask[row], self.classes) for pixels, mask in columns])
            for row in range(len(rows))
        ]
        save_picture(path, np.vstack(sheet))

    def _right(self, y_true: Any, y_pred: Any) -> Any:
        counted = keras.ops.cast(keras.ops.not_equal(y_true, self.classes.ignore_index), "float32")
        equal = keras.ops.equal(keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32"), y_true)
        hits = keras.ops.sum(keras.ops.cast(equal, "float32") * counted, axis=(1, 2))
        return hits / keras.ops.maximum(keras.ops.sum(counted, axis=(1, 2)), 1.0)
