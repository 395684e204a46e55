"""How alike two pictures are once one is laid over the other: by an affine map that is found step by step.

The map is found as Lucas and Kanade do (IJCAI 1981; Baker & Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd):
Gauss-Newton steps on the squared difference of what is fine in two pictures, for which gain and offset are free, so
that neither brightness nor contrast nor shade matters. It follows a crop of a twentieth and a turn of a few degrees.

Detail is compared after each place is divided by the strength of the detail around it: the edges that all pictures of
a kind share (the bars of a solar cell, the outline of a part) then weigh no more than the grain that is one picture's
own. Places near the edge of either picture are left out: what is fine there depends on what was cut off.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

MOST_PAIRS = 64
"""Pairs that are laid over each other together."""
INSIDE = 0.6
"""Share of a picture that the other must cover: less is another picture."""
_SLOPES = 0.7, 4.0  # pixels: what is finer or coarser is not looked at by the steps
_FINE = 0.7, 2.0  # pixels: what is coarser is shade and outline, which many pictures share
_AROUND = 11  # pixels, of the strength of the detail around a place
_LEVELS = 1.0  # of 255: detail of this strength counts half
_EDGE = 3.0  # pixels at the edge that are left out
_PLACES = 64  # of a row and of a column
_DAMPING = 1e-4
SAME = np.eye(3, dtype=np.float32)[[1, 2, 0]]
"""The map of a picture to itself."""


def laid_over(first: np.ndarray, second: np.ndarray, maps: np.ndarray, steps: int) -> np.ndarray:
    """Where each place (1, y, x) of first pictures is in the second, in [-1, 1]: ``(n, 3, 3)``.

    Args:
        first, second: ``(n, S, S)``, grey. At most 64 x 64 places are looked at.
        maps: to begin with, :data:`SAME` where nothing is known.
        steps: how often maps are made better.
    """
    count, side = first.shape[:2]
    a, b = _standard(_band(first)), _standard(_band(second))
    stride = max(1, side // _PLACES)
    ground = _ground(side, stride)
    slopes = np.stack(np.gradient(a, axis=(1, 2)), axis=1)[:, :, ::stride, ::stride]
    slopes = slopes.reshape(count, 2, 1, -1) * np.float32((side - 1) / 2)
    target = a[:, ::stride, ::stride].reshape(count, -1)
    steepest = np.empty((count, 8, target.shape[1]), np.float32)
    steepest[:, :6] = (slopes * ground).reshape(count, 6, -1)
    steepest[:, 6], steepest[:, 7] = target, 1
    own = np.eye(8, dtype=np.float32)
    for _ in range(steps):
        places = maps[:, :2] @ ground
        seen = steepest * _inner(places, ground, side)[:, np.newaxis]
        normal = seen @ steepest.transpose(0, 2, 1)
        normal += (_DAMPING / 8 * normal.trace(axis1=1, axis2=2) + 1e-6)[:, np.newaxis, np.newaxis] * own
        error = _sampled(b, places, side) - target
        step = np.linalg.solve(normal, seen @ error[..., np.newaxis])[:, :6, 0]
        change = np.tile(SAME, (count, 1, 1))
        change[:, :2] += np.clip(step, -0.1, 0.1).reshape(count, 2, 3)
        maps = _after(maps, change)
    return maps


def detail(pictures: np.ndarray) -> np.ndarray:
    """The fine detail of grey pictures ``(n, S, S)``, as strong everywhere, float32."""
    fine = _smooth(pictures, _FINE[0]) - _smooth(pictures, _FINE[1])
    power = uniform_filter(fine * fine, (0, _AROUND, _AROUND), mode="nearest")
    return np.asarray(fine / (np.sqrt(np.maximum(power, 0)) + _LEVELS))


def likeness(first: np.ndarray, second: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The correlation of the :func:`detail` of pairs of pictures, each second one laid over its first.

    Args:
        first, second: float32 ``(n, S, S)``, details. maps: ``(n, 3, 3)``.

    Returns:
        float32 ``(n,)`` in [-1, 1]; 0 where the map covers less than :data:`INSIDE` of the picture.
    """
    count, side = first.shape[:2]
    ground = _ground(side)
    places = maps[:, :2] @ ground
    inner, whole = _inner(places, ground, side), _inner(ground[np.newaxis, 1:], ground, side)
    found = _correlation(first.reshape(count, -1), _sampled(second, places, side), inner)
    return np.where(inner.mean(axis=1) >= INSIDE * whole.mean(), found, 0).astype(np.float32)


def _after(maps: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The maps behind the inverse of a change: as matrices on (1, y, x) with the rows (y, x, 1)."""
    order = [2, 0, 1]
    return np.asarray((maps[:, order] @ np.linalg.inv(change[:, order]))[:, [1, 2, 0]], np.float32)


def _ground(side: int, stride: int = 1) -> np.ndarray:
    """``(3, P)``: 1, y and x of pixels, in [-1, 1]."""
    grid = np.linspace(-1, 1, side, dtype=np.float32)[::stride]
    y, x = (one.ravel() for one in np.meshgrid(grid, grid, indexing="ij"))
    return np.stack([np.ones_like(y), y, x])


def _inner(places: np.ndarray, ground: np.ndarray, side: int) -> np.ndarray:
    """1 where both a pixel and its place ``(n, 2, P)`` in the other picture are off the edge, float32 ``(n, P)``."""
    limit = 1 - 2 * _EDGE / side
    own = (np.abs(ground[1:]) < limit).all(axis=0)
    return np.asarray((np.abs(places) < limit).all(axis=1) & own, np.float32)


def _sampled(pictures: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """Values at places ``(n, 2, P)`` in [-1, 1], bilinear, ``(n, P)``; outside, of the edge."""
    place = np.clip((places + 1) * np.float32((side - 1) / 2), 0, np.float32(side - 1.001))
    corner = place.astype(np.int32)
    part = place - corner
    index = corner[:, 0] * side + corner[:, 1]
    index += (np.arange(len(pictures), dtype=np.int32) * side * side)[:, np.newaxis]
    flat, down, right = pictures.ravel(), part[:, 0], part[:, 1]
    left = flat[index]
    above = left + (flat[index + 1] - left) * right
    index += side
    left = flat[index]
    below = left + (flat[index + 1] - left) * right
    return np.asarray(above + (below - above) * down)


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    a = (a - (a * weight).sum(axis=1, keepdims=True) / total) * weight
    b = (b - (b * weight).sum(axis=1, keepdims=True) / total) * weight
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-6))


def _band(pictures: np.ndarray) -> np.ndarray:
    return _smooth(pictures, _SLOPES[0]) - _smooth(pictures, _SLOPES[1])


def _smooth(pictures: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(
        pictures.astype(np.float32, copy=False), (0, sigma, sigma), mode="nearest", truncate=2.5
    )


def _standard(pictures: np.ndarray) -> np.ndarray:
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), 0.5)
