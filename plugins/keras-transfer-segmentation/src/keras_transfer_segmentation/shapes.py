"""Outlines and run lengths, as COCO keeps the regions of objects, to masks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_transfer.errors import DataError


def region(segmentation: Any, height: int, width: int, what: str) -> np.ndarray:
    """bool (height, width): the pixels of an object.

    Args:
        segmentation: polygons ``[[x1, y1, x2, y2, ...], ...]``, of which a pixel belongs to the object when its centre
            is inside; or run lengths ``{"counts": [...] or text, "size": [height, width]}``, down the columns.
        what: for messages.

    Raises:
        DataError: neither, or run lengths of another size.
    """
    if isinstance(segmentation, dict):
        return _runs(segmentation, height, width, what)
    if not isinstance(segmentation, list) or not all(
        isinstance(one, list) and len(one) >= 6 for one in segmentation
    ):
        raise DataError(
            f"The segmentation of {what} is neither polygons of three points and more nor run lengths."
        )
    pixels = np.zeros((height, width), bool)
    for polygon in segmentation:
        _fill(pixels, np.asarray(polygon[: len(polygon) // 2 * 2], float).reshape(-1, 2))
    return pixels


def _fill(pixels: np.ndarray, points: np.ndarray) -> None:
    """Set the pixels whose centres are inside a polygon (n, 2) of x and y: even-odd rule, row by row."""
    height, width = pixels.shape
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    first = max(0, int(np.ceil(y0.min() - 0.5)))
    last = min(height - 1, int(np.floor(y0.max() - 0.5)))
    for row in range(first, last + 1):
        y = row + 0.5
        crossed = (y0 <= y) != (y1 <= y)
        if not crossed.any():
            continue
        x = x0[crossed] + (y - y0[crossed]) * (x1[crossed] - x0[crossed]) / (y1[crossed] - y0[crossed])
        edges = np.clip(np.ceil(np.sort(x) - 0.5), 0, width).astype(int)
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            pixels[row, left:right] = True


def _runs(segmentation: dict[str, Any], height: int, width: int, what: str) -> np.ndarray:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size != [height, width]:
        raise DataError(f"The run lengths of {what} are of {size} pixels, its image of {[height, width]}.")
    lengths = _decoded(counts) if isinstance(counts, str) else list(counts or ())
    if sum(lengths) != height * width or any(length < 0 for length in lengths):
        raise DataError(f"The run lengths of {what} have {sum(lengths)} pixels, its image {height * width}.")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, np.asarray(lengths, int))
    return values.reshape(width, height).T


def _decoded(text: str) -> Sequence[int]:
    """Run lengths from text: five bits a character from "0" on, differences from the one before the last (COCO API)."""
    lengths: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more and place < len(text):
            code = ord(text[place]) - 48
            value |= (code & 0x1F) << shift
            shift, place, more = shift + 5, place + 1, bool(code & 0x20)
            if not more and code & 0x10:
                value |= -1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths
