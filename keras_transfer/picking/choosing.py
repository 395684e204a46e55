"""A batch by one of the ways: what it looks at, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_transfer.picking.doubt import MEASURES
from keras_transfer.picking.spread import distances, gradient_seeds, k_centre, weighted_clusters

WAYS = (*MEASURES, "gradient", "spread")
"""The measures of doubt: the most doubtful images are clustered, each counting its doubt, and of each cluster the
middle one is taken. ``gradient``: by the last layer's gradient. ``spread``: the farthest from what is labelled,
whatever the model says."""
CANDIDATES = 10
"""So many times the images asked for are looked at, the most doubtful first: what ``benchmarks/pick.py`` says."""


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Images to choose from.

    Attributes:
        values: float32 ``(N, D)``, features of unit length.
        doubt: float ``(N,)`` in [0, 1]; None: the model has none (it gives numbers).
        gradients: float ``(N, C)``: of the loss by the logits, at the label that the model expects; None as above.
        apart: float ``(N,)``: distance to the nearest labelled image; infinite where none is known.
    """

    values: np.ndarray
    doubt: np.ndarray | None
    gradients: np.ndarray | None
    apart: np.ndarray

    def take(self, rows: np.ndarray) -> Unlabelled:
        """Some of them."""
        return Unlabelled(
            self.values[rows],
            None if self.doubt is None else self.doubt[rows],
            None if self.gradients is None else self.gradients[rows],
            self.apart[rows],
        )

    def beside(self, rows: np.ndarray) -> Unlabelled:
        """The same with some of them taken for labelled."""
        return replace(self, apart=np.minimum(self.apart, distances(self.values, self.values[rows])))


def choose(
    images: Unlabelled, by: str, count: int, *, candidates: int = CANDIDATES, seed: int = 0
) -> np.ndarray:
    """Rows of the images to label next, int64 ``(count,)``, in no order.

    Args:
        images: at least ``count``.
        by: one of :data:`WAYS`.
        count: at least 1.
        candidates: of a measure of doubt: so many times ``count`` are looked at; 1: the most doubtful, alike or not.
        seed: of clusters and draws.
    """
    if by == "spread":
        return k_centre(images.values, images.apart, count)
    if by == "gradient":
        assert images.gradients is not None
        return gradient_seeds(images.gradients, images.values, count, seed)
    assert images.doubt is not None
    most = np.argsort(-images.doubt, kind="stable")[: candidates * count]
    if len(most) == count:
        return most
    return most[weighted_clusters(images.values[most], images.doubt[most], count, seed)]
