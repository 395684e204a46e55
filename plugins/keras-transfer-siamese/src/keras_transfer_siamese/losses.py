"""Losses that compare the images of a batch, in Keras operations.

Each takes labels ``(B,)`` and what the training network gives ``(B, ...)``, and is one number for the batch, given
once an image so that Keras's mean is that number. A batch without anything to compare (no two images of a class, say)
costs nothing and has no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

FAR_OFF = 1e9
TINY = 1e-12


class BatchLoss(keras.losses.Loss):
    """One number for a batch; subclasses have ``value``."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """float32 ``(B,)``, all equal."""
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        return self.value(labels, y_pred) * ops.ones_like(y_pred[:, 0])

    def value(self, labels: Any, given: Any) -> Any:
        """The loss of the batch."""
        raise NotImplementedError


class Contrastive(BatchLoss):
    """Same pairs are drawn together, different ones pushed ``margin`` apart (Hadsell, Chopra & LeCun 2006, eq. 4).

    ``d^2`` for same pairs, ``max(0, margin - d)^2`` for different ones, d the Euclidean distance of embeddings
    ``(B, D)``; the mean over same pairs and the mean over different ones, halved.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__(name="contrastive")
        self.margin = margin

    def value(self, labels: Any, given: Any) -> Any:
        """Over all pairs of the batch."""
        same, different = pair_masks(labels)
        squares = squared_distances(given, given)
        apart = ops.maximum(self.margin - ops.sqrt(squares + TINY), 0.0)
        return (_mean(squares, same) + _mean(apart**2, different)) / 2


class PairCrossEntropy(BatchLoss):
    """Binary cross-entropy of the weighted L1 comparison (Koch et al. 2015, section 3.2).

    ``given`` is what the layer ``WeightedL1`` gives: weighted embeddings, and the bias in the last column. The mean
    over same pairs and the mean over different ones, halved.
    """

    def __init__(self) -> None:
        super().__init__(name="pair_cross_entropy")

    def value(self, labels: Any, given: Any) -> Any:
        """Over all pairs of the batch."""
        same, different = pair_masks(labels)
        logits = weighted_l1_logits(given)
        return (_mean(ops.softplus(-logits), same) + _mean(ops.softplus(logits), different)) / 2


class BatchHardTriplet(BatchLoss):
    """The farthest image of the anchor's class against the nearest of another.

    Hermans et al. 2017 (arXiv:1703.07737, eq. 5): ``max(0, margin + d_p - d_n)``, or with ``margin`` None the softplus
    of ``d_p - d_n``; the mean over anchors that have both.
    """

    def __init__(self, margin: float | None = 0.2) -> None:
        super().__init__(name="batch_hard_triplet")
        self.margin = margin

    def value(self, labels: Any, given: Any) -> Any:
        """Over all anchors of the batch."""
        same, different = pair_masks(labels)
        distances = ops.sqrt(squared_distances(given, given) + TINY)
        farthest = ops.max(distances * same, axis=1)
        nearest = ops.min(distances + FAR_OFF * (1 - different), axis=1)
        usable = ops.max(same, axis=1) * ops.max(different, axis=1)
        gap = (farthest - nearest) * usable
        cost = ops.softplus(gap) if self.margin is None else ops.maximum(self.margin + gap, 0.0)
        return _mean(cost, usable)


class SemiHardTriplet(BatchLoss):
    """For every same pair the nearest negative that is farther than the positive, or else the farthest one.

    Schroff, Kalenichenko & Philbin 2015 (FaceNet, arXiv:1503.03832, section 3.2), on squared distances:
    ``max(0, margin + d_ap^2 - d_an^2)``, the mean over same pairs that have a negative.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__(name="semi_hard_triplet")
        self.margin = margin

    def value(self, labels: Any, given: Any) -> Any:
        """Over all same pairs of the batch."""
        same, different = pair_masks(labels)
        squares = squared_distances(given, given)
        positive, negative = squares[:, :, None], squares[:, None, :]
        beyond = ops.cast(negative > positive, "float32") * different[:, None, :]
        nearest = ops.min(negative + FAR_OFF * (1 - beyond), axis=2)
        farthest = ops.max(squares * different, axis=1)[:, None]
        some = ops.max(beyond, axis=2)
        chosen = ops.where(some > 0, nearest, farthest * ops.ones_like(nearest))
        usable = same * ops.max(different, axis=1)[:, None]
        return _mean(ops.maximum(self.margin + squares - chosen, 0.0) * usable, usable)


class Prototypical(BatchLoss):
    """An episode: every query is to be nearest to the mean of its class's support.

    Snell et al. 2017 (arXiv:1703.05175, eq. 2). The first ``shots`` images of a class in the batch are its support,
    the others queries. Cross-entropy of ``-scale * d^2`` to the prototypes, the mean over queries.
    """

    def __init__(self, scale: float = 10.0, shots: int = 1) -> None:
        super().__init__(name="prototypical")
        self.scale, self.shots = scale, shots

    def value(self, labels: Any, given: Any) -> Any:
        """Over all queries of the batch."""
        equal = ops.cast(ops.equal(labels[:, None], labels[None]), "float32")
        before = ops.sum(ops.tril(equal, k=-1), axis=1)
        support = ops.cast(before < self.shots, "float32")
        members = equal * support[None]
        prototypes = ops.matmul(members / ops.maximum(ops.sum(members, axis=1, keepdims=True), 1.0), given)
        first = ops.cast(before < 1, "float32")
        logits = -self.scale * squared_distances(given, prototypes) - FAR_OFF * (1 - first[None])
        right = ops.sum(ops.log_softmax(logits, axis=1) * equal * first[None], axis=1)
        return _mean(-right, 1 - support)


class SupervisedContrastive(BatchLoss):
    """Images of the anchor's class against all others of the batch (Khosla et al. 2020, arXiv:2004.11362, eq. 2).

    ``scale`` is one over the paper's temperature; embeddings have the length 1. The mean over anchors that have
    another image of their class.
    """

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__(name="supervised_contrastive")
        self.scale = scale

    def value(self, labels: Any, given: Any) -> Any:
        """Over all anchors of the batch."""
        same, different = pair_masks(labels)
        logits = self.scale * ops.matmul(given, ops.transpose(given))
        logits = logits - FAR_OFF * (1 - same - different)  # not with itself
        shares = ops.log_softmax(logits, axis=1)
        positives = ops.sum(same, axis=1)
        right = ops.sum(shares * same, axis=1) / ops.maximum(positives, 1.0)
        return _mean(-right, ops.cast(positives > 0, "float32"))


class ArcFace(BatchLoss):
    """Softmax over cosines to a direction of each class, with an angular margin.

    Deng et al. 2019 (arXiv:1801.07698, eq. 3); ``margin`` 0 is the normalised softmax (Wang et al. 2017, NormFace,
    arXiv:1704.06369).

    Args:
        columns: int ``(C,)``: for every label of the table the column of its class's cosine, -1 where it has none (a
            class that is not trained on): such images cost nothing.
        margin: radians added to the angle to the right class.
        scale: of the cosines.
    """

    def __init__(self, columns: np.ndarray, margin: float = 0.3, scale: float = 16.0) -> None:
        super().__init__(name="arcface")
        self.columns = np.asarray(columns, np.int32)
        self.count = int(self.columns.max()) + 1
        self.margin, self.scale = margin, scale

    def value(self, labels: Any, given: Any) -> Any:
        """Over the images of trained classes; ``given`` begins with the cosines ``(B, count)``."""
        column = ops.take(ops.convert_to_tensor(self.columns), labels)
        right = ops.one_hot(column, self.count)
        cosines = ops.clip(given[:, : self.count], -1 + 1e-6, 1 - 1e-6)
        sines = ops.sqrt(1 - cosines**2)
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        # Beyond 180 degrees the cosine would rise again: there the margin is taken off the cosine itself.
        beyond = cosines <= -math.cos(self.margin)
        turned = ops.where(beyond, cosines - self.margin * math.sin(self.margin), turned)
        logits = self.scale * ops.where(right > 0, turned, cosines)
        found = ops.sum(ops.log_softmax(logits, axis=1) * right, axis=1)
        return _mean(-found, ops.sum(right, axis=1))


def squared_distances(a: Any, b: Any) -> Any:
    """Squared Euclidean distances of every two rows: ``(n, D)`` and ``(m, D)`` to ``(n, m)``, at least 0."""
    squares = ops.sum(a**2, axis=1)[:, None] + ops.sum(b**2, axis=1)[None]
    return ops.maximum(squares - 2 * ops.matmul(a, ops.transpose(b)), 0.0)


def weighted_l1_logits(given: Any) -> Any:
    """``bias - sum |z_i - z_j|`` of every two images, ``(B, B)``; the last column of ``given`` is the bias."""
    z, bias = given[:, :-1], given[:, -1:]
    return bias - ops.sum(ops.abs(z[:, None] - z[None]), axis=-1)


def pair_masks(labels: Any) -> tuple[Any, Any]:
    """float32 ``(B, B)`` of 0 and 1: two images of one class (never an image with itself), of two classes."""
    equal = ops.cast(ops.equal(labels[:, None], labels[None]), "float32")
    place = ops.cumsum(ops.ones_like(labels))
    itself = ops.cast(ops.equal(place[:, None], place[None]), "float32")
    return equal * (1 - itself), 1 - equal


def _mean(values: Any, chosen: Any) -> Any:
    """The mean of the values that are chosen (1, not 0); 0 when none is."""
    return ops.sum(values * chosen) / ops.maximum(ops.sum(chosen), 1.0)
