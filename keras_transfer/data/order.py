"""In which order images are learned from: a function of the seed and the epoch alone.

Whatever feeds a training (pixels, or cached activations) takes its rows from here, so that both see the same images
in the same batches, and a training taken up at epoch ``e`` goes on as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_transfer.errors import UsageError

Order = Callable[[np.ndarray, int, int], np.ndarray]
"""``(rows, seed, epoch)`` to the rows of that epoch, batch by batch: of its own, such as P classes x K images."""
Sampling = Sequence[float] | np.ndarray | Order | None
"""How rows are drawn; see :func:`epoch_rows`."""


def epoch_rows(
    rows: np.ndarray,
    seed: int,
    epoch: int,
    shuffle: bool,
    sampling: Sampling = None,
) -> np.ndarray:
    """The rows of one epoch, in order.

    Args:
        rows: int (n,), what is learned from.
        seed: together with ``epoch`` it decides everything.
        epoch: its number, from 0.
        shuffle: a permutation of ``rows``; False leaves them as they are.
        sampling: float (n,), at least 0, in proportion to how often each row is to be drawn: as many rows as before,
            with replacement. ``shuffle`` is implied. Or a function that gives the rows of an epoch.

    Returns:
        int (n,), or what the function gives.

    Raises:
        UsageError: a sampling of another length, negative, infinite or all 0.
    """
    if callable(sampling):
        return sampling(rows, seed, epoch)
    generator = np.random.default_rng((seed, epoch))
    if sampling is not None and len(rows):
        return generator.choice(rows, len(rows), p=_chances(sampling, len(rows)))
    return generator.permutation(rows) if shuffle else rows


def _chances(sampling: Any, count: int) -> np.ndarray:
    chances = np.asarray(sampling, np.float64)
    if chances.shape != (count,):
        raise UsageError(f"sampling has the shape {chances.shape}; ({count},), one per row, is expected.")
    if not (np.all(np.isfinite(chances)) and chances.min() >= 0 and chances.sum() > 0):
        raise UsageError("sampling must hold finite numbers of at least 0, one of them above 0.")
    return chances / chances.sum()


def row_numbers(indices: Sequence[int] | np.ndarray | None, count: int) -> np.ndarray:
    """``indices`` as int64 (n,); all of ``count`` rows when None.

    Raises:
        UsageError: not a list of whole numbers from 0 to ``count - 1``.
    """
    if indices is None:
        return np.arange(count, dtype=np.int64)
    rows = np.asarray(indices)
    whole = rows.ndim == 1 and (rows.size == 0 or rows.dtype.kind in "iu")
    if not whole or (rows.size and not (rows.min() >= 0 and rows.max() < count)):
        raise UsageError(f"Row numbers from 0 to {count - 1} are expected, not {indices!r:.80}.")
    return rows.astype(np.int64)
