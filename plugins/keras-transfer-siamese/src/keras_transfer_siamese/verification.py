"""Is it the same? Pairs of images judged by their score: ROC, equal error rate, and the thresholds that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

FAR = (0.1, 0.01, 0.001)
"""False accept rates that thresholds are chosen for."""
ENOUGH = 10
"""False accepts that must be expected at a rate before a threshold for it means anything."""


@dataclass(frozen=True, eq=False)
class Roc:
    """How many pairs of one class, and of two, score at least a threshold.

    Attributes:
        false_accepts, true_accepts: float ``(T,)``, rising shares of different and of same pairs.
        thresholds: float ``(T,)``, falling; the first is above every score.
        same, different: how many pairs there are of each.
    """

    false_accepts: np.ndarray
    true_accepts: np.ndarray
    thresholds: np.ndarray
    same: int
    different: int

    @classmethod
    def of(cls, scores: np.ndarray, same: np.ndarray) -> Roc | None:
        """From the scores ``(P,)`` of pairs and whether each is of one class; None without both kinds."""
        count = int(same.sum())
        if not count or count == len(same):
            return None
        false_accepts, true_accepts, thresholds = roc_curve(same, scores, drop_intermediate=False)
        return cls(false_accepts, true_accepts, thresholds, count, len(same) - count)

    @property
    def auc(self) -> float:
        """Area under the curve: how often a same pair scores higher than a different one."""
        return float(auc(self.false_accepts, self.true_accepts))

    @property
    def equal_error(self) -> tuple[float, float]:
        """Where as large a share of same pairs is rejected as of different ones accepted: the share, the threshold."""
        gap = np.abs((1 - self.true_accepts) - self.false_accepts)
        gap[0] = np.inf  # its threshold is no number
        place = int(gap.argmin())
        return float((1 - self.true_accepts[place] + self.false_accepts[place]) / 2), float(
            self.thresholds[place]
        )

    def at_false_accepts(self, rate: float) -> tuple[float, float] | None:
        """The true accept rate and the threshold at a false accept rate; None where there are too few pairs."""
        if self.different * rate < ENOUGH:
            return None
        place = int(np.searchsorted(self.false_accepts, rate + 1e-12, side="right")) - 1
        if place == 0:  # one score for more pairs than may be accepted
            return 0.0, float(np.nextafter(np.float32(self.thresholds[1]), np.float32(np.inf)))
        return float(self.true_accepts[place]), float(self.thresholds[place])

    def at_threshold(self, threshold: float) -> tuple[float, float]:
        """False accept rate and true accept rate at a threshold."""
        place = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        return float(self.false_accepts[max(place, 0)]), float(self.true_accepts[max(place, 0)])


def pairs(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a matrix ``(M, M)`` every pair once: its score, and whether it is of one class."""
    upper = np.triu_indices(len(labels), 1)
    return scores[upper], (labels[:, None] == labels[None])[upper]


def chosen_thresholds(roc: Roc) -> dict[str, float | None]:
    """The threshold of every rate of :data:`FAR`, by its text; None where there are too few pairs."""
    found = {str(rate): roc.at_false_accepts(rate) for rate in FAR}
    return {rate: None if one is None else one[1] for rate, one in found.items()}
