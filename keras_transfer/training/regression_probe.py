"""The linear probe for numbers: ridge regression on frozen features, folded into the model's Dense layer.

Features and targets are standardised with the training images' mean and deviation, ridge regression (Hoerl & Kennard
1970, Technometrics 12(1)) is fitted for a range of strengths, the one with the lowest validation error wins, and both
standardisations are folded into its weights, so that the model gives the targets in their own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from sklearn.linear_model import Ridge

from keras_transfer.errors import DataError
from keras_transfer.heads import LOGITS
from keras_transfer.training.choosing import FitFold, choose_strength, folds_for_targets
from keras_transfer.training.hidden import has_hidden, train_hidden
from keras_transfer.training.multilabel_probe import counted_images
from keras_transfer.training.standardising import folded, standardisation, standardised

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(12, -7, -1))
"""Regularisation strengths alpha that are tried, a million to a thousandth, two a decade, the strongest first."""


@dataclass(frozen=True)
class RegressionProbeResult:
    """What the probe tried and chose.

    Attributes:
        alpha: the regularisation strength chosen (None for a head with hidden layers).
        chosen_on: ``"validation"``, ``"cross-validation"`` or (hidden layers only) ``"training loss"``.
        trials: one dictionary a strength (``alpha``, ``train_loss``, ``val_loss``) or an epoch (``epoch`` instead
            of ``alpha``); losses are mean squared errors of the standardised targets: 1 is what the mean gives.
    """

    alpha: float | None
    chosen_on: str
    trials: list[dict[str, Any]] = field(default_factory=list)


def fit_regression_probe(
    model: keras.Model,
    features: np.ndarray,
    targets: np.ndarray,
    *,
    train: np.ndarray,
    val: np.ndarray,
    names: Sequence[str] | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
) -> RegressionProbeResult:
    """Fit the head of a regression model on its backbone's features, and write it into the model.

    Args:
        model: made by ``heads.add_head(..., activation="linear")``; only its head changes.
        features: float ``(N, D)``, what the model's pooling layer gives.
        targets: float ``(N, T)``, in any units.
        train: indices of the images that are learned from.
        val: indices of the images the regularisation is chosen on; when fewer than ``choosing.ENOUGH``,
            cross-validation on ``train`` is used.
        names: the ``T`` names, for messages.
        sample_weight: float ``(N,)``, default 1; for learning, not for choosing.
        seed: for the folds and the training of hidden layers.

    Raises:
        DataError: a target that is the same for all training images, no training image with a weight, or one only
            and no validation image.
    """
    names = [f"target_{i}" for i in range(targets.shape[1])] if names is None else names
    weight, train = counted_images(sample_weight, len(targets), train)
    y = np.asarray(targets, np.float64)
    for name, low, high in zip(names, y[train].min(axis=0), y[train].max(axis=0), strict=True):
        if low == high:
            raise DataError(
                f"All training images have the same {name}, {low:g}: there is nothing to learn. Check the label "
                "column, or leave this number out of it."
            )
    centre, spread = _units(y[train], weight[train])
    y = (y - centre) / spread
    dense = model.get_layer(LOGITS)
    if has_hidden(model):
        loss = keras.losses.MeanSquaredError()
        _, trials = train_hidden(
            model, features, y, train=train, val=val, weight=weight, loss=loss, seed=seed
        )
        kernel, bias = dense.get_weights()
        dense.set_weights([kernel * spread, bias * spread + centre])
        return RegressionProbeResult(None, "validation" if len(val) else "training loss", trials)
    x = standardised(features, train, weight)
    folds, chosen_on = folds_for_targets(train, val, seed)
    alpha, trials = choose_strength("alpha", STRENGTHS, [_on_fold(x, y, weight, *fold) for fold in folds])
    refit_regression_probe(model, features, targets, rows=train, alpha=alpha, sample_weight=sample_weight)
    return RegressionProbeResult(alpha, chosen_on, trials)


def refit_regression_probe(
    model: keras.Model,
    features: np.ndarray,
    targets: np.ndarray,
    *,
    rows: np.ndarray,
    alpha: float,
    sample_weight: np.ndarray | None = None,
) -> None:
    """Fit the head once more, at a strength that was chosen before, and write it into the model.

    What was measured on images among ``rows`` before does not hold for this head.

    Args:
        model, features, targets, sample_weight: as in :func:`fit_regression_probe`; a head without hidden layers.
        rows: indices of the images that are learned from, training and validation images.
        alpha: the regularisation strength, ``RegressionProbeResult.alpha``.
    """
    weight, rows = counted_images(sample_weight, len(targets), rows)
    x, y, weight = np.asarray(features, np.float64)[rows], np.asarray(targets, np.float64)[rows], weight[rows]
    centre, spread = _units(y, weight)
    mean, deviation = standardisation(x, weight)
    final = Ridge(alpha).fit((x - mean) / deviation, (y - centre) / spread, weight)
    w, b = final.coef_.reshape(len(spread), -1).T * spread, final.intercept_ * spread + centre
    model.get_layer(LOGITS).set_weights(folded(w, b, mean, deviation))


def _units(y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation ``(T,)`` of targets ``(n, T)``."""
    centre = np.average(y, axis=0, weights=weight)
    return centre, np.sqrt(np.average((y - centre) ** 2, axis=0, weights=weight))


def _on_fold(x: np.ndarray, y: np.ndarray, weight: np.ndarray, train: np.ndarray, val: np.ndarray) -> FitFold:
    def fit(alpha: float) -> dict[str, float]:
        ridge = Ridge(alpha).fit(x[train], y[train], weight[train])
        errors = (ridge.predict(x[part]).reshape(len(part), -1) - y[part] for part in (train, val))
        train_loss, val_loss = (float(np.mean(error**2)) for error in errors)
        return {"train_loss": train_loss, "val_loss": val_loss}

    return fit
