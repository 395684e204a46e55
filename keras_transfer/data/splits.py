"""Train, validation and test: stratified, seeded, and never with one group (or one image) on two sides.

The unit that is dealt out is a group together with every byte-identical copy of its images, so
duplicates cannot leak. Units are ordered by a hash of the seed and of their own content: neither the
order of the rows nor where the images lie matters.

The dealing is iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of
Multi-Label Data, ECML PKDD 2011): rarest label first, each unit to the split that lacks most of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_transfer.data.labels import Labels
from keras_transfer.data.table import SPLITS
from keras_transfer.errors import DataError, UsageError
from keras_transfer.hashing import sha256_of

logger = logging.getLogger("keras_transfer")


def require_fractions(val_fraction: float, test_fraction: float) -> None:
    """Both from 0 to 1 and together at most 1 (exactly 1: no training split), or ``UsageError``."""
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"{name} is {value!r}; expected a share from 0 to 1.")
    if val_fraction + test_fraction > 1 + 1e-9:
        raise UsageError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} together exceed 1: "
            "nothing is left to train."
        )


def make_splits(
    labels: Labels,
    sha256: Sequence[str],
    groups: np.ndarray | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> np.ndarray:
    """Deal all rows out.

    Every class of single images gets within one image of its share of val and test; a class with at least
    three units gets one in each split (where groups allow), and train gets at least one of every class.

    Returns:
        str (N,) of ``train``, ``val``, ``test``.
    """
    shares = {"train": max(0.0, 1 - val_fraction - test_fraction), "test": test_fraction, "val": val_fraction}
    shares = {split: share for split, share in shares.items() if share > 1e-9}
    unit_of_row = units_of(sha256, [] if groups is None else [groups], seed)
    placed = _deal(_contents(labels, unit_of_row), shares)
    return np.array(list(shares), dtype="<U5")[placed[unit_of_row]]


def complete_splits(
    given: np.ndarray,
    labels: Labels,
    sha256: Sequence[str],
    groups: np.ndarray | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    make: Callable[..., np.ndarray] | None = None,
    torn_groups: bool = False,
) -> np.ndarray:
    """Keep the user's splits; carve out of train the ones of val and test that have no rows.

    The fractions are then shares of the given train split. Identical images on both sides of the user's
    splits are counted in a warning; a group on both sides is a ``DataError``, unless ``torn_groups``. ``make`` carves;
    by default :func:`make_splits`.
    """
    _check_given(given, sha256, None if torn_groups else groups)
    missing_val, missing_test = (not (given == split).any() for split in ("val", "test"))
    pool = np.flatnonzero(given == "train")
    if not len(pool) or not (missing_val or missing_test):
        return given
    result = given.copy()
    result[pool] = (make or make_splits)(
        labels.take(pool),
        [sha256[i] for i in pool.tolist()],
        None if groups is None else groups[pool],
        val_fraction=val_fraction if missing_val else 0.0,
        test_fraction=test_fraction if missing_test else 0.0,
        seed=seed,
    )
    return result


def _check_given(given: np.ndarray, sha256: Sequence[str], groups: np.ndarray | None) -> None:
    sides: dict[str, set[str]] = {}
    for digest, split in zip(sha256, given.tolist(), strict=True):
        sides.setdefault(digest, set()).add(split)
    leaking = sum(len(splits) > 1 for splits in sides.values())
    if leaking:
        logger.warning(
            "%d identical images are in more than one of the given splits; scores on them mean little",
            leaking,
        )
    if groups is None:
        return
    by_group: dict[str, set[str]] = {}
    for group, split in zip(groups.tolist(), given.tolist(), strict=True):
        by_group.setdefault(group, set()).add(split)
    torn = sorted(group for group, splits in by_group.items() if len(splits) > 1)
    if torn:
        raise DataError(
            f"{len(torn)} groups are in more than one of the given splits, such as {torn[0]!r} in "
            f"{' and '.join(s for s in SPLITS if s in by_group[torn[0]])}. A group must stay on one side: "
            "correct the split column, or leave it out to have the splits made."
        )


@dataclass(frozen=True, eq=False)
class _Contents:
    """What the units hold, sparse: unit ``u`` has ``counts[j]`` images of stratum ``strata[j]`` for the
    ``j`` from ``starts[u]`` to ``starts[u + 1]``."""

    starts: np.ndarray
    strata: np.ndarray
    counts: np.ndarray
    size: int  # how many strata there are

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.starts[unit], self.starts[unit + 1])
        return self.strata[part], self.counts[part]


def _contents(labels: Labels, unit_of_row: np.ndarray) -> _Contents:
    """What is to be spread evenly: classes; for regression, up to 10 quantile bins a target."""
    n = len(unit_of_row)
    if labels.label_mode == "classes":
        rows, strata, size = np.arange(n), labels.values.astype(np.int64), len(labels.classes)
    elif labels.label_mode == "multilabel":  # the last stratum: images without any label
        values = np.hstack([labels.values > 0, ~(labels.values > 0).any(axis=1, keepdims=True)])
        rows, strata = np.nonzero(values)
        size = values.shape[1]
    else:
        bins = max(1, min(10, n // 5))
        columns = []
        for t, target in enumerate(labels.values.T):
            edges = np.quantile(target, np.linspace(0, 1, bins + 1)[1:-1])
            columns.append(t * bins + np.searchsorted(edges, target, side="right"))
        rows, strata, size = np.tile(np.arange(n), len(columns)), np.concatenate(columns), len(columns) * bins
    pairs, counts = np.unique(unit_of_row[rows] * size + strata, return_counts=True)
    starts = np.searchsorted(pairs // size, np.arange(unit_of_row.max() + 2))
    return _Contents(starts, pairs % size, counts, size)


def units_of(sha256: Sequence[str], columns: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """int (N,): the unit of each row. Rows of one hash, or of one value in any of ``columns`` (each (N,), such as a
    group), transitively, are a unit; units are numbered in the seed's own order."""
    joined = [_first_alike(sha256), *(_first_alike(column.tolist()) for column in columns)]
    own = np.unique(joined[0] if len(joined) == 1 else _connected(joined), return_inverse=True)[1]
    least: list[str] = [""] * (int(own.max(initial=-1)) + 1)
    for unit, digest in zip(own.tolist(), sha256, strict=True):
        if not least[unit] or digest < least[unit]:
            least[unit] = digest
    keys = b"".join(bytes.fromhex(sha256_of(f"{seed}:{digest}".encode())) for digest in least)
    parts = np.frombuffer(keys, ">u8").reshape(-1, 4)
    number = np.empty(len(least), np.int64)
    number[np.lexsort(parts.T[::-1])] = np.arange(len(least))
    return number[own]


def _first_alike(values: Sequence[Any]) -> np.ndarray:
    """int (N,): the first row that has the value of each row."""
    first: dict[Any, int] = {}
    return np.fromiter((first.setdefault(value, i) for i, value in enumerate(values)), np.int64, len(values))


def _connected(links: Sequence[np.ndarray]) -> np.ndarray:
    """int (N,): the component of each row, where each array (N,) links a row to another."""
    count = len(links[0])
    ends = (np.tile(np.arange(count), len(links)), np.concatenate(links))
    return connected_components(
        coo_array((np.ones(len(ends[0]), bool), ends), (count, count)), directed=False
    )[1]


def _deal(contents: _Contents, shares: dict[str, float]) -> np.ndarray:
    """int (U,): the split of each unit, as an index into ``shares``."""
    totals = np.bincount(contents.strata, contents.counts, contents.size).astype(np.int64)
    holders = np.bincount(contents.strata, minlength=contents.size)
    targets = _targets(totals, holders, list(shares.values()))
    unit_of_pair = np.repeat(np.arange(len(contents)), np.diff(contents.starts))
    by_rarity = np.lexsort((np.arange(len(unit_of_pair)), totals[contents.strata], unit_of_pair))
    rarest = contents.strata[by_rarity[contents.starts[:-1]]]
    sizes = np.add.reduceat(contents.counts, contents.starts[:-1])
    order = np.lexsort((np.arange(len(contents)), -sizes, rarest, totals[rarest]))
    placed = np.zeros(len(contents), np.int64)
    # One unit after the other: plain lists are several times as fast as arrays of three.
    wishes, all_needs = targets.T.tolist(), targets.sum(axis=1).astype(float).tolist()
    needs = targets.T.astype(float).tolist()
    starts, strata, counts = contents.starts.tolist(), contents.strata.tolist(), contents.counts.tolist()
    for u, rare, size in zip(order.tolist(), rarest[order].tolist(), sizes[order].tolist(), strict=True):
        best = None
        for k, (wish, need) in enumerate(zip(wishes[rare], needs[rare], strict=True)):
            lacking = (need / wish if wish else need - 1, all_needs[k])
            if best is None or lacking > best:
                best, chosen = lacking, k
        placed[u] = chosen
        for pair in range(starts[u], starts[u + 1]):
            needs[strata[pair]][chosen] -= counts[pair]
        all_needs[chosen] -= size
    if "train" in shares:  # the first split: no stratum may be missing there
        trained = np.zeros(contents.size, bool)
        trained[contents.strata[placed[unit_of_pair] == 0]] = True
        for s in np.flatnonzero((totals > 0) & ~trained).tolist():
            if not trained[s]:
                smallest = min(unit_of_pair[contents.strata == s].tolist(), key=lambda u: (sizes[u], u))
                placed[smallest] = 0
                trained[contents.of(smallest)[0]] = True
    return placed


def _targets(totals: np.ndarray, units: np.ndarray, shares: list[float]) -> np.ndarray:
    """int (splits, S): images of each stratum every split should get; a column adds up to the stratum.

    ``totals`` (S,) are the images and ``units`` (S,) the units that hold a stratum.
    """
    targets = np.zeros((len(shares), len(totals)), np.int64)
    one = (units >= 3).astype(np.int64)
    least = [np.maximum(np.floor(totals * share + 1e-9).astype(np.int64), one) for share in shares]
    for k in range(1, len(shares)):  # the first one, train where there is one, takes the rest, at least 1
        wanted = np.maximum(_rounded(totals * shares[k]), one)
        room = np.maximum(totals - 1 - targets[1:k].sum(axis=0), 0)
        # What is rounded up here must not come out of what the next ones cannot do without.
        spare = room - sum(least[k + 1 :])
        targets[k] = np.minimum(wanted, np.maximum(spare, np.minimum(one, room)))
    targets[0] = totals - targets[1:].sum(axis=0)
    return targets


def _rounded(exact: np.ndarray) -> np.ndarray:
    """Whole numbers, each its neighbour below or above, that add up to the rounded sum (largest remainder)."""
    whole = np.floor(exact + 1e-9).astype(np.int64)
    missing = int(np.floor(exact.sum() + 0.5)) - int(whole.sum())
    for s in sorted(range(len(exact)), key=lambda s: (whole[s] - exact[s], s))[: max(0, missing)]:
        whole[s] += 1
    return whole
