"""How much a classifier doubts: one number an image, from its probabilities alone.

Settles 2009, "Active Learning Literature Survey", 3.1, names the three measures for one class an image. Where labels
are independent of one another, each is a question of two answers, and an image's doubt is the mean over its labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_transfer.errors import unknown_name

_SMALLEST = 1e-12


def _margin(chances: np.ndarray) -> np.ndarray:
    ordered = np.sort(chances, axis=-1)
    return 1 - (ordered[..., -1] - ordered[..., -2])


def _entropy(chances: np.ndarray) -> np.ndarray:
    parts = chances * np.log(np.maximum(chances, _SMALLEST))
    return -parts.sum(axis=-1) / np.log(chances.shape[-1])


def _confidence(chances: np.ndarray) -> np.ndarray:
    count = chances.shape[-1]
    return (1 - chances.max(axis=-1)) * count / (count - 1)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "margin": _margin,
    "entropy": _entropy,
    "confidence": _confidence,
}
"""``margin``: how near the two most probable classes are; ``entropy``: of all classes; ``confidence``: how improbable
the most probable one is. Each is 0 where the model is sure and 1 where it knows nothing."""


def doubt_of_classes(chances: np.ndarray, measure: str) -> np.ndarray:
    """Doubt float64 ``(N,)`` in [0, 1].

    Args:
        chances: float ``(N, C)``, rows that sum to 1, at least two classes.
        measure: one of :data:`MEASURES`.

    Raises:
        UsageError: an unknown measure.
    """
    if measure not in MEASURES:
        raise unknown_name("measure of doubt", measure, MEASURES)
    return np.clip(MEASURES[measure](np.asarray(chances, np.float64)), 0, 1)


def doubt_of_labels(chances: np.ndarray, thresholds: np.ndarray, measure: str) -> np.ndarray:
    """Mean doubt over labels that are independent of one another, float64 ``(N,)`` in [0, 1].

    Args:
        chances: float ``(N, C)``, each in [0, 1].
        thresholds: float ``(C,)``: from which probability on a label is given; there the doubt is largest.
        measure: one of :data:`MEASURES`.
    """
    yes = evened(chances, thresholds)
    return doubt_of_classes(np.stack([1 - yes, yes], axis=-1), measure).mean(axis=-1)


def evened(chances: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Probabilities ``(N, C)`` stretched so that each label's threshold becomes one half."""
    chances = np.asarray(chances, np.float64)
    limits = np.clip(np.asarray(thresholds, np.float64), 1e-6, 1 - 1e-6)
    below, above = chances / (2 * limits), 0.5 + (chances - limits) / (2 * (1 - limits))
    return np.where(chances < limits, below, above)
