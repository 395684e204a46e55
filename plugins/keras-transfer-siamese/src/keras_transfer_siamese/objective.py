"""What gradient training is given: a network that ends in what a loss compares, the loss, and the batches for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transfer.data import ImageTable
from keras_transfer.data.augmentation import Augmenter
from keras_transfer.data.order import Order
from keras_transfer.errors import UsageError
from keras_transfer.evaluation.contact_sheet import draw_contact_sheet
from keras_transfer.heads import LOGITS
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import GradientSettings
from keras_transfer.training.objective import Shuffled
from keras_transfer_siamese.classes import alphabets_of
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.losses import (
    FAR_OFF,
    ArcFace,
    BatchHardTriplet,
    Contrastive,
    PairCrossEntropy,
    Prototypical,
    SemiHardTriplet,
    SupervisedContrastive,
    pair_masks,
    weighted_l1_logits,
)
from keras_transfer_siamese.samplers import ClassBatches, PairBatches

NEAREST = "nearest_accuracy"
PROXIES = ("arcface", "softmax")
"""Losses that learn a direction of each training class besides: on other classes they say nothing."""
WATCHED_SEED = 1


class WeightedL1(keras.layers.Layer):
    """Embeddings times weights of at least 0, and a bias as the last column: ``(B, D)`` to ``(B, D + 1)``.

    The sum of absolute differences of two rows is then the weighted L1 distance of Koch et al. 2015.
    """

    def build(self, shape: Any) -> None:
        """The weights begin so that embeddings of the length 1 are about as far apart as the bias says."""
        start = keras.initializers.Constant(shape[-1] ** -0.5)
        least = keras.constraints.NonNeg()
        self.scales = self.add_weight(shape=(shape[-1],), initializer=start, constraint=least, name="scales")
        self.bias = self.add_weight(shape=(1,), initializer="ones", name="bias")

    def call(self, x: Any) -> Any:
        """See the class."""
        return ops.concatenate([x * self.scales, ops.zeros_like(x[:, :1]) + self.bias], axis=1)

    def comparison(self) -> Comparison:
        """The trained comparison."""
        return Comparison("weighted_l1", np.asarray(self.scales), float(np.asarray(self.bias)[0]))


class ClassDirections(keras.layers.Layer):
    """Cosines to a learned direction of each of ``count`` classes, then the embedding: ``(B, count + D)``."""

    def __init__(self, count: int, seed: int = 0, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.count, self.seed = count, seed

    def build(self, shape: Any) -> None:
        """Random directions."""
        start = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.directions = self.add_weight(shape=(shape[-1], self.count), initializer=start, name="directions")

    def call(self, x: Any) -> Any:
        """See the class."""
        directions = self.directions / ops.sqrt(ops.sum(self.directions**2, axis=0, keepdims=True) + 1e-12)
        return ops.concatenate([ops.matmul(x, directions), x], axis=1)


@dataclass(frozen=True)
class SiameseObjective(Shuffled):
    """The counterpart of the core's ``Objective`` for networks of :func:`training_network`.

    Attributes:
        name: of the loss.
        per_class: K of the batches.
        margin, scale: of the loss; None: its own.
        columns: int ``(C,)``, which training class a label is, -1 for the others.
    """

    name: str
    per_class: int
    margin: float | None = None
    scale: float | None = None
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    label_mode: str = "classes"

    @property
    def watched(self) -> tuple[str, ...]:
        """What an epoch can be chosen by."""
        return ("loss", NEAREST)

    @property
    def higher(self) -> tuple[str, ...]:
        """Those of which more is better."""
        return (NEAREST,)

    def targets(self, table: ImageTable, teacher: np.ndarray | None = None) -> np.ndarray:
        """The class of every image, int32 ``(N,)``. Raises ``UsageError`` for a teacher."""
        if teacher is not None:
            raise UsageError("--teacher is for classifiers; siamese learns from classes alone. Leave it out.")
        return table.labels.astype(np.int32)

    def loss(self) -> keras.losses.Loss:
        """The loss that was asked for."""
        margin: dict[str, Any] = {} if self.margin is None else {"margin": self.margin}
        scale: dict[str, Any] = {} if self.scale is None else {"scale": self.scale}
        if self.name == "contrastive":
            return Contrastive(**margin)
        if self.name == "bce":
            return PairCrossEntropy()
        if self.name == "triplet-hard":
            return BatchHardTriplet(**margin)
        if self.name == "triplet-semihard":
            return SemiHardTriplet(**margin)
        if self.name == "prototypical":
            return Prototypical(**scale)
        if self.name == "supcon":
            return SupervisedContrastive(**scale)
        return ArcFace(self.columns, **(margin if self.name == "arcface" else {"margin": 0.0}), **scale)

    def metrics(self) -> list[keras.metrics.Metric]:
        """The share of images whose nearest other image in the batch is of their class."""
        if self.name == "bce":
            alike = weighted_l1_logits
        else:
            skip = int(self.columns.max()) + 1 if self.name in PROXIES else 0
            alike = partial(_cosines, skip=skip)
        return [keras.metrics.MeanMetricWrapper(partial(_nearest, alike=alike), name=NEAREST)]

    def order(self, table: ImageTable, batch_size: int) -> Order:
        """Pairs for the losses of pairs, episodes for prototypes, else P classes x K images, of one alphabet."""
        if self.name in ("contrastive", "bce"):
            return PairBatches(table.labels, batch_size)
        singles = self.name != "prototypical"
        return ClassBatches(table.labels, self.per_class, batch_size, singles, alphabets_of(table))

    def arranged(self, table: ImageTable, rows: np.ndarray, batch_size: int) -> np.ndarray:
        """P classes x K images of what is watched; as they are where no class has two."""
        sizes = np.unique(table.labels[rows], return_counts=True)[1]
        if len(sizes) < 2 or not (sizes > 1).any():
            return rows
        return ClassBatches(table.labels, self.per_class, batch_size)(rows, WATCHED_SEED, 0)

    def augmenter(self, settings: GradientSettings, preprocessing: Preprocessing, seed: int) -> Augmenter:
        """What varies the training images. Raises ``UsageError`` for a policy that mixes them."""
        made = Augmenter(settings.augment, preprocessing.size, seed=seed, flips=settings.flips)
        if made.mixes:
            raise UsageError(
                f"--augment {settings.augment} mixes images, and a mixture has no class. Use standard."
            )
        return made

    def draw_augmentation(
        self, table: ImageTable, preprocessing: Preprocessing, augmenter: Augmenter, path: Path
    ) -> None:
        """A picture of training images and what the augmenter makes of them."""
        draw_contact_sheet(table, preprocessing, augmenter, path)


def training_network(embedding: keras.Model, objective: SiameseObjective, seed: int) -> keras.Model:
    """The embedding model with what the loss needs besides; its last layer is ``logits``.

    Shares the layers of ``embedding``, pixels (or features) to ``(B, D)``.
    """
    x = embedding.outputs[0]
    if objective.name == "bce":
        x = WeightedL1(name="head_weighted_l1")(x)
    elif objective.name in PROXIES:
        x = ClassDirections(int(objective.columns.max()) + 1, seed, name="head_directions")(x)
    x = keras.layers.Activation("linear", name=LOGITS)(x)
    return keras.Model(embedding.inputs, x, name=embedding.name)


def trained_comparison(network: keras.Model, kind: str) -> Comparison:
    """How the embeddings of a trained network are compared."""
    found = [layer for layer in network.layers if isinstance(layer, WeightedL1)]
    return found[0].comparison() if found else Comparison(kind)


def training_columns(table: ImageTable) -> np.ndarray:
    """int32 ``(C,)``: classes of the training split numbered from 0, -1 for the others."""
    columns = np.full(len(table.classes), -1, np.int32)
    found = np.unique(table.labels[table.indices("train")])
    columns[found] = np.arange(len(found))
    return columns


def _cosines(given: Any, skip: int) -> Any:
    embeddings = given[:, skip:]
    return ops.matmul(embeddings, ops.transpose(embeddings))


def _nearest(y_true: Any, y_pred: Any, alike: Any) -> Any:
    """``(B,)``, all the same: of the images that have another of their class in the batch, the share found."""
    labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
    same, different = pair_masks(labels)
    asking = ops.max(same, axis=1)
    nearest = ops.argmax(alike(y_pred) - FAR_OFF * (1 - same - different), axis=1)
    hits = ops.cast(ops.equal(ops.take(labels, nearest), labels), "float32") * asking
    share = ops.sum(hits) / ops.maximum(ops.sum(asking), 1.0)
    return share * ops.ones_like(asking)
