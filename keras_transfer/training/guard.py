"""Never worse than the probe: fine-tuning is kept only where it beats the probe on the same validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from scipy.stats import norm, t

RESAMPLES = 200
LEVEL = 0.95
LEAST = 6
"""Images below which nothing is certain: if one of two equal models were better on each of them, that would still be
chance once in twenty times (sign test, 2 / 2^5; 2 / 2^6 is less)."""
FEW = 50
"""Images below which only a certain gain counts. Where a tenth of two networks' answers differ, chance puts them 4
points of accuracy apart on 50 images, and more on fewer: more than fine-tuning usually gains. And the epoch was chosen
as the best of several on the same images."""


@dataclass(frozen=True)
class Verdict:
    """Two sets of outputs for the same images, compared.

    Attributes:
        metric: its name; ``probe`` and ``tuned`` are its values.
        images: how many images both were measured on.
        low, high: 95 % interval of ``tuned - probe``, by resampling the images in pairs (Efron & Tibshirani 1993), made
            wider where images are few (Hesterberg 2015).
        better: whether the tuned one is better, whatever the interval.

    The numbers are NaN where the images do not tell the metric (no label on any of them).
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
        """Whether the tuned one is worse, whatever the interval, or nothing tells that it is not."""
        return self.tuned != self.probe and not self.better

    @property
    def certain(self) -> bool:
        """Whether the interval leaves no doubt which one is better."""
        return self.images >= LEAST and (self.low > 0 or self.high < 0)

    @property
    def keeps(self) -> bool:
        """Whether the tuned one is to be kept: it is better, and where images are few, certainly so."""
        return self.better and (self.certain or self.images >= FEW)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: None for a number that could not be measured."""
        values = asdict(self)
        return {name: None if value != value else value for name, value in values.items()}

    def __str__(self) -> str:
        if math.isnan(self.probe) or math.isnan(self.tuned):
            return f"{self.metric.replace('_', ' ')}: the {self.images} validation images do not tell it"
        certain = "certain" if self.certain else "within chance"
        return (
            f"{self.metric.replace('_', ' ')} on the same {self.images} validation images: probe {self.probe:.4f}, "
            f"fine-tuned {self.tuned:.4f} (difference {self.low:+.4f} to {self.high:+.4f}, {certain})"
        )


def keep_better(
    model: keras.Model,
    train: Callable[[], None],
    answers: Callable[[], np.ndarray] | None,
    is_better: Callable[[np.ndarray, np.ndarray], bool],
) -> bool:
    """Train a model, and take its weights back unless what it answers is better for it.

    Args:
        model: whose weights ``train`` changes.
        train: trains it.
        answers: gives its outputs ``(N, ...)`` for the images that decide; None: nothing does, and it is kept.
        is_better: the answers before and after -> whether the trained weights are kept.

    Returns:
        Whether they were.
    """
    before = None if answers is None else answers()
    start = [weight.numpy() for weight in model.weights]
    train()
    if answers is None or before is None or is_better(before, answers()):
        return True
    for weight, value in zip(model.weights, start, strict=True):
        weight.assign(value)
    return False


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


def paired_verdict(
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
    known = [difference for difference in differences if not math.isnan(difference)]
    tail = _tail(len(rows))
    low, high = np.quantile(known, [tail, 1 - tail]) if known else (math.nan, math.nan)
    return Verdict(
        metric,
        before,
        after,
        len(rows),
        float(low),
        float(high),
        after > before if higher else after < before,
    )


def _tail(images: int) -> float:
    """The share of resampled differences that is left out at either end.

    Resamples of few images vary less than new images would: the expanded percentile interval takes Student's t and
    ``sqrt(n / (n - 1))`` into account (Hesterberg 2015, arXiv:1411.5279).
    """
    if images < 2:
        return 0.0
    quantile = t.ppf((1 + LEVEL) / 2, images - 1) * math.sqrt(images / (images - 1))
    return float(norm.cdf(-quantile))
