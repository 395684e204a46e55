"""Which images meet in a batch: P classes x K images, pairs, episodes. Functions of the seed and the epoch alone.

Each gives exactly ``ceil(n / batch_size)`` full batches an epoch, so a training that is taken up at epoch ``e`` goes on
as if it had never stopped. A class with one image is never an anchor: it comes in as a negative for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from keras_transfer.errors import DataError


@dataclass(frozen=True)
class ClassBatches:
    """P classes with K images each (Hermans et al. 2017, arXiv:1703.07737, section 2).

    Attributes:
        labels: int ``(N,)`` of the whole table.
        per_class: K.
        batch_size: images per batch, a multiple of K; see :func:`batch_size_for`.
        singles: whether images of single-image classes take the place of one class in each batch. Without them these
            are the episodes of Snell et al. 2017: one support image and K - 1 queries of P classes.
        families: ``(N,)``, the alphabet of every image: a batch is of one of them, as far as that has classes enough,
            for those are the classes that are hard to tell apart. None: any classes meet.
    """

    labels: np.ndarray = field(repr=False)
    per_class: int
    batch_size: int
    singles: bool = True
    families: np.ndarray | None = field(default=None, repr=False)

    def __call__(self, rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Rows of an epoch, batch after batch; within a batch the images of a class are neighbours."""
        rng = np.random.default_rng((seed, epoch))
        several, single = by_count(self.labels, rows)
        places = self.batch_size // self.per_class
        alone = _endless(single, rng) if self.singles and len(single) else None
        classes = min(places - (alone is not None), len(several))
        families = self._families(several, rng)
        batches = []
        for _ in range(-(-len(rows) // self.batch_size)):
            chosen = _of_families(families, classes, rng)
            missing = self.batch_size - classes * self.per_class
            if alone is not None and missing:
                others: dict[int, None] = {}  # each once: a copy of it would pass for a match
                while len(others) < min(missing, len(single)):
                    others[next(alone)] = None
                chosen.append(np.array(list(others)))
            batch = np.concatenate(chosen)
            if len(batch) < self.batch_size:  # fewer single images than places: more of the others
                rest = np.setdiff1d(np.concatenate(several), batch)
                rest = rest if len(rest) else np.concatenate(several)
                batch = np.append(batch, rng.choice(rest, self.batch_size - len(batch)))
            batches.append(batch)
        return np.concatenate(batches)

    def _families(self, several: list[np.ndarray], rng: np.random.Generator) -> list[_Family]:
        if self.families is None:
            return [_Family(len(several), _groups(several, self.per_class, rng))]
        names = np.array([self.families[rows[0]] for rows in several])
        found = [[several[i] for i in np.flatnonzero(names == name)] for name in np.unique(names)]
        return [_Family(len(members), _groups(members, self.per_class, rng)) for members in found]


@dataclass(frozen=True)
class PairBatches:
    """Pairs: rows 2i and 2i + 1 are of one class in the first half of a batch, of two classes in the second.

    Koch et al. 2015 and Hadsell et al. 2006 train on such pairs. (Their losses here use the other pairs of the batch,
    too.)
    """

    labels: np.ndarray = field(repr=False)
    batch_size: int

    def __call__(self, rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Rows of an epoch, pair after pair."""
        rng = np.random.default_rng((seed, epoch))
        several, _ = by_count(self.labels, rows)
        groups = _groups(several, 2, rng)
        anyone = _endless(rows, rng)
        found: list[int] = []
        for _ in range(-(-len(rows) // self.batch_size)):
            equal = -(-self.batch_size // 4)
            for _, pair in _distinct(groups, min(equal, len(several)), equal):
                found += pair.tolist()
            for _ in range(self.batch_size // 2 - equal):
                left = next(anyone)
                right = next(row for row in anyone if self.labels[row] != self.labels[left])
                found += [left, right]
            if self.batch_size % 2:  # an odd batch has one image without a partner of its own
                found.append(next(anyone))
        return np.array(found, np.int64)


def batch_size_for(labels: np.ndarray, asked: int, per_class: int) -> int:
    """The largest multiple of ``per_class`` up to ``asked`` that the classes there are can fill; at least two classes.

    Args:
        labels: int ``(n,)`` of the training images.

    Raises:
        DataError: fewer than two classes with two images: there is nothing to pull together and push apart.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    several = int((sizes > 1).sum())
    if several < 1 or len(sizes) < 2:
        raise DataError(
            f"Learning to compare needs two training classes, one of them with two images; here are {len(sizes)} "
            f"classes, {several} of them with so many. Add images, or use --head centred."
        )
    places = min(asked // per_class, several + bool(several < len(sizes)))
    return max(2, places) * per_class


def by_count(labels: np.ndarray, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows of each class that has several, and the rows of those that have one."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    several = [part for part in parts if len(part) > 1]
    single = [part for part in parts if len(part) == 1]
    return several, np.concatenate(single) if single else np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Family:
    """Classes that meet in a batch: how many there are, and their groups without end."""

    classes: int
    groups: Iterator[tuple[int, np.ndarray]]


def _of_families(families: list[_Family], num_classes: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Groups of so many classes: of one family, drawn by its number of classes, and where that is small of another."""
    sizes = np.array([family.classes for family in families])
    chosen: list[np.ndarray] = []
    for place in rng.choice(len(families), len(families), replace=False, p=sizes / sizes.sum()):
        count = min(num_classes - len(chosen), families[place].classes)
        chosen += [group for _, group in _distinct(families[place].groups, count)] if count else []
    return chosen


def _endless(rows: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(rows).tolist()


def _groups(
    several: list[np.ndarray], size: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """Endless groups of ``size`` images of one class: every image once before any comes again, as far as that goes."""
    while True:
        found = []
        for place, rows in enumerate(several):
            mixed = rng.permutation(rows)
            for start in range(0, len(mixed), size):
                part = mixed[start : start + size]
                while len(part) < size:  # filled up with others of the class, or its own again
                    others = np.setdiff1d(rows, part)
                    others = others if len(others) else rows
                    part = np.append(part, rng.permutation(others)[: size - len(part)])
                found.append((place, part))
        for index in rng.permutation(len(found)):
            yield found[index]


def _distinct(
    groups: Iterator[tuple[int, np.ndarray]], num_classes: int, count: int | None = None
) -> list[tuple[int, np.ndarray]]:
    """``count`` groups (default: ``num_classes``) of as many classes as there are; none comes twice before all did."""
    chosen: list[tuple[int, np.ndarray]] = []
    seen: set[int] = set()
    while len(chosen) < (num_classes if count is None else count):
        place, group = next(groups)
        if place in seen:
            continue
        chosen.append((place, group))
        seen.add(place)
        if len(seen) == num_classes:
            seen.clear()
    return chosen
