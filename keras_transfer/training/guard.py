"""Never worse than the probe: fine-tuning is kept only where it beats the probe on the same validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 200
LEVEL = 0.95


@dataclass(frozen=True)
class Verdict:
    """Two sets of outputs for the same images, compared.

    Attributes:
        metric: its name; ``probe`` and ``tuned`` are its values.
        images: how many images both were measured on.
        low, high: 95 % interval of ``tuned - probe``, by resampling the images in pairs (Efron & Tibshirani 1993).
        better: whether the tuned one is better, whatever the interval.
    """

    metric: str
    probe: float
    tuned: float
    images: int
    low: float
    high: float
    better: bool

    @property
    def worse(self) -> bool:
        """Whether the tuned one is worse, whatever the interval."""
        return self.tuned != self.probe and not self.better

    @property
    def certain(self) -> bool:
        """Whether the interval leaves no doubt which one is better."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        certain = "certain" if self.certain else "within chance"
        return (
            f"{self.metric.replace('_', ' ')} on the same {self.images} validation images: probe {self.probe:.4f}, "
            f"fine-tuned {self.tuned:.4f} (difference {self.low:+.4f} to {self.high:+.4f}, {certain})"
        )


def deciding(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that counts: the first (the main metric) where it is certain, or the next that is.

    Where none is certain, the first whose two values differ. A main metric that is worse is never made up for.
    """
    if verdicts[0].worse:
        return verdicts[0]
    for wanted in (lambda verdict: verdict.certain, lambda verdict: verdict.tuned != verdict.probe):
        for verdict in verdicts:
            if wanted(verdict):
                return verdict
    return verdicts[0]


def compare(
    score: Callable[[np.ndarray, np.ndarray], float],
    probe: np.ndarray,
    tuned: np.ndarray,
    *,
    metric: str,
    higher: bool,
    seed: int = 0,
) -> Verdict:
    """Compare two models' outputs for the same images.

    Args:
        score: outputs ``(n, ...)`` and the rows ``(n,)`` of the images they belong to -> the metric.
        probe, tuned: outputs ``(N, ...)``.
        metric: its name.
        higher: whether more of it is better.
        seed: of the resampling.
    """
    rows = np.arange(len(probe))
    before, after = score(probe, rows), score(tuned, rows)
    rng = np.random.default_rng((seed, len(rows)))
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(rows), len(rows))
        differences.append(score(tuned[drawn], drawn) - score(probe[drawn], drawn))
    low, high = np.nanquantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Verdict(
        metric,
        before,
        after,
        len(rows),
        float(low),
        float(high),
        after > before if higher else after < before,
    )
