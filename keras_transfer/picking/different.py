"""No two picks that show the same, and none that shows what a training image shows: chosen, looked at, chosen again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from keras_transfer.checking.candidates import NEAREST
from keras_transfer.checking.near import near_pairs
from keras_transfer.checking.pictures import Closer, small_pictures
from keras_transfer.data import ImageTable
from keras_transfer.picking.choosing import Unlabelled, choose


class Pictures:
    """Looks for near-duplicates among picks and training images; each picture is decoded once.

    Args:
        table: the unlabelled images. values: float32 ``(N, D)``, their features, of unit length.
        learned: the training images, None: they cannot be read. labelled: float32 ``(M, D)``, theirs.
    """

    def __init__(
        self, table: ImageTable, values: np.ndarray, learned: ImageTable | None, labelled: np.ndarray
    ) -> None:
        self._table, self._values = table, values
        self._learned, self._labelled = learned, labelled
        self._closest = [None if one is None else Closer(one) for one in (table, learned)]
        self._small: tuple[dict[int, np.ndarray], dict[int, np.ndarray]] = ({}, {})

    def alike(self, kept: np.ndarray, new: np.ndarray) -> set[int]:
        """Of the rows ``new``, in their order, those that show what ``kept``, one before or a training image shows."""
        rows = np.concatenate([kept, new])
        near = self._neighbours(new)
        values = np.concatenate([self._values[rows], self._labelled[near]])
        small = self._pictures(self._table, rows, 0)
        sha256 = [self._table.sha256[row] for row in rows]
        if self._learned is not None and len(near):
            small = np.concatenate([small, self._pictures(self._learned, near, 1)])
            sha256 += [self._learned.sha256[row] for row in near]
        others: dict[int, set[int]] = {}
        for pair in near_pairs(values, small, tuple(sha256), self._closer(rows, near)):
            others.setdefault(pair.first, set()).add(pair.second)
            others.setdefault(pair.second, set()).add(pair.first)
        taken = {*range(len(kept)), *range(len(rows), len(values))}
        found = set()
        for place in range(len(kept), len(rows)):
            if others.get(place, set()) & taken:
                found.add(int(rows[place]))
            else:
                taken.add(place)
        return found

    def _neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Training images that are nearest to some of the rows."""
        if not len(self._labelled):
            return np.empty(0, np.int64)
        cosines = self._values[rows] @ self._labelled.T
        most = min(NEAREST, cosines.shape[1])
        return np.unique(np.argpartition(-cosines, most - 1, axis=1)[:, :most])

    def _closer(
        self, rows: np.ndarray, near: np.ndarray
    ) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Larger pictures of places among ``rows`` of the unlabelled images, and after them ``near`` of the others."""
        tables = [0] * len(rows) + [1] * len(near)
        places = np.concatenate([rows, near]).tolist()

        def closer(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = []
            for place in asked.tolist():
                one = self._closest[tables[place]]
                assert one is not None
                found.append(one(np.array([places[place]])))
            return np.concatenate([pictures for pictures, _ in found]), np.concatenate(
                [side for _, side in found]
            )

        return closer

    def _pictures(self, table: ImageTable, rows: Iterable[int], which: int) -> np.ndarray:
        known = self._small[which]
        todo = [int(row) for row in rows if int(row) not in known]
        known.update(zip(todo, small_pictures(table, np.array(todo, np.int64)), strict=True))
        return np.stack([known[int(row)] for row in rows])


def choose_different(
    pictures: Pictures, images: Unlabelled, by: str, count: int, *, candidates: int, seed: int
) -> tuple[np.ndarray, int]:
    """Rows as :func:`keras_transfer.picking.choosing.choose` gives them, without those that show the same.

    What is left out is replaced by others as long as there are any.

    Returns:
        Rows int64, at most ``count``, and how many were left out.
    """
    kept, left, passed = np.empty(0, np.int64), np.ones(len(images.values), bool), 0
    while len(kept) < count and left.any():
        free = np.flatnonzero(left)
        some = (images.beside(kept) if len(kept) else images).take(free)
        chosen = choose(some, by, min(count - len(kept), len(free)), candidates=candidates, seed=seed)
        if images.doubt is not None and by != "spread":  # of two that are alike the more doubtful one stays
            chosen = chosen[np.argsort(-some.doubt[chosen], kind="stable")]  # type: ignore[index]
        new = free[chosen]
        left[new] = False
        alike = pictures.alike(kept, new)
        kept = np.concatenate([kept, [row for row in new if int(row) not in alike]]).astype(np.int64)
        passed += len(alike)
    return kept, passed
