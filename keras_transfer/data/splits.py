"""Train, validation and test: stratified, seeded, and never with one group (or one image) on two sides.

The unit that is dealt out is a group together with every byte-identical copy of its images, so
duplicates cannot leak. Units are ordered by a hash of the seed and of their own content: neither the
order of the rows nor where the images lie matters.

The dealing is iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of
Multi-Label Data, ECML PKDD 2011): rarest label first, each unit to the split that lacks most of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import numpy as np

from keras_transfer.data.labels import Labels
from keras_transfer.data.table import SPLITS
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")


def require_fractions(val_fraction: float, test_fraction: float) -> None:
    """Both from 0 to 1 and together at most 1 (exactly 1: no training split), or ``UsageError``."""
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"{name} is {value!r}; expected a share from 0 to 1.")
    if val_fraction + test_fraction > 1 + 1e-9:
        raise UsageError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} together exceed 1; nothing is left to train."
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
    strata = _strata(labels)
    shares = {"train": max(0.0, 1 - val_fraction - test_fraction), "test": test_fraction, "val": val_fraction}
    shares = {split: share for split, share in shares.items() if share > 1e-9}
    units = _units(sha256, groups, seed)
    content = np.zeros((len(units), strata.shape[1]), np.int64)
    for u, rows in enumerate(units):
        content[u] = strata[rows].sum(axis=0)
    placed = _deal(content, shares)
    result = np.empty(len(sha256), dtype="<U5")
    for u, rows in enumerate(units):
        result[rows] = list(shares)[placed[u]]
    return result


def complete_splits(
    given: np.ndarray,
    labels: Labels,
    sha256: Sequence[str],
    groups: np.ndarray | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> np.ndarray:
    """Keep the user's splits; carve out of train the ones of val and test that have no rows.

    The fractions are then shares of the given train split. Identical images on both sides of the user's
    splits are counted in a warning; a group on both sides is a ``DataError``.
    """
    _check_given(given, sha256, groups)
    missing_val, missing_test = (not (given == split).any() for split in ("val", "test"))
    pool = np.flatnonzero(given == "train")
    if not len(pool) or not (missing_val or missing_test):
        return given
    result = given.copy()
    result[pool] = make_splits(
        labels.take(pool),
        [sha256[i] for i in pool],
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
            "%d images lie byte for byte in more than one of the given splits; the scores on them say little",
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
            f"{' and '.join(s for s in SPLITS if s in by_group[torn[0]])}. A group must stay on one side: correct "
            "the split column, or leave it out to have the splits made."
        )


def _strata(labels: Labels) -> np.ndarray:
    """int (N, S): what is to be spread evenly. Classes; for regression up to 10 quantile bins of every target."""
    if labels.kind != "regression":
        strata = labels.membership()
        return strata if labels.kind == "classes" else np.hstack([strata, ~strata.any(axis=1, keepdims=True)])
    n = len(labels.values)
    bins = max(1, min(10, n // 5))
    columns = []
    for target in labels.values.T:
        edges = np.quantile(target, np.linspace(0, 1, bins + 1)[1:-1])
        columns.append(np.searchsorted(edges, target, side="right")[:, np.newaxis] == np.arange(bins))
    return np.hstack(columns)


def _units(sha256: Sequence[str], groups: np.ndarray | None, seed: int) -> list[np.ndarray]:
    """Rows that must stay together (same hash or same group, transitively), in the seed's own order."""
    parent = list(range(len(sha256)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, digest in enumerate(sha256):
        keys = [("sha256", digest)] + ([] if groups is None else [("group", str(groups[i]))])
        for key in keys:
            j = first.setdefault(key, i)
            parent[find(i)] = find(j)
    members: dict[int, list[int]] = {}
    for i in range(len(sha256)):
        members.setdefault(find(i), []).append(i)

    def order(rows: list[int]) -> str:
        return hashlib.sha256(f"{seed}:{min(sha256[i] for i in rows)}".encode()).hexdigest()

    return [np.array(rows) for rows in sorted(members.values(), key=order)]


def _targets(content: np.ndarray, shares: dict[str, float]) -> np.ndarray:
    """int (splits, S): how many images of each stratum every split should get; columns add up to the stratum."""
    totals = content.sum(axis=0)
    units = (content > 0).sum(axis=0)
    names = list(shares)
    targets = np.zeros((len(names), len(totals)), np.int64)
    for s in range(len(totals)):
        wanted = [int(np.floor(totals[s] * shares[name] + 0.5)) for name in names]
        if units[s] >= 3:
            wanted = [max(1, count) for count in wanted]
        for k in range(
            1, len(names)
        ):  # the first split (train, where there is one) takes the rest, at least 1
            kept_back = 1 if shares[names[0]] > 0 else 0
            left = totals[s] - kept_back - targets[1:k, s].sum()
            targets[k, s] = max(0, min(wanted[k], left))
        targets[0, s] = totals[s] - targets[1:, s].sum()
    return targets


def _deal(content: np.ndarray, shares: dict[str, float]) -> np.ndarray:
    """int (U,): the split of each unit, given the images (U, S) of each stratum it holds."""
    targets = _targets(content, shares)
    needs = targets.astype(float)
    totals = content.sum(axis=0)
    sizes = content.sum(axis=1)
    rarest = [min(np.flatnonzero(row), key=lambda s: (totals[s], s)) for row in content]
    order = sorted(range(len(content)), key=lambda u: (totals[rarest[u]], rarest[u], -sizes[u], u))
    placed = np.zeros(len(content), np.int64)
    for u in order:
        s = rarest[u]
        lacking = [
            (needs[k, s] / targets[k, s] if targets[k, s] else needs[k, s] - 1, needs[k].sum(), -k)
            for k in range(len(shares))
        ]
        placed[u] = max(range(len(shares)), key=lambda k: lacking[k])
        needs[placed[u]] -= content[u]
    if "train" in shares:  # the first split: no stratum may be missing there
        for s in range(content.shape[1]):
            holders = np.flatnonzero(content[:, s] > 0)
            if len(holders) and not (placed[holders] == 0).any():
                placed[min(holders, key=lambda u: (sizes[u], u))] = 0
    return placed
