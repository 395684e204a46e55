"""Images unlike all others: far from their nearest neighbours in feature space.

Ramaswamy, Rastogi & Shim 2000, doi:10.1145/335191.335437.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
FAR = 5.0
"""Robust deviations of the logarithm of the distance above the median."""
_LEAST = 20  # images, below which nothing is far from the usual


def outliers(cosines: np.ndarray) -> list[tuple[int, float]]:
    """Rows that are far from their neighbours, of any class, and a score up to 1, the farthest first.

    Args:
        cosines: float ``(N, k)``, to the nearest images.
    """
    if len(cosines) < _LEAST:
        return []
    far = np.log(np.maximum(1 - cosines.mean(axis=1), 1e-4))
    middle = np.median(far)
    spread = 1.4826 * np.median(np.abs(far - middle))
    deviations = (far - middle) / max(float(spread), 0.05)
    rows = np.flatnonzero(deviations > FAR)
    found = [(int(row), float(1 - FAR / deviations[row] / 2)) for row in rows]
    return sorted(found, key=lambda one: (-one[1], one[0]))
