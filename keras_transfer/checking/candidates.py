"""Pairs of images that may be near-duplicates: the nearest by features and by small pictures in several forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from keras_transfer.checking.registration import SAME

NEAREST = 4
"""Candidates of each image by features and by pictures as they are; of mirrored and cropped ones there are fewer."""
_MIRRORED, _CENTRED, _ASIDE = 2, 2, 1
ALIKE = 0.75
"""Cosine of features or correlation of coarse pictures, below which a pair is no candidate."""
_COARSE = 16
_CROP = 0.05  # share of height and width that is cut off
_WINDOWS = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # of it above and to the left
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of rows, and how one picture is laid over the other.

    Attributes:
        pairs: int ``(n, 2)``, first < second, ascending.
        mirrored: bool ``(n,)``: the first is mirrored.
        maps: float32 ``(n, 3, 3)``: where each place of the first is in the second, see ``registration.py``.
        likeness: float32 ``(n,)``.
    """

    pairs: np.ndarray
    mirrored: np.ndarray
    maps: np.ndarray
    likeness: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)

    def of(self, chosen: np.ndarray | slice) -> Candidates:
        """Some of them."""
        return Candidates(self.pairs[chosen], self.mirrored[chosen], self.maps[chosen], self.likeness[chosen])


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


def candidates_of(directions: np.ndarray, small: np.ndarray, sha256: tuple[str, ...]) -> Candidates:
    """The pairs to compare, each laid over as its coarse pictures fit best.

    Args:
        directions: float32 ``(N, D)``, of unit length.
        small: uint8 ``(N, S, S)``, grey.
        sha256: ``(N,)``; equal files are left out.
    """
    plain, mirrored = _coarse(small), _coarse(small, mirrored=True)
    windows = [_coarse(small, window) for window in _WINDOWS]
    found: set[tuple[int, int]] = set()
    for values, others, k in (
        (directions, directions, NEAREST),
        (plain, plain, NEAREST),
        (mirrored, plain, _MIRRORED),
        *((values, plain, _ASIDE if place else _CENTRED) for place, values in enumerate(windows)),
    ):
        cosines, rows = nearest(values, others, k)
        one, place = np.nonzero(cosines >= ALIKE)
        other = rows[one, place]
        found.update(zip(np.minimum(one, other).tolist(), np.maximum(one, other).tolist(), strict=True))
    pairs = np.array(sorted(pair for pair in found if sha256[pair[0]] != sha256[pair[1]]), np.int64).reshape(
        -1, 2
    )
    first, second = pairs.T
    fits, maps = [_fit(mirrored, plain, first, second), _fit(plain, plain, first, second)], [SAME, SAME]
    for window, values in zip(_WINDOWS, windows, strict=True):
        into, out_of = _maps(*window)
        fits += [_fit(values, plain, first, second), _fit(plain, values, first, second)]
        maps += [into, out_of]
    best = np.argmax(fits, axis=0)
    return Candidates(pairs, best == 0, np.stack(maps)[best], np.zeros(len(pairs), np.float32))


def _fit(values: np.ndarray, others: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", values[first], others[second])


def _maps(above: float, left: float) -> tuple[np.ndarray, np.ndarray]:
    """Where places of a whole picture are in its crop, and places of the crop in the whole."""
    kept = 1 - _CROP
    middle = np.array([2 * (_CROP * above + kept / 2) - 1, 2 * (_CROP * left + kept / 2) - 1], np.float32)
    into, out_of = SAME.copy(), SAME.copy()
    into[:2] /= kept
    into[:2, 0] = -middle / kept
    out_of[:2] *= kept
    out_of[:2, 0] = middle
    return into, out_of


def _coarse(
    small: np.ndarray, window: tuple[float, float] | None = None, mirrored: bool = False
) -> np.ndarray:
    """Pictures, or their windows, of 16 x 16, less their mean, of unit length, float32 ``(N, 256)``."""
    found = np.empty((len(small), _COARSE**2), np.float32)
    step = small.shape[1] // _COARSE
    for at in range(0, len(small), _BLOCK):
        some = small[at : at + _BLOCK, :, ::-1] if mirrored else small[at : at + _BLOCK]
        some = some if window is None else _cropped(some, *window)
        values = some.reshape(len(some), _COARSE, step, _COARSE, step).mean(axis=(2, 4), dtype=np.float32)
        values = values.reshape(len(some), -1)
        found[at : at + _BLOCK] = normalize(values - values.mean(axis=1, keepdims=True))
    return found


def _cropped(small: np.ndarray, above: float, left: float) -> np.ndarray:
    """A window of each picture at the size of the whole, float32 ``(n, S, S)``, bilinear."""
    side = small.shape[1]
    off = _CROP * (side - 1)
    values = small
    for axis, share in ((1, above), (2, left)):
        place = np.linspace(off * share, side - 1 - off * (1 - share), side, dtype=np.float32)
        corner = np.minimum(place.astype(np.int64), side - 2)
        part = (place - corner).astype(np.float32).reshape([-1 if axis == one else 1 for one in range(3)])
        values = np.take(values, corner, axis) * (1 - part) + np.take(values, corner + 1, axis) * part
    return values
