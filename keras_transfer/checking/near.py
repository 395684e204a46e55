"""Near-duplicates: one photograph in another size, format, crop, light or mirrored, and bursts.

Candidates are the nearest by the cosine of features and by small grey pictures, as they are and mirrored. A candidate
is confirmed where one picture laid over the other has the same fine detail (``registration.py``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from keras_transfer.checking.registration import MOST_PAIRS, likeness
from keras_transfer.data.threads import ordered_map
from keras_transfer.progress import track

CONFIRMED = 0.9
"""Correlation of the fine detail from which two pictures are one, where different ones are unlike."""
UNLIKE = 0.4
"""Where the middle candidate of an image is more like it than this, pictures of one thing are the rule (parts on a
line, cells of solar modules), and a pair has to be ten times nearer to equal than that."""
_NEARER = 0.1
NEAREST = 4
"""Candidates of each image, by each of the three comparisons."""
_COARSE = 16
_ALIKE = 0.75  # coarse correlation or centred cosine, below which a candidate is not looked at
_BLOCK = 1024


@dataclass(frozen=True)
class Pair:
    """Two rows of a table, ``first < second``, and how alike they are, up to 1."""

    first: int
    second: int
    likeness: float


def nearest(values: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``others`` of the largest product with each row; never the row of the same number.

    Args:
        values, others: float32 ``(N, D)``, of unit length: the product is the cosine.

    Returns:
        Cosines float32 ``(N, k)``, the nearest first, and rows int ``(N, k)``; k is at most N - 1. A block of rows is
        compared at a time.
    """
    k = min(k, len(values) - 1)
    cosines, rows = np.empty((len(values), k), np.float32), np.empty((len(values), k), np.int64)
    if not k:
        return cosines, rows
    for at in range(0, len(values), _BLOCK):
        block = values[at : at + _BLOCK] @ others.T
        own = np.arange(len(block))
        block[own, at + own] = -2
        some = np.argpartition(-block, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(block, some, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        cosines[at : at + _BLOCK] = np.take_along_axis(found, order, axis=1)
        rows[at : at + _BLOCK] = np.take_along_axis(some, order, axis=1)
    return cosines, rows


def near_pairs(directions: np.ndarray, small: np.ndarray, sha256: tuple[str, ...]) -> list[Pair]:
    """All confirmed pairs of different files, the most alike first.

    Args:
        directions: float32 ``(N, D)``: features without their mean, of unit length.
        small: uint8 ``(N, S, S)``, grey.
        sha256: ``(N,)``; equal files are no near-duplicates.
    """
    if len(small) < 2:
        return []
    mirrored: dict[tuple[int, int], bool] = {}
    plain, turned = _coarse(small), _coarse(small[:, :, ::-1])
    for values, others in ((directions, directions), (plain, plain), (turned, plain)):
        cosines, rows = nearest(values, others, NEAREST)
        for one, place in zip(*np.nonzero(cosines >= _ALIKE), strict=True):
            other = int(rows[one, place])
            if sha256[one] != sha256[other]:
                mirrored[min(int(one), other), max(int(one), other)] = False
    if not mirrored:
        return []
    pairs = np.array(sorted(mirrored))
    flipped = (turned[pairs[:, 0]] * plain[pairs[:, 1]]).sum(1) > (
        plain[pairs[:, 0]] * plain[pairs[:, 1]]
    ).sum(1)
    blocks = range(0, len(pairs), MOST_PAIRS)

    def confirm(at: int) -> np.ndarray:
        part = slice(at, at + MOST_PAIRS)
        first, second = small[pairs[part, 0]].copy(), small[pairs[part, 1]]
        first[flipped[part]] = first[flipped[part]][:, :, ::-1]
        return likeness(first, second)

    found = np.concatenate(list(track(ordered_map(confirm, blocks, ahead=4), "Comparing", len(blocks))))
    kept = [
        Pair(int(one), int(other), float(score))
        for (one, other), score, least in zip(pairs, found, _least(pairs, found), strict=True)
        if score >= least
    ]
    return sorted(kept, key=lambda pair: (-pair.likeness, pair.first, pair.second))


def _least(pairs: np.ndarray, found: np.ndarray) -> np.ndarray:
    """From which likeness each pair ``(n, 2)`` is one picture, ``(n,)``, by the other candidates of its images."""
    by_row: dict[int, list[int]] = defaultdict(list)
    for place, rows in enumerate(pairs.tolist()):
        for row in rows:
            by_row[row].append(place)

    def usual(row: int, place: int) -> float:
        others = [float(found[one]) for one in by_row[row] if one != place]
        return float(np.median(others)) if len(others) > 2 else 0.0

    middle = np.array([max(usual(row, place) for row in rows) for place, rows in enumerate(pairs.tolist())])
    return np.where(middle <= UNLIKE, CONFIRMED, 1 - _NEARER * (1 - middle))


def clusters(pairs: list[Pair]) -> list[list[int]]:
    """Rows that are joined by pairs, each cluster ascending, in the order of their first rows."""
    above: dict[int, int] = {}

    def top(row: int) -> int:
        above.setdefault(row, row)
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    for pair in pairs:
        one, other = sorted((top(pair.first), top(pair.second)))
        above[other] = one
    members: dict[int, list[int]] = defaultdict(list)
    for row in sorted(above):
        members[top(row)].append(row)
    return [members[first] for first in sorted(members)]


def directions_of(features: np.ndarray) -> np.ndarray:
    """Features without their mean, of unit length, float32 ``(N, D)``."""
    return normalize(features - features.mean(axis=0)).astype(np.float32, copy=False)


def _coarse(small: np.ndarray) -> np.ndarray:
    """Pictures of 16 x 16 without what all have in common, of unit length, float32 ``(N, 256)``."""
    count, side = small.shape[:2]
    step = side // _COARSE
    values = small.reshape(count, _COARSE, step, _COARSE, step).mean(axis=(2, 4), dtype=np.float32)
    values = values.reshape(count, -1)
    values -= values.mean(axis=1, keepdims=True)
    return normalize(values)
