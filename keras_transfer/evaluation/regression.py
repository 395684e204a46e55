"""Regression metrics as one plain dictionary, computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from keras_transfer.errors import DataError


def regression_metrics(values: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Measure a model that gives numbers.

    Args:
        values: float ``(N, T)``, what the model says.
        targets: float ``(N, T)``, what is true, in the same units.
        names: the ``T`` names of the targets.

    Returns:
        JSON-able: ``images``; ``mae`` (mean absolute error), ``rmse`` (root of the mean squared error), both in
        the targets' units, and ``r2`` (1: perfect, 0: as good as always saying the true mean, negative: worse;
        None for one image or a target that is the same for all), each the mean over the targets; and
        ``per_target`` {name: mae, rmse, r2}.

    Raises:
        DataError: no images, shapes that do not fit, or values that are not finite.
    """
    values, targets = np.asarray(values, np.float64), np.asarray(targets, np.float64)
    if not len(targets):
        raise DataError("There are no images to measure on.")
    wanted = (len(targets), len(names))
    if values.shape != wanted or targets.shape != wanted:
        raise DataError(
            f"The model gives outputs of shape {values.shape} and the labels have shape {targets.shape}; {wanted} "
            f"is expected for {len(targets)} images and {len(names)} targets."
        )
    if not np.isfinite(values).all():
        raise DataError("The model gives values that are not finite numbers.")
    per_target = {name: _one_target(values[:, i], targets[:, i]) for i, name in enumerate(names)}
    shares = [row["r2"] for row in per_target.values()]
    return {
        "images": len(targets),
        "mae": float(np.mean([row["mae"] for row in per_target.values()])),
        "rmse": float(np.mean([row["rmse"] for row in per_target.values()])),
        "r2": None if None in shares else float(np.mean(shares)),
        "per_target": per_target,
    }


def _one_target(values: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    varies = targets.min() < targets.max()
    return {
        "mae": float(metrics.mean_absolute_error(targets, values)),
        "rmse": float(metrics.root_mean_squared_error(targets, values)),
        "r2": float(metrics.r2_score(targets, values)) if varies else None,
    }
