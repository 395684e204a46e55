"""Which head, where classes are few: cross-validation over classes.

A model is asked about classes it has never seen, so classes are what is sampled. Three validation classes tell next to
nothing, however many episodes are drawn from them. Here every class is held out in turn. A head's score is the mean
over classes, and how far it is behind the best has a standard error over classes. (Folds share most of what they learn
from, so that error is too small rather than too large: Bengio & Grandvalet 2004, JMLR 5.) A simpler head within a share
of that error is taken (Breiman et al. 1984 take a whole one). NumPy alone, on cached features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from keras_transfer.errors import DataError
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.heads import KINDS, ClosedForm, closed_forms, forms_on, signed_root
from keras_transfer_siamese.metrics import thinned
from keras_transfer_siamese.verification import Roc

FEW_CLASSES = 60
"""Classes with two images, below which folds choose and ``auto`` trains no head by gradient."""
FEWEST = 4
"""Classes with two images that folds need: two are held out, two are learned from."""
EVERY_PAIR = 10
"""Classes up to which every two of them are held out once. Of more, in several divisions, a sixth:"""
DIVISIONS, PARTS = 4, 6
WAYS = 20
"""Among how many an image is to be found, as recognition is measured (20x1). Two are soon told apart by any head."""
LDA_FROM = 30
"""Classes from which on ``lda`` is tried: it keeps fewer numbers than there are classes, too few to tell many apart."""
WITHIN = 0.25
"""Standard errors that a simpler head may be behind the best."""
MOST = 500
"""Images that folds look at. Of more, evenly many of each class are taken."""


@dataclass(frozen=True)
class Trial:
    """What a head came to on classes it had not learned from.

    Attributes:
        head, shrinkage: its name, and the shrinkage asked for; see :class:`~keras_transfer_siamese.heads.ClosedForm`.
        score: of :func:`found_among`, mean over classes, in [0, 1].
        behind: how far it is behind the best, and ``error``, the standard error of that over classes.
    """

    head: str
    shrinkage: float | str | None
    score: float
    behind: float
    error: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "head": self.head,
            "shrinkage": self.shrinkage,
            "score": self.score,
            "behind_best": self.behind,
            "standard_error": self.error,
        }

    def __str__(self) -> str:
        return self.head if self.shrinkage is None else f"{self.head}, shrinkage {self.shrinkage}"


@dataclass(frozen=True, eq=False)
class Choice:
    """What the folds said.

    Attributes:
        chosen: of ``trials``; ``best`` has the highest score.
        trials: of every head.
        classes: how many were held out in turn, in how many ``folds``.
        roc: of the chosen head's scores in the folds; every pair of images counts once, by the first head that had
            learned from neither of their classes.
    """

    chosen: Trial
    best: Trial
    trials: tuple[Trial, ...]
    classes: int
    folds: int
    roc: Roc | None

    def __str__(self) -> str:
        """A sentence without its end: what was chosen, and why."""
        raw = next(trial for trial in self.trials if trial.head == "raw")
        told = f"{self.chosen}"
        if self.chosen is not raw:
            told += f" (score {self.chosen.score:.1%}, raw features {raw.score:.1%})"
        told += f", chosen on {self.classes} classes that were held out in turn"
        if self.chosen is not self.best:
            told += (
                f"; {self.best} is ahead by {self.chosen.behind:.1%}, with a standard error over classes of "
                f"{self.chosen.error:.1%}"
            )
        return told

    def fit(self, features: np.ndarray, labels: np.ndarray, dim: int) -> ClosedForm:
        """The chosen head, learned from ``features`` ``(N, D)`` of all classes that were held out in turn."""
        wanted = (self.chosen.head, self.chosen.shrinkage)
        return next(form for form in closed_forms(features, labels, dim) if _key(form) == wanted)


def few_classes(labels: np.ndarray) -> bool:
    """Whether classes with two images are fewer than :data:`FEW_CLASSES`."""
    return len(_several(labels)) < FEW_CLASSES


def can_fold(labels: np.ndarray) -> bool:
    """Whether there are as many classes with two images as folds need."""
    return len(_several(labels)) >= FEWEST


def choose_by_folds(features: np.ndarray, labels: np.ndarray, dim: int, kind: str, seed: int) -> Choice:
    """Hold out every class with two images in turn, and choose among the heads in closed form.

    Classes with one image are learned from in every fold.

    Args:
        features: float32 ``(N, D)``, raw features of all classes that may be looked at.
        labels: int ``(N,)``; :func:`can_fold`.
        dim: numbers of an embedding, at most.
        kind: of the comparison, ``cosine`` or ``euclidean``.
        seed: of the divisions.

    Raises:
        DataError: all images have the same features.
    """
    rows = thinned(labels, MOST, seed)
    features, labels = features[rows], labels[rows]
    if not np.ptp(features, axis=0).any():
        raise DataError(
            f"All {len(features)} images have the same features, so nothing tells them apart. Use a backbone with "
            "pretrained weights (--weights), and check that the images differ."
        )
    comparison = Comparison(kind)
    folds = list(_folds(labels, seed))
    kinds = KINDS if len(_several(labels)) >= LDA_FROM else tuple(kind for kind in KINDS if kind != "lda")
    blocks: dict[tuple[str, float | str | None], list[np.ndarray]] = {}
    for power, x in ((False, _turned(features)), (True, _turned(signed_root(features)))):
        for learn, held in folds:
            for form in forms_on(x[learn], labels[learn], dim, kinds, power=power):
                embeddings = replace(form, power=False).embed(x[held])
                blocks.setdefault(_key(form), []).append(comparison.scores(embeddings, embeddings))
    # With very few classes not every fold can fit every head.
    blocks = {key: found for key, found in blocks.items() if len(found) == len(folds)}
    held_out = [held for _, held in folds]
    table = np.array([_by_class(found, held_out, labels) for found in blocks.values()])
    trials = paired_trials(list(blocks), table)
    chosen, best = choose(trials)
    roc = Roc.of(*_pairs_once(blocks[chosen.head, chosen.shrinkage], held_out, labels))
    return Choice(chosen, best, trials, table.shape[1], len(folds), roc)


def paired_trials(heads: Sequence[tuple[str, float | str | None]], table: np.ndarray) -> tuple[Trial, ...]:
    """Trials from scores ``(heads, classes)``: what differs is paired by class, and classes are counted."""
    best = table[table.mean(axis=1).argmax()]
    behind = best - table
    errors = behind.std(axis=1, ddof=1) / np.sqrt(table.shape[1])
    return tuple(
        Trial(name, shrinkage, float(score), float(mean), float(error))
        for (name, shrinkage), score, mean, error in zip(
            heads, table.mean(axis=1), behind.mean(axis=1), errors, strict=True
        )
    )


def choose(trials: Sequence[Trial], within: float = WITHIN) -> tuple[Trial, Trial]:
    """The chosen trial, and the best: of those within ``within`` standard errors the best one of the simplest kind."""
    best = max(trials, key=lambda trial: trial.score)
    near = [trial for trial in trials if trial.behind <= within * trial.error]
    simplest = min(map(_kind, near))
    return max((trial for trial in near if _kind(trial) == simplest), key=lambda trial: trial.score), best


def _kind(trial: Trial) -> int:
    """What a head learns: nothing, nothing but a root, a mean, a matrix."""
    simple = ("raw", "power", "centred", "power+centred")
    return simple.index(trial.head) if trial.head in simple else len(simple)


def _key(form: ClosedForm) -> tuple[str, float | str | None]:
    return form.name, form.asked


def _turned(x: np.ndarray) -> np.ndarray:
    """``x`` ``(N, D)`` turned so that N numbers hold it all: the heads come to the same, sooner."""
    if len(x) >= x.shape[1]:
        return x
    triangle: np.ndarray = np.linalg.qr(x.T.astype(np.float64), mode="r")  # type: ignore[assignment]
    return triangle.T


def _several(labels: np.ndarray) -> np.ndarray:
    """Classes with two images or more."""
    found, sizes = np.unique(labels, return_counts=True)
    return found[sizes > 1]


def _folds(labels: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows that are held out, by class: each class as often, or almost, as any other."""
    several = _several(labels)
    for held in _held_out(several, seed):
        inside = np.isin(labels, held)
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def _held_out(classes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    if len(classes) <= EVERY_PAIR:
        yield from map(np.array, combinations(classes.tolist(), 2))
        return
    for division in range(DIVISIONS):
        order = np.random.default_rng((seed, division)).permutation(classes)
        yield from np.array_split(order, min(PARTS, len(classes) // 2))


def _by_class(blocks: Sequence[np.ndarray], held_out: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The score of every class, mean over the folds that hold it out: float64 ``(C,)``."""
    found: dict[int, list[float]] = {}
    for scores, rows in zip(blocks, held_out, strict=True):
        chances = found_among(scores, labels[rows])
        for label in np.unique(labels[rows]).tolist():
            found.setdefault(label, []).append(float(chances[labels[rows] == label].mean()))
    return np.array([np.mean(found[label]) for label in sorted(found)])


def found_among(scores: np.ndarray, labels: np.ndarray, ways: int = WAYS) -> np.ndarray:
    """How likely one image of its class is more alike to each image than ``ways - 1`` of others: float64 ``(M,)``.

    The others are drawn independently, from each other class as often; the mean over all draws is computed from the
    scores ``(M, M)`` without drawing. An equal score counts half. Every class has two images.

    Where there are as many classes as ways, this is near the one-shot accuracy; of fewer it is above it, since twenty
    images of one other class are less varied than images of twenty classes.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ordered = scores[np.ix_(order, order)]
    found = np.empty(len(labels))
    for place, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        own = slice(start, start + size)
        # Query by own support by every image: 1 where the support is more alike, -1 where the image is, 0 where equal.
        ahead = np.sign(ordered[own, own, np.newaxis] - ordered[own, np.newaxis, :])
        won = (1 + np.add.reduceat(ahead, starts, axis=2) / sizes) / 2
        chances = np.delete(won, place, axis=2).mean(axis=2) ** (ways - 1)
        np.fill_diagonal(chances, 0.0)  # an image is not its own support
        found[own] = chances.sum(axis=1) / (size - 1)
    result = np.empty(len(labels))
    result[order] = found
    return result


def _pairs_once(
    blocks: Sequence[np.ndarray], held_out: Sequence[np.ndarray], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(P,)`` of all pairs that were held out together, each once, and whether they are of one class."""
    seen = np.tri(len(labels), dtype=bool)  # one triangle, without an image and itself
    values, same = [], []
    for scores, rows in zip(blocks, held_out, strict=True):
        fresh = ~seen[np.ix_(rows, rows)]
        values.append(scores[fresh])
        same.append((labels[rows][:, np.newaxis] == labels[rows])[fresh])
        seen[np.ix_(rows, rows)] = True
    return np.concatenate(values), np.concatenate(same)
