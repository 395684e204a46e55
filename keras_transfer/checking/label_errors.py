"""Labels that look wrong: confident learning on what probes say of images that they did not learn from.

Northcutt, Jiang & Chuang 2021 (arXiv:1911.00068): an image counts for a class that it is given with at least the mean
probability of that class's own images (or three quarters, where that is less). An image that counts for another class
than its label's is a candidate.

Candidates are ranked by the chance that the label is right, where labels of a class are mistaken for those of another
at a rate that is seen on the surest images. A plain ranking by the label's probability has one rate for all pairs of
classes, and puts what is mixed up by rule behind what is merely hard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from keras_transfer.training.probe import out_of_fold_logits

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths C that are tried, until the loss on the held-out folds rises."""
LIKELIER = 3.0
"""A candidate is reported where another class is so many times as probable as the label's."""
FEW = 100
"""Images of a class, below which it has to be as many times more probable: a probe on few images errs more often."""
SUREST = 0.25
"""Share of the images that are given to a class which the rates are seen on."""
_ODD = 0.15  # rate of a mix-up that is one by rule, where it is three times the others' and 3 deviations above them
_TIMES, _DEVIATIONS = 3.0, 3.0
_FAR = 5.0  # robust deviations of a residual


@dataclass(frozen=True)
class Doubt:
    """A label that looks wrong: ``row`` of the table, ``score`` 0 to 1, and what was expected instead, in words."""

    row: int
    score: float
    given: str
    expected: str


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that can be judged, int ``(n,)``, and their probabilities, float64 ``(n, C)``, by shuffled folds."""
    best: tuple[np.ndarray, np.ndarray] | None = None
    lowest = np.inf
    for c in STRENGTHS:
        rows, logits = out_of_fold_logits(
            features, labels, classes, rows=np.arange(len(labels)), c=c, seed=seed
        )
        if not len(rows):
            break
        loss = -float(log_softmax(logits, axis=1)[np.arange(len(rows)), labels[rows]].mean())
        if loss >= lowest:
            break
        lowest, best = loss, (rows, softmax(logits, axis=1))
    return best or (np.zeros(0, np.int64), np.zeros((0, classes)))


def rightness(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The chance that each label is right, float64 ``(n,)``, to rank by.

    Args:
        chances: float ``(n, C)``, out of fold. labels: int ``(n,)``.
    """
    rates = mixed_up(chances, labels)
    weighed = chances * rates[:, labels].T
    return weighed[np.arange(len(labels)), labels] / np.maximum(weighed.sum(axis=1), 1e-12)


def mixed_up(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(C, C)``: how often an image of a class (row) bears the label of a class (column); rows sum to 1.

    One rate for all, but for pairs that stand out on the surest images: one way, or both ways together.
    """
    count = chances.shape[1]
    seen = np.zeros((count, count))
    told = chances.argmax(axis=1)
    for one in range(count):
        rows = np.flatnonzero(told == one)
        rows = rows[np.argsort(-chances[rows, one], kind="stable")][: max(1, int(len(rows) * SUREST))]
        seen[one] = np.bincount(labels[rows], minlength=count)
    total = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    beside = ~np.eye(count, dtype=bool)
    usual = beside.copy()
    rate = 0.0
    for _ in range(5):
        rate = (seen[usual].sum() + 0.5) / (np.broadcast_to(total, seen.shape)[usual].sum() + 1)
        far = (seen - total * rate) / np.sqrt(total * rate + 1) >= _DEVIATIONS
        usual = beside & ~far
        if not usual.any():
            usual = beside
            break
    least = max(_TIMES * rate, _ODD)
    both, images = seen + seen.T, total + total.T
    odd = _surely(seen, total) >= least
    odd |= (_surely(both, images) >= least) & (seen / total >= _TIMES * rate)
    rates = np.where(odd & beside & ~usual, seen / total, rate)
    np.fill_diagonal(rates, 0)
    np.fill_diagonal(rates, np.maximum(1 - rates.sum(axis=1), 0.2))
    return rates


def _surely(seen: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Rates less a standard error: among many pairs of classes some are mixed up more often by luck."""
    share = seen / total
    return np.asarray(share - np.sqrt(np.maximum(share * (1 - share), 0) / total))


def doubts_of_classes(
    features: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], seed: int = 0
) -> list[Doubt]:
    """Images of single classes whose label looks wrong, the surest first."""
    rows, chances = out_of_fold(features, labels, len(classes), seed)
    if not len(rows):
        return []
    given = labels[rows]
    found = np.array(
        [chances[given == one, one].mean() if (given == one).any() else 2 for one in range(len(classes))]
    )
    counts = np.where(chances >= np.minimum(found, LIKELIER / (LIKELIER + 1)), chances, -1)
    other = counts.argmax(axis=1)
    right = rightness(chances, given)
    own = chances[np.arange(len(rows)), given]
    told = chances[np.arange(len(rows)), other]
    images = np.maximum(np.bincount(given, minlength=len(classes)), 1)
    times = LIKELIER * np.maximum(1, FEW / np.minimum(images[given], images[other]))
    wrong = (counts.max(axis=1) > 0) & (other != given)
    wrong &= (told >= times * own) | ((right < 0.5) & (times <= LIKELIER))
    order = [place for place in np.argsort(right, kind="stable") if wrong[place]]
    return [Doubt(int(rows[at]), float(1 - own[at]), classes[given[at]], classes[other[at]]) for at in order]


def doubts_of_labels(
    features: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], seed: int = 0
) -> list[Doubt]:
    """Labels of several for an image, each by itself: one that seems to be missing or to be too many."""
    found = []
    for place, name in enumerate(classes):
        for doubt in doubts_of_classes(
            features, labels[:, place].astype(np.int64), (f"not {name}", name), seed
        ):
            found.append(doubt)
    return sorted(found, key=lambda doubt: (-doubt.score, doubt.row))


def doubts_of_numbers(features: np.ndarray, targets: np.ndarray, seed: int = 0) -> list[Doubt]:
    """Numbers that are far from what ridge regressions on the other folds expect: five robust deviations."""
    count = len(targets)
    if count < 10:
        return []
    x = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    expected = np.empty(targets.shape)
    for learned, judged in KFold(5, shuffle=True, random_state=seed).split(x):
        ridge = Ridge(float(x.shape[1])).fit(x[learned], targets[learned])
        expected[judged] = ridge.predict(x[judged]).reshape(len(judged), -1)
    gap = targets - expected
    spread = 1.4826 * np.median(np.abs(gap - np.median(gap, axis=0)), axis=0)
    far = np.abs(gap - np.median(gap, axis=0)) / np.maximum(spread, 1e-9)
    found = [
        Doubt(
            int(row),
            float(1 - _FAR / far[row, at] / 2),
            f"{targets[row, at]:g}",
            f"about {expected[row, at]:.3g}",
        )
        for row, at in zip(*np.nonzero(far > _FAR), strict=True)
    ]
    return sorted(found, key=lambda doubt: (-doubt.score, doubt.row))
