"""Near-duplicates: one photograph in another size, format, crop, light or mirrored, and bursts.

Candidates (``candidates.py``) are laid over each other and compared in their fine detail (``registration.py``), the
likeliest with more and more pixels. Where an image's candidates are much alike, so that the detail of 64 x 64 pixels
tells little, the files are decoded again and 128 x 128 pixels decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.preprocessing import normalize

from keras_transfer.checking.candidates import Candidates, candidates_of
from keras_transfer.checking.candidates import nearest as nearest
from keras_transfer.checking.registration import MOST_PAIRS, SAME, detail, laid_over, likeness
from keras_transfer.data.threads import ordered_map
from keras_transfer.progress import track

Closer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Gives larger pictures of rows, uint8 ``(n, T, T)``, and the pixels of the images' shorter sides, ``(n,)``."""

CONFIRMED = 0.9
"""Likeness from which two pictures are one, where different ones are unlike."""
UNLIKE = 0.4
"""Where the middle candidate of an image is more like it than this, pictures of one thing are the rule (parts on a
line, cells of solar modules)."""
CLOSELY = 0.94
"""Likeness of larger pictures from which two such images are one. Chosen on every second solar cell."""
_NEARER = 0.1
"""Without larger pictures a pair of such has to be ten times nearer to equal than the middle candidate."""
LIKELIEST = 4
"""Candidates of an image that are compared with all pixels."""
_LIKELY = 0.8, 0.93  # likeness by a quarter of the pixels, and by all, from which the next comparison is made
_STEPS = 8, 6, 4
_LEAST_SIDE = 90  # pixels of an image of which a larger picture shows more


@dataclass(frozen=True)
class Pair:
    """Two rows of a table, ``first < second``, and how alike they are, up to 1."""

    first: int
    second: int
    likeness: float


def near_pairs(
    directions: np.ndarray, small: np.ndarray, sha256: tuple[str, ...], closer: Closer | None = None
) -> list[Pair]:
    """All confirmed pairs of different files, the most alike first.

    Args:
        directions: float32 ``(N, D)``: features without their mean, of unit length.
        small: uint8 ``(N, S, S)``, grey.
        sha256: ``(N,)``; equal files are no near-duplicates.
        closer: larger pictures, for images that are much alike (``pictures.Closer``). Without it crops and turns of
            such images are missed, rather than others taken for copies.
    """
    if len(small) < 2:
        return []
    candidates = candidates_of(directions, small, sha256)
    if not len(candidates):
        return []
    rough = _compared("Comparing", candidates, lambda rows: _halved(small[rows]), _STEPS[0], again=True)
    middle, place = _standing(rough)
    likely = (rough.likeness >= _LIKELY[0]) & (place < LIKELIEST)
    middle = middle[likely]
    found = _compared("Looking closer", rough.of(likely), lambda rows: small[rows], _STEPS[1])
    alike = middle > UNLIKE
    least = np.where(alike, 1 - _NEARER * (1 - middle), CONFIRMED)
    if closer is None:
        return _pairs(found, found.likeness >= least)
    sides = np.full(len(small), -1)

    def larger(rows: np.ndarray) -> np.ndarray:
        pictures, sides[rows] = closer(rows)
        return pictures

    open_ = alike & (found.likeness >= _LIKELY[1])
    looked = _compared("Looking closest", found.of(open_), larger, _STEPS[2])
    shows = sides[looked.pairs].min(axis=1) >= _LEAST_SIDE
    score, sure = found.likeness.copy(), found.likeness >= least
    score[open_] = np.where(shows, looked.likeness, score[open_])
    sure[open_] = np.where(shows, looked.likeness >= CLOSELY, sure[open_])
    return _pairs(replace(found, likeness=score), sure)


def _pairs(found: Candidates, sure: np.ndarray) -> list[Pair]:
    kept = found.of(sure)
    pairs = [
        Pair(one, other, score)
        for (one, other), score in zip(kept.pairs.tolist(), kept.likeness.tolist(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.likeness, pair.first, pair.second))


def _compared(
    what: str,
    candidates: Candidates,
    pictures: Callable[[np.ndarray], np.ndarray],
    steps: int,
    again: bool = False,
) -> Candidates:
    """The candidates with better maps, and how alike they are.

    Args:
        pictures: gives those of rows.
        steps: to make the maps better.
        again: begin from the map of sameness, too, and take what fits better.
    """

    def compare(at: int) -> tuple[np.ndarray, np.ndarray]:
        part = candidates.of(slice(at, at + MOST_PAIRS))
        rows, place = np.unique(part.pairs, return_inverse=True)
        some = pictures(rows)
        fine = detail(some)
        place = place.reshape(-1, 2)
        first, second = some[place[:, 0]], some[place[:, 1]]
        one, other = fine[place[:, 0]], fine[place[:, 1]]
        first[part.mirrored] = first[part.mirrored][:, :, ::-1]
        one[part.mirrored] = one[part.mirrored][:, :, ::-1]
        maps = laid_over(first, second, part.maps, steps)
        found = likeness(one, other, maps)
        moved = np.flatnonzero((part.maps != SAME).any(axis=(1, 2))) if again else ()
        if len(moved):
            from_same = np.tile(SAME, (len(moved), 1, 1))
            others = laid_over(first[moved], second[moved], from_same, steps)
            scores = likeness(one[moved], other[moved], others)
            better = scores > found[moved]
            maps[moved[better]], found[moved[better]] = others[better], scores[better]
        return maps, found

    blocks = range(0, len(candidates), MOST_PAIRS)
    parts = list(track(ordered_map(compare, blocks, ahead=4), what, len(blocks)))
    if not parts:
        return candidates
    maps, found = (np.concatenate(values) for values in zip(*parts, strict=True))
    return replace(candidates, maps=maps, likeness=found)


def _standing(found: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, of the candidates of its two images: the larger middle likeness of the others (0 of fewer than
    three), and its own place, 0 for the most alike, whichever is better.
    """
    by_row: dict[int, list[int]] = defaultdict(list)
    for at, rows in enumerate(found.pairs.tolist()):
        for row in rows:
            by_row[row].append(at)
    middle, place = np.zeros(len(found)), np.full(len(found), len(found))
    for pairs in by_row.values():
        order = sorted(pairs, key=lambda at: -found.likeness[at])
        scores = found.likeness[order]
        for number, at in enumerate(order):
            place[at] = min(place[at], number)
            if len(order) > 3:
                middle[at] = max(middle[at], float(np.median(np.delete(scores, number))))
    return middle, place


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


def _halved(pictures: np.ndarray) -> np.ndarray:
    count, side = pictures.shape[:2]
    return pictures.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4), dtype=np.float32)
