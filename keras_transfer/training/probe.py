"""The linear probe: multinomial logistic regression on frozen features, folded into the model's Dense layer.

Features are standardised with the training images' mean and deviation, an L2-regularised logistic regression is
fitted for a range of strengths, the one with the lowest validation log loss wins, and the standardisation is folded
into its weights: ``softmax(((f - m) / s) W + b) = softmax(f (W / s) + (b - m / s W))``, so that nothing but a Dense
layer remains. Alain & Bengio 2016 (arXiv:1610.01644) named such probes; Kornblith et al. 2019 (arXiv:1805.08974)
measured how far they carry.

Once the strength is chosen, and nothing else is to be judged on the validation images, :func:`refit_probe` fits the
head again on them and the training images together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import LOGITS, features_input
from keras_transfer.training.choosing import FitFold, choose_strength, folds_for_classes, stratified
from keras_transfer.training.hidden import has_hidden, train_hidden
from keras_transfer.training.standardising import folded, standardisation, standardised

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 3))
"""Inverse regularisation strengths C that are tried, 1e-5 to 10, two a decade."""
ABSENT = 20.0
"""How far below the others the logit of a class without training images is put."""


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
    x = standardised(features, train, weight)
    counts = np.ones(len(labels)) if judged is None else np.asarray(judged, np.float64)
    known = val[np.isin(labels[val], found) & (counts[val] > 0)]
    folds, chosen_on = folds_for_classes(train, known, labels, seed)
    c, trials = choose_strength(
        "C", STRENGTHS, [_on_fold(x, labels, weight, counts, *fold) for fold in folds]
    )
    refit_probe(model, features, labels, rows=train, c=c, sample_weight=weight)
    return ProbeResult(c, chosen_on, trials)


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
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    _fold(model.get_layer(LOGITS), *_fitted(features, labels, rows, c, weight))


def out_of_fold_logits(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    rows: np.ndarray,
    c: float,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """What heads of this strength say of images that they did not learn from, each fitted on the other folds.

    Args:
        features, labels, rows, c, sample_weight: as in :func:`refit_probe`.
        num_classes: of the head, ``C``.
        seed: of the folds.

    Returns:
        The rows that were judged, int ``(n,)``, and their logits, float64 ``(n, C)``. Images that are alone in their
        class are learned from in each fold; without two classes of two images none is judged.
    """
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    folds = stratified(rows[weight[rows] > 0], labels, seed) or []
    found = [np.empty((0, num_classes))]
    for learned, judged in folds:
        kernel, bias = _plain(*_fitted(features, labels, learned, c, weight), num_classes)
        found.append(np.asarray(features[judged], np.float64) @ kernel + bias)
    return np.concatenate([rows[:0], *(judged for _, judged in folds)]), np.concatenate(found)


def _fitted(
    features: np.ndarray, labels: np.ndarray, rows: np.ndarray, c: float, weight: np.ndarray
) -> tuple[LogisticRegression, np.ndarray, np.ndarray]:
    """A regression on standardised features, and the standardisation; rows of weight 0 are left out."""
    rows = rows[weight[rows] > 0]
    x = np.asarray(features[rows], np.float64)
    mean, deviation = standardisation(x, weight[rows])
    return regression(c).fit((x - mean) / deviation, labels[rows], weight[rows]), mean, deviation


def regression(c: float = 1.0, *, warm_start: bool = False) -> LogisticRegression:
    """The regression of every probe for classes and labels, at an inverse regularisation strength."""
    return LogisticRegression(C=c, max_iter=1000, warm_start=warm_start)


def _on_fold(
    x: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    counts: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
) -> FitFold:
    model = regression(warm_start=True)
    counted = counts[val] if counts[val].any() else None

    def fit(c: float) -> dict[str, float]:
        model.set_params(C=c).fit(x[train], labels[train], weight[train])
        chance = model.predict_proba(x[val])
        return {
            "train_loss": log_loss(labels[train], model.predict_proba(x[train]), labels=model.classes_),
            "val_loss": log_loss(labels[val], chance, sample_weight=counted, labels=model.classes_),
            "val_accuracy": float(np.mean(model.classes_[chance.argmax(axis=1)] == labels[val])),
        }

    return fit


def _fold(
    dense: keras.layers.Dense, regression: LogisticRegression, mean: np.ndarray, deviation: np.ndarray
) -> None:
    kernel, bias = _plain(regression, mean, deviation, dense.units)
    dense.set_weights([kernel.astype("float32"), bias.astype("float32")])


def _plain(
    regression: LogisticRegression, mean: np.ndarray, deviation: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel ``(D, C)`` and bias ``(C,)`` for plain features, with columns for classes that were not learned."""
    w, b = regression.coef_.T, regression.intercept_
    if w.shape[1] == 1:  # two classes: one score z, and softmax([-z/2, z/2]) equals the sigmoid of z
        w, b = np.concatenate([-w / 2, w / 2], axis=1), np.concatenate([-b / 2, b / 2])
    w, b = folded(w, b, mean, deviation)
    kernel = np.zeros((w.shape[0], num_classes))
    bias = np.full(num_classes, b.min() - ABSENT)
    kernel[:, regression.classes_], bias[regression.classes_] = w, b
    return kernel, bias
