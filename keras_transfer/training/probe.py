"""The linear probe: multinomial logistic regression on frozen features, folded into the model's Dense layer.

Features are standardised with the training images' mean and deviation, an L2-regularised logistic regression is
fitted for a range of strengths, the one with the lowest validation log loss wins, and the standardisation is folded
into its weights: ``softmax(((f - m) / s) W + b) = softmax(f (W / s) + (b - m / s W))``, so that nothing but a Dense
layer remains. Alain & Bengio 2016 (arXiv:1610.01644) named such probes; Kornblith et al. 2019 (arXiv:1805.08974)
measured how far they carry.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from keras_transfer import progress
from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import LOGITS, features_input
from keras_transfer.training.hidden import has_hidden, train_hidden
from keras_transfer.training.standardising import folded, standardisation

log = logging.getLogger("keras_transfer")

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 3))
"""Inverse regularisation strengths C that are tried, 1e-5 to 10, two a decade."""
PATIENCE = 3
"""Weaker regularisation is not tried further after this many steps without a lower validation loss."""
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
        val: indices of the images the regularisation is chosen on; when empty, cross-validation is used.
        sample_weight: float ``(N,)``, default 1; for learning.
        judged: float ``(N,)``, default 1; what an image counts where the regularisation is chosen.
        seed: for the folds and the initial weights of hidden layers.

    Raises:
        DataError: fewer than two classes among the training images.
        UsageError: the head begins at a map instead of features.
    """
    begins = features_input(model).shape
    if len(begins) != 2:
        raise UsageError(
            f"The head of {model.name!r} begins at a map {tuple(begins)}; a probe learns from features (B, D). Put the "
            "head on pooled features, or train it with fine_tune."
        )
    found = np.unique(labels[train])
    if len(found) < 2:
        raise DataError(
            f"The training images hold {len(found)} class; at least 2 are needed to train a classifier."
        )
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if has_hidden(model):
        loss, names = keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
        counted = {"train": train, "val": val, "weight": weight}
        _, trials = train_hidden(model, features, labels, **counted, loss=loss, metrics=names, seed=seed)
        return ProbeResult(None, "validation" if len(val) else "training loss", trials)
    x = np.asarray(features, np.float64)
    mean, deviation = standardisation(x[train], weight[train])
    x = (x - mean) / deviation
    if len(val):
        folds, chosen_on = [(train, val)], "validation"
    else:
        count = int(min(5, np.bincount(labels[train])[found].min()))
        if count < 2:
            raise DataError(
                "No validation images, and a class with one training image: nothing to choose by."
            )
        cut = StratifiedKFold(count, shuffle=True, random_state=seed)
        folds = [(train[a], train[b]) for a, b in cut.split(train, labels[train])]
        chosen_on = "cross-validation"
    trials = _try_strengths(x, labels, weight, folds, found, judged)
    best = min(trials, key=lambda trial: trial["val_loss"])
    final = regression(best["C"]).fit(x[train], labels[train], weight[train])
    _fold(model.get_layer(LOGITS), final, mean, deviation)
    return ProbeResult(best["C"], chosen_on, trials)


def regression(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=1000)


def _try_strengths(
    x: Any, labels: Any, weight: Any, folds: Any, found: np.ndarray, judged: np.ndarray | None
) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = []
    models = [regression(1.0).set_params(warm_start=True) for _ in folds]
    for c in progress.track(STRENGTHS, "Fitting the probe", len(STRENGTHS)):
        rows = []
        for model, (train, val) in zip(models, folds, strict=True):
            model.set_params(C=c).fit(x[train], labels[train], weight[train])
            known = np.isin(labels[val], found)
            chance = model.predict_proba(x[val][known])
            counts = None if judged is None else judged[val][known]
            rows.append(
                (
                    log_loss(labels[train], model.predict_proba(x[train]), labels=model.classes_),
                    log_loss(labels[val][known], chance, sample_weight=counts, labels=model.classes_),
                    float(np.mean(model.classes_[chance.argmax(axis=1)] == labels[val][known])),
                )
            )
        train_loss, val_loss, accuracy = (float(value) for value in np.mean(rows, axis=0))
        trials.append({"C": c, "train_loss": train_loss, "val_loss": val_loss, "val_accuracy": accuracy})
        lowest = min(range(len(trials)), key=lambda i: trials[i]["val_loss"])
        if len(trials) - 1 - lowest >= PATIENCE:
            break
    return trials


def _fold(
    dense: keras.layers.Dense, regression: LogisticRegression, mean: np.ndarray, deviation: np.ndarray
) -> None:
    w, b = regression.coef_.T, regression.intercept_
    if w.shape[1] == 1:  # two classes: one score z, and softmax([-z/2, z/2]) equals the sigmoid of z
        w, b = np.concatenate([-w / 2, w / 2], axis=1), np.concatenate([-b / 2, b / 2])
    w, b = folded(w, b, mean, deviation)
    kernel = np.zeros((w.shape[0], dense.units))
    bias = np.full(dense.units, b.min() - ABSENT)
    kernel[:, regression.classes_], bias[regression.classes_] = w, b
    dense.set_weights([kernel.astype("float32"), bias.astype("float32")])
