"""Masks at the size of the model's input (nearest neighbour only), and answers at the size of the image again."""

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
    chances: np.ndarray, preprocessing: Preprocessing, image_size: tuple[int, int], ignore_index: int
) -> np.ndarray:
    """The most probable class of every pixel of the image a model was asked about, at the image's own size and place.

    The probabilities of each class are interpolated between the model's pixels (bilinear), and then compared: edges
    come out smooth where the mask of the model's pixels, made larger, would have steps.

    Args:
        chances: float (H, W, C), of ``preprocessing.size``.
        preprocessing: what the image went through.
        image_size: (height, width) of the image before.

    Returns:
        int32 (height, width). What ``crop`` cut off, the model has not seen: ``ignore_index``.

    Raises:
        UsageError: probabilities of another size.
    """
    if chances.ndim != 3 or chances.shape[:2] != preprocessing.size:
        raise UsageError(
            f"The probabilities are {chances.shape}; expected the model's {preprocessing.size}, and classes."
        )
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
    known_rows, *rows = _between(height, seen_height, tops)
    known_columns, *columns = _between(width, seen_width, lefts)
    best = np.full(image_size, -np.inf, np.float32)
    mask = np.zeros(image_size, np.int32)
    for number in range(chances.shape[2]):  # one by one: an image is large, and classes may be many
        chance = _mixed(_mixed(chances[..., number].astype(np.float32), *rows).T, *columns).T
        better = chance > best
        best[better], mask[better] = chance[better], number
    mask[~(known_rows[:, None] & known_columns[None, :])] = ignore_index
    return mask


def _between(side: int, seen: float, places: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where along one side each of ``side`` pixels is asked for, whose middle part ``seen`` fills ``places``.

    Returns:
        bool (side,), whether it was seen; int (side,) twice, the places before and after; float32 (side,), the share of
        the one after.
    """
    centers = (np.arange(side) + 0.5 - (side - seen) / 2) / seen * len(places)
    known = (centers >= 0) & (centers < len(places))
    low = np.clip(centers - 0.5, 0, len(places) - 1)
    before = np.floor(low).astype(np.int64)
    after = np.minimum(before + 1, len(places) - 1)
    return known, places[0] + before, places[0] + after, (low - before).astype(np.float32)


def _mixed(plane: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(h, w) to (n, w): between the rows before and after."""
    return plane[before] * (1 - share)[:, None] + plane[after] * share[:, None]
