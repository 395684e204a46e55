"""How alike two pictures are once one is laid over the other: by an affine map that is found step by step.

The map is found as Lucas and Kanade do (IJCAI 1981; Baker & Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd):
Gauss-Newton steps on the squared difference of two pictures that are brought to the same mean and deviation, so that
neither brightness nor contrast matters. It follows a crop of a twentieth and a turn of a few degrees.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

STEPS = 10
MOST_PAIRS = 256
"""Pairs that are laid over each other together."""
INSIDE = 0.6
"""Share of a picture that the other must cover: less is another picture."""
_FINE = 2.0  # pixels: what is coarser than that is shade and outline, which many pictures share
_DAMPING = 1e-3


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The correlation of the fine detail of pairs of pictures, each second one laid over its first.

    Args:
        first, second: uint8 ``(n, S, S)``, grey.

    Returns:
        float32 ``(n,)`` in [-1, 1]; 0 where the map found covers less than :data:`INSIDE` of the picture.
    """
    found = [
        _likeness(first[at : at + MOST_PAIRS], second[at : at + MOST_PAIRS])
        for at in range(0, len(first), MOST_PAIRS)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    count, side = first.shape[:2]
    maps = _maps(_halved(first), _halved(second))
    seen, covered = _sampled(_fine(second), maps[:, :2] @ _ground(side), side)
    return _correlation(_fine(first).reshape(count, -1), seen, covered)


def _maps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``(n, 3, 3)``: where each place (1, y, x) of the first picture is in the second, in [-1, 1]."""
    count, side = first.shape[:2]
    a, b = _standard(_smooth(first, 0.8)), _standard(_smooth(second, 0.8))
    ground = _ground(side)
    slopes = np.stack(np.gradient(a, axis=(1, 2)), axis=1).reshape(count, 2, 1, -1) * ((side - 1) / 2)
    steepest = (slopes * ground).reshape(count, 6, -1)
    normal = np.stack([one @ one.T for one in steepest])
    normal += (_DAMPING * normal.trace(axis1=1, axis2=2)[:, None, None] + 1e-6) * np.eye(6, dtype=np.float32)
    solved = np.linalg.solve(normal, steepest)
    target = a.reshape(count, -1)
    maps = np.tile(np.eye(3, dtype=np.float32)[[1, 2, 0]], (count, 1, 1))
    change = maps.copy()
    for _ in range(STEPS):
        seen, covered = _sampled(b, maps[:, :2] @ ground, side)
        error = (seen - target) * covered
        step = np.clip((solved @ error[..., np.newaxis])[..., 0], -0.1, 0.1)
        change[:, :2] = step.reshape(count, 2, 3)
        change[:, 0, 1] += 1
        change[:, 1, 2] += 1
        maps = _after(maps, change)
    return maps


def _after(maps: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The maps behind the inverse of a change: as matrices on (1, y, x) with the rows (y, x, 1)."""
    order = [2, 0, 1]
    return (maps[:, order] @ np.linalg.inv(change[:, order]))[:, [1, 2, 0]]


def _ground(side: int) -> np.ndarray:
    """``(3, P)``: 1, y and x of every pixel, in [-1, 1]."""
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = (one.ravel() for one in np.meshgrid(grid, grid, indexing="ij"))
    return np.stack([np.ones_like(y), y, x])


def _halved(pictures: np.ndarray) -> np.ndarray:
    count, side = pictures.shape[:2]
    return pictures.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4), dtype=np.float32)


def _sampled(pictures: np.ndarray, places: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Values at places ``(n, 2, P)`` in [-1, 1], bilinear; and 1 where they are inside, both ``(n, P)``."""
    place = (places + 1) * ((side - 1) / 2)
    inside = np.asarray(((place >= -0.5) & (place <= side - 0.5)).all(axis=1), np.float32)
    place = np.clip(place, 0, side - 1.001)
    corner = place.astype(np.int32)
    part = (place - corner).astype(np.float32)
    index = corner[:, 0] * side + corner[:, 1]
    index += (np.arange(len(pictures), dtype=np.int32) * side * side)[:, np.newaxis]
    flat, down, right = pictures.ravel(), part[:, 0], part[:, 1]
    above = flat[index] * (1 - right) + flat[index + 1] * right
    index += side
    below = flat[index] * (1 - right) + flat[index + 1] * right
    return np.asarray(above * (1 - down) + below * down), inside


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    a = (a - (a * weight).sum(axis=1, keepdims=True) / total) * weight
    b = (b - (b * weight).sum(axis=1, keepdims=True) / total) * weight
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found = (a * b).sum(axis=1) / np.maximum(lengths, 1e-6)
    return np.where(weight.mean(axis=1) >= INSIDE, found, 0).astype(np.float32)


def _smooth(pictures: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(pictures.astype(np.float32), (0, sigma, sigma), mode="nearest", truncate=2.5)


def _fine(pictures: np.ndarray) -> np.ndarray:
    return _smooth(pictures, 0.7) - _smooth(pictures, _FINE)


def _standard(pictures: np.ndarray) -> np.ndarray:
    pictures = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), 1)
