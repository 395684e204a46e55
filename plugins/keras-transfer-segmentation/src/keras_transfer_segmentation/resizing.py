"""Masks at the size of the model's input, and back: nearest neighbour only, with the geometry of the image."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing


def resize_mask(mask: np.ndarray, preprocessing: Preprocessing, ignore_index: int) -> np.ndarray:
    """The mask at the size of its image after ``preprocessing.apply``: same geometry, nearest neighbour.

    Args:
        mask: whole numbers (h, w), from 0 to 65535.
        preprocessing: of the image. ``pad`` fills with ``ignore_index``.

    Returns:
        (height, width), of the mask's dtype. No value that is not in the mask, but for ``ignore_index``.
    """
    # As an RGB image of low byte, high byte and "inside", a mask goes through the very code its image goes through.
    inside = np.full(mask.shape, 255)
    carrier = np.stack([mask & 255, mask.astype(np.int32) >> 8, inside], axis=-1).astype(np.uint8)
    nearest = dataclasses.replace(preprocessing, interpolation="nearest", antialias=True)
    low, high, inside = np.moveaxis(nearest.apply(carrier).astype(np.int32), -1, 0)
    return np.where(inside == 255, low + (high << 8), ignore_index).astype(mask.dtype)


def restore_mask(
    mask: np.ndarray, preprocessing: Preprocessing, image_size: tuple[int, int], ignore_index: int
) -> np.ndarray:
    """The mask a model gave, at the size and place of the image it was asked about: :func:`resize_mask` undone.

    Args:
        mask: whole numbers, of ``preprocessing.size``, from 0 to 65535.
        preprocessing: what the image went through.
        image_size: (height, width) of the image before.

    Returns:
        (height, width), of the mask's dtype. What ``crop`` cut off, the model has not seen: ``ignore_index``.

    Raises:
        UsageError: a mask of another size.
    """
    if mask.shape != preprocessing.size:
        raise UsageError(f"The mask is {mask.shape}; expected the model's {preprocessing.size}.")
    height, width = image_size
    size = preprocessing.size
    # Where the image lies in the model's input: all of it but for padding.
    inside = resize_mask(np.ones(image_size, np.uint8), preprocessing, 0)
    tops, lefts = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    # What of the image that is: all of it but for what a crop cuts off.
    seen_height, seen_width = float(height), float(width)
    if preprocessing.resize == "crop":
        seen_height = min(seen_height, width * size[0] / size[1])
        seen_width = min(seen_width, height * size[1] / size[0])
    rows = _came_to(height, seen_height, tops)
    columns = _came_to(width, seen_width, lefts)
    known = (rows >= 0)[:, None] & (columns >= 0)[None, :]
    return np.where(known, mask[np.ix_(rows, columns)], ignore_index).astype(mask.dtype)


def _came_to(side: int, seen: float, places: np.ndarray) -> np.ndarray:
    """int (side,): the place of each pixel along one side, whose middle part ``seen`` fills ``places``; -1 outside."""
    centers = (np.arange(side) + 0.5 - (side - seen) / 2) / seen * len(places)
    found = np.floor(centers).astype(np.int64)
    return np.where((centers >= 0) & (found < len(places)), places[0] + found, -1)
