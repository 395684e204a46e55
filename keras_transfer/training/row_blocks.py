"""Feature tables that a regression learns from: one in memory, or one that is read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from keras_transfer.training.standardising import floored

BLOCK = 8192
"""Rows that are read together: 42 MB of 1,280 features."""


class FeatureRows(Protocol):
    """Rows ``z (n, D)`` in blocks, and their products."""

    shape: tuple[int, int]
    dtype: np.dtype

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Which rows, and what :meth:`times` and :meth:`back` take for them, ``(m, D)``."""
        ...

    def times(self, block: np.ndarray, w: np.ndarray) -> np.ndarray:
        """``z w``, ``(m, K)``, for ``w`` ``(D, K)``."""
        ...

    def back(self, block: np.ndarray, r: np.ndarray) -> np.ndarray:
        """``z' r``, ``(D, K)``, for ``r`` ``(m, K)``."""
        ...

    def squares(self, block: np.ndarray) -> np.ndarray:
        """``|z|^2`` of each row, ``(m,)``."""
        ...


class Whole:
    """All rows in memory, as they are."""

    def __init__(self, z: np.ndarray) -> None:
        self.z = z
        self.shape: tuple[int, int] = (len(z), z.shape[1])
        self.dtype = z.dtype

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """One block."""
        yield slice(None), self.z

    def times(self, block: np.ndarray, w: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`."""
        return block @ w

    def back(self, block: np.ndarray, r: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`."""
        return block.T @ r

    def squares(self, block: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`."""
        return (block * block).sum(axis=1)


class StandardisedBlocks:
    """Rows of a table that may lie on disk, standardised by what they are multiplied with: nothing of it is copied.

    Args:
        features: float32 ``(N, D)``, such as a memory map.
        rows: int ``(n,)``, ascending. Where they follow one another, blocks are views.
        weight: float ``(n,)``: what rows count in mean and deviation.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> None:
        self._features, self._rows = features, rows
        self.shape: tuple[int, int] = (len(rows), features.shape[1])
        self.dtype = np.dtype(np.float32)
        self._joined = len(rows) > 0 and int(rows[-1] - rows[0]) == len(rows) - 1
        share = (weight / weight.sum())[:, np.newaxis]
        # By differences from the first row: where a mean is far from 0, squares alone would lose the deviation.
        first = np.asarray(features[rows[0]], np.float64)
        total, squares = np.zeros(self.shape[1]), np.zeros(self.shape[1])
        for part, block in self.blocks():
            off = block - first
            total += (share[part] * off).sum(axis=0)
            squares += (share[part] * off * off).sum(axis=0)
        self.mean = first + total
        self.variance = np.maximum(squares - total * total, 0.0)
        self.deviation = floored(self.variance)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Plain features, :data:`BLOCK` rows at a time."""
        for start in range(0, len(self._rows), BLOCK):
            part = slice(start, min(start + BLOCK, len(self._rows)))
            if self._joined:
                first = int(self._rows[0])
                yield part, np.asarray(self._features[first + part.start : first + part.stop])
            else:
                yield part, np.asarray(self._features[self._rows[part]])

    def times(self, block: np.ndarray, w: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`; the standardised rows' product."""
        plain = w / self.deviation[:, np.newaxis]
        return block @ plain.astype(np.float32) - (self.mean @ plain).astype(np.float32)

    def back(self, block: np.ndarray, r: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`; the standardised rows' product."""
        plain = (block.T @ r).astype(np.float64) - np.outer(self.mean, r.sum(axis=0, dtype=np.float64))
        return plain / self.deviation[:, np.newaxis]

    def squares(self, block: np.ndarray) -> np.ndarray:
        """See :class:`FeatureRows`; of the standardised rows."""
        z = (block - self.mean.astype(np.float32)) / self.deviation.astype(np.float32)
        return (z * z).sum(axis=1)
