"""The linear probe: multinomial logistic regression on frozen features, folded into the model's Dense layer.

Features are standardised with the training images' mean and deviation, an L2-regularised logistic regression is
fitted for a range of strengths, the one with the lowest validation log loss wins, and the standardisation is folded
into its weights: ``softmax(((f - m) / s) W + b) = softmax(f (W / s) + (b - m / s W))``, so that nothing but a Dense
layer remains. Alain & Bengio 2016 (arXiv:1610.01644) named such probes; Kornblith et al. 2019 (arXiv:1805.08974)
measured how far they carry.

Once the strength is chosen, and nothing else is to be judged on the validation images, :func:`refit_probe` fits the
head again on them and the training images together.

Of more than :data:`MANY` training images the strength is chosen on a sample, and the head then learns from all of them,
read from the disk a part at a time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy.special import log_softmax

from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import LOGITS, features_input
from keras_transfer.training.choosing import choose_strength, folds_for_classes, stratified
from keras_transfer.training.hidden import has_hidden, train_hidden
from keras_transfer.training.logistic import Linear, LogisticPath, OneHot, working
from keras_transfer.training.row_blocks import FeatureRows, StandardisedBlocks
from keras_transfer.training.standardising import folded, standardisation, standardised

log = logging.getLogger("keras_transfer")
STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 3))
"""Inverse regularisation strengths C that are tried, 1e-5 to 10, two a decade."""
MANY = 32_768
"""Training images beyond which their features are not held in memory at once."""
_SAMPLE = 16_384
"""Of them, how many a strength is chosen on, and half as many validation images."""
_FEWEST = 20  # of a class, that are in the sample
ABSENT = 20.0
"""How far below the others the logit of a class without training images is put."""
Weights = tuple[np.ndarray, np.ndarray]
"""Kernel ``(D, C)`` and bias ``(C,)`` for plain features."""


@dataclass(frozen=True)
class ProbeResult:
    """What the probe tried and chose.

    Attributes:
        c: the inverse regularisation strength chosen (None for a head with hidden layers).
        trials: one dictionary a strength: ``C``, ``train_loss``, ``val_loss``, ``val_accuracy``.
        chosen_on: ``"validation"`` or ``"cross-validation"``.
    """

    c: float | None
    chosen_on: str
    trials: list[dict[str, Any]] = field(default_factory=list)


def fit_probe(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    train: np.ndarray,
    val: np.ndarray,
    sample_weight: np.ndarray | None = None,
    judged: np.ndarray | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Fit the head of a classifier on its backbone's features, and write it into the model.

    Args:
        model: made by ``heads.add_head``, or with a head of the user's own on features (``custom_head.replace_head``),
            which Keras trains; only its head changes.
        features: float ``(N, D)``, what the model's pooling layer gives.
        labels: int ``(N,)`` class indices.
        train: indices of the images that are learned from.
        val: indices of the images the regularisation is chosen on; when fewer than ``choosing.ENOUGH`` of learned
            classes, or all of one class, cross-validation on ``train`` is used.
        sample_weight: float ``(N,)``, default 1; for learning.
        judged: float ``(N,)``, default 1; what an image counts where the regularisation is chosen.
        seed: for the folds and the initial weights of hidden layers.

    Raises:
        DataError: fewer than two classes among the training images, or nothing to choose by.
        UsageError: the head begins at a map instead of features.
    """
    begins = features_input(model).shape
    if len(begins) != 2:
        raise UsageError(
            f"The head of {model.name!r} begins at a map {tuple(begins)}; a probe learns from features (B, D). Put the "
            "head on pooled features, or train it with fine_tune."
        )
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    train = train[weight[train] > 0]
    found = np.unique(labels[train])
    if len(found) < 2:
        raise DataError(
            f"The training images hold {len(found)} class; at least 2 are needed to train a classifier."
        )
    if has_hidden(model):
        loss, names = keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
        counted = {"train": train, "val": val, "weight": weight}
        _, trials = train_hidden(model, features, labels, **counted, loss=loss, metrics=names, seed=seed)
        return ProbeResult(None, "validation" if len(val) else "training loss", trials)
    if len(train) > MANY:
        return _fit_many(model, features, labels, train, val, weight, judged, seed)
    x = working(standardised(features, train, weight), len(train), len(found))
    counts = np.ones(len(labels)) if judged is None else np.asarray(judged, np.float64)
    known = val[np.isin(labels[val], found) & (counts[val] > 0)]
    cuts, chosen_on = folds_for_classes(train, known, labels, seed)
    folds = [_Fold(x, labels, weight, counts, *cut) for cut in cuts]
    c, trials = choose_strength("C", STRENGTHS, folds)
    path = folds[0].path if chosen_on == "validation" else _path(x[train], labels[train], weight[train])
    head = path.deliver(c, STRENGTHS)
    mean, deviation = standardisation(np.asarray(features[train], np.float64), weight[train])
    _write(model.get_layer(LOGITS), _plain(head, found, mean, deviation, model.get_layer(LOGITS).units))
    return ProbeResult(c, chosen_on, trials)


def _fit_many(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    weight: np.ndarray,
    judged: np.ndarray | None,
    seed: int,
) -> ProbeResult:
    """Choose on a sample, which is in memory; then fit on all, from the sample's solution on."""
    some = [_sample(train, labels, _SAMPLE, seed), _sample(val, labels, _SAMPLE // 2, seed)]
    rows, cut = np.concatenate(some), len(some[0])
    result = fit_probe(
        model,
        np.asarray(features[rows]),
        labels[rows],
        train=np.arange(cut),
        val=np.arange(cut, len(rows)),
        sample_weight=weight[rows],
        judged=None if judged is None else judged[rows],
        seed=seed,
    )
    if result.c is not None:
        log.info("%d of %d training images chose the strength; all are learned from.", cut, len(train))
        refit_probe(model, features, labels, rows=train, c=result.c, sample_weight=weight)
    return result


def _sample(rows: np.ndarray, labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """So many rows, ascending, and where that is none or few of a class, a few more of it."""
    if len(rows) <= most:
        return rows
    mixed = np.random.default_rng(seed).permutation(rows)
    order = np.argsort(labels[mixed], kind="stable")
    _, starts, counts = np.unique(labels[mixed][order], return_index=True, return_counts=True)
    place = np.empty(len(rows), np.int64)  # of a row among those of its class
    place[order] = np.arange(len(rows)) - np.repeat(starts, counts)
    return np.sort(mixed[(np.arange(len(rows)) < most) | (place < _FEWEST)])


def refit_probe(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    rows: np.ndarray,
    c: float,
    sample_weight: np.ndarray | None = None,
) -> None:
    """Fit the head once more, at a strength that was chosen before, and write it into the model.

    What was measured on images among ``rows`` before does not hold for this head.

    Args:
        model, features, labels, sample_weight: as in :func:`fit_probe`; a head without hidden layers.
        rows: indices of the images that are learned from, training and validation images; those of weight 0 are left
            out.
        c: the inverse regularisation strength, ``ProbeResult.c``.
    """
    dense = model.get_layer(LOGITS)
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    kernel, bias = dense.get_weights()
    _write(dense, _fitted(_Rows(features, labels, weight), rows, c, (kernel, bias)))


def out_of_fold_logits(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    rows: np.ndarray,
    c: float,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    near: Weights | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What heads of this strength say of images that they did not learn from, each fitted on the other folds.

    Args:
        features, labels, rows, c, sample_weight: as in :func:`refit_probe`.
        num_classes: of the head, ``C``.
        seed: of the folds.
        near: kernel ``(D, C)`` and bias ``(C,)`` of the head on all rows, where the fits may begin. It saves time.

    Returns:
        The rows that were judged, int ``(n,)``, and their logits, float64 ``(n, C)``. Images that are alone in their
        class are learned from in each fold; without two classes of two images none is judged.
    """
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    folds = stratified(rows[weight[rows] > 0], labels, seed) or []
    if near is None:
        near = (np.zeros((features.shape[1], num_classes)), np.zeros(num_classes))
    table = _Rows(features, labels, weight)
    found = [np.empty((0, num_classes))]
    for learned, judged in folds:
        kernel, bias = _fitted(table, learned, c, near)
        found.append(np.asarray(features[judged], np.float64) @ kernel + bias)
    return np.concatenate([rows[:0], *(judged for _, judged in folds)]), np.concatenate(found)


class _Rows(NamedTuple):
    """Features ``(N, D)``, class indices ``(N,)``, and what each row counts ``(N,)``."""

    features: np.ndarray
    labels: np.ndarray
    weight: np.ndarray


def _fitted(
    table: _Rows,
    rows: np.ndarray,
    c: float,
    near: Weights,
) -> Weights:
    """Kernel and bias of a regression on some rows at a strength; those of weight 0 are left out."""
    rows = rows[table.weight[rows] > 0]
    labels, weight = table.labels[rows], table.weight[rows]
    found = np.unique(labels)
    if len(rows) > MANY:
        blocks = StandardisedBlocks(table.features, rows, weight)
        mean, deviation = blocks.mean, blocks.deviation
        path = _path(blocks, labels, weight)
    else:
        x = np.asarray(table.features[rows], np.float64)
        mean, deviation = standardisation(x, weight)
        path = _path(working((x - mean) / deviation, len(x), len(found)), labels, weight)
    kernel, bias = near[0][:, found], near[1][found]
    start = Linear(kernel * deviation[:, np.newaxis], bias + mean @ kernel)
    if len(found) == 2:
        start = Linear(*(one[..., 1:] - one[..., :1] for one in start))
    head = path.near(c, start)
    if head is None:
        head = path.deliver(c, [strength for strength in STRENGTHS if strength < c] + [c])
    return _plain(head, found, mean, deviation, len(near[1]))


def _path(x: np.ndarray | FeatureRows, labels: np.ndarray, weight: np.ndarray) -> LogisticPath:
    """Of two classes there is one score, for the second; of more there is one for each."""
    found, positions = np.unique(labels, return_inverse=True)
    if len(found) == 2:
        targets = OneHot(positions - 1, 1, x.dtype)
    else:
        targets = OneHot(positions, len(found), x.dtype)
    return LogisticPath(x, targets, weight, softmax=len(found) > 2)


class _Fold:
    """Fits on one fold, at one strength after the other."""

    def __init__(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        weight: np.ndarray,
        counts: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
    ) -> None:
        found = np.unique(labels[train])
        self.path = _path(x[train], labels[train], weight[train])
        self._x = (x[train], x[val])
        self._right = tuple(np.searchsorted(found, labels[rows]) for rows in (train, val))
        self._counts = counts[val] if counts[val].any() else np.ones(len(val))

    def __call__(self, c: float) -> dict[str, float]:
        head = self.path.fit(c)
        scores = [x @ head.w.astype(x.dtype) + head.b for x in self._x]
        chances = [log_softmax(_both_sides(one) if one.shape[1] == 1 else one, axis=1) for one in scores]
        losses = [-one[np.arange(len(one)), right] for one, right in zip(chances, self._right, strict=True)]
        return {
            "train_loss": float(losses[0].mean()),
            "val_loss": float(np.average(losses[1], weights=self._counts)),
            "val_accuracy": float(np.mean(chances[1].argmax(axis=1) == self._right[1])),
        }


def _both_sides(score: np.ndarray) -> np.ndarray:
    """Two classes are one score z: ``softmax([-z/2, z/2])`` equals the sigmoid of z."""
    return np.concatenate([-score / 2, score / 2], axis=-1)


def _write(dense: keras.layers.Dense, weights: Weights) -> None:
    dense.set_weights([one.astype("float32") for one in weights])


def _plain(
    head: Linear, found: np.ndarray, mean: np.ndarray, deviation: np.ndarray, num_classes: int
) -> Weights:
    """Kernel ``(D, C)`` and bias ``(C,)`` for plain features, with columns for classes that were not learned."""
    w, b = head if len(found) > 2 else (_both_sides(head.w), _both_sides(head.b))
    w, b = folded(w, b, mean, deviation)
    kernel = np.zeros((w.shape[0], num_classes))
    bias = np.full(num_classes, b.min() - ABSENT)
    kernel[:, found], bias[found] = w, b
    return kernel, bias
