"""Whether a probability means what it says: of the images answered with 80 %, four in five should be right.

Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv:1706.04599): images are put into bins of equal width
by the probability of the predicted class (the confidence), and each bin's mean confidence is compared with its
accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_transfer.errors import DataError, UsageError

ROUNDING = 1e-3
"""How far outside [0, 1] a probability may lie: a quantised model's outputs do, by a step."""


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The mean distance between confidence and accuracy, in [0, 1]; 0 is a calibrated model.

    ``sum over bins of images / N * |accuracy - confidence|`` (Guo et al. 2017, arXiv:1706.04599, equation 3). With few
    images it is biased upwards: a bin of three images can hardly be right 80 % of the time.

    Args:
        probabilities: float ``(N, C)`` in [0, 1].
        labels: int ``(N,)``, true class indices.
        bins: number of bins of equal width.

    Raises:
        DataError: no images, shapes that do not fit, or numbers that are not probabilities or class indices.
        UsageError: fewer than one bin.
    """
    return calibration_error(reliability(probabilities, labels, bins))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[dict[str, Any]]:
    """Confidence and accuracy of every bin: what a reliability diagram shows.

    Args:
        probabilities: float ``(N, C)`` in [0, 1].
        labels: int ``(N,)``, true class indices.
        bins: number of bins of equal width.

    Returns:
        One JSON-able dictionary a bin ``(low, high]``, lowest first: ``low``, ``high``, ``images``, and ``confidence``
        (mean probability of the predicted class) and ``accuracy``, both None for a bin without images.

    Raises:
        DataError: no images, shapes that do not fit, or numbers that are not probabilities or class indices.
        UsageError: fewer than one bin.
    """
    if not isinstance(bins, int) or bins < 1:
        raise UsageError(f"bins is {bins!r}; a whole number of at least 1 is expected.")
    probabilities, labels = _checked(probabilities, labels)
    confidence = np.clip(probabilities.max(axis=1), 0.0, 1.0)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    rows = []
    for index in range(bins):
        inside = place == index
        images = int(inside.sum())
        rows.append(
            {
                "low": float(edges[index]),
                "high": float(edges[index + 1]),
                "images": images,
                "confidence": float(confidence[inside].mean()) if images else None,
                "accuracy": float(right[inside].mean()) if images else None,
            }
        )
    return rows


def calibration_error(rows: Sequence[Mapping[str, Any]]) -> float:
    """The expected calibration error of bins that :func:`reliability` gave."""
    total = sum(row["images"] for row in rows)
    filled = [row for row in rows if row["images"]]
    return float(sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in filled) / total)


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise DataError(
            f"Probabilities of shape {probabilities.shape} and labels of shape {labels.shape} were given; "
            "(N, C) and (N,) are expected: one row and one class index per image."
        )
    if not len(labels):
        raise DataError("There are no images to measure calibration on.")
    if not np.all((probabilities >= -ROUNDING) & (probabilities <= 1 + ROUNDING)):
        raise DataError(
            f"Numbers from {probabilities.min():.3g} to {probabilities.max():.3g} were given as probabilities; "
            "[0, 1] is expected. Apply a softmax to logits first."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise DataError(
            f"Labels are expected as whole numbers from 0 to {probabilities.shape[1] - 1}; "
            f"{labels.min()!r} to {labels.max()!r} were given."
        )
    return probabilities, labels
