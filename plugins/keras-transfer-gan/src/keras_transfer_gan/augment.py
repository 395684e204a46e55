"""Differentiable augmentation: what the discriminator sees is changed, real and made images alike.

Zhao et al. 2020 (arXiv:2006.10738): colour, translation, cutout. The generator learns through the changes, so they
do not
leak into what it makes. How often they are made adapts as in Karras et al. 2020 (arXiv:2006.06676): where the
signs of the
answers to real images say that the discriminator does not overfit, less and less.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_transfer.errors import unknown_name

CHANGES = ("colour", "translation", "cutout")
SHIFT = 0.125
"""Largest translation, as a share of the side."""
CUT = 0.5
"""Side of the square that is cut out, as a share of the image's."""
TARGET = 0.6
"""Mean sign of the answers to real images above which the discriminator overfits (Karras et al., section 3.1)."""
IMAGES = 20_000
"""Real images within which the chance can go from 1 to 0."""


def parse_changes(text: str) -> tuple[str, ...]:
    """``"colour,cutout"`` to names. Raises ``UsageError`` for an unknown one."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in CHANGES:
            raise unknown_name("change", name, CHANGES)
    return names


def augment(images: Any, changes: tuple[str, ...], chance: Any, seed: keras.random.SeedGenerator) -> Any:
    """Change each image with a probability, each in its own way.

    Args:
        images: float ``(B, H, W, C)`` in [-1, 1].
        changes: of :data:`CHANGES`, made in this order.
        chance: in [0, 1], a number or a scalar tensor.
        seed: what is drawn.
    """
    made = {"colour": _colour, "translation": _translation, "cutout": _cutout}
    for name in changes:
        count = ops.shape(images)[0]
        drawn = keras.random.uniform((count, 1, 1, 1), seed=seed) < chance
        images = ops.where(drawn, made[name](images, seed), images)
    return images


def _colour(images: Any, seed: keras.random.SeedGenerator) -> Any:
    """Brightness by +-0.5, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    count = ops.shape(images)[0]
    by, saturation, contrast = (keras.random.uniform((count, 1, 1, 1), seed=seed) for _ in range(3))
    images = images + (by - 0.5)
    if images.shape[-1] == 3:
        grey = ops.mean(images, axis=-1, keepdims=True)
        images = (images - grey) * (2 * saturation) + grey
    middle = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - middle) * (contrast + 0.5) + middle


def _translation(images: Any, seed: keras.random.SeedGenerator) -> Any:
    """By up to an eighth of the side both ways; 0 (mid-grey) comes in."""
    count, side = ops.shape(images)[0], images.shape[1]
    most = max(1, int(side * SHIFT + 0.5))
    place = ops.arange(side)
    for pattern in ("bij,bjwc->biwc", "bij,bhjc->bhic"):
        shift = keras.random.randint((count, 1, 1), -most, most + 1, seed=seed)
        matrix = ops.cast(ops.equal(place[None, :, None] + shift, place[None, None, :]), images.dtype)
        images = ops.einsum(pattern, matrix, images)
    return images


def _cutout(images: Any, seed: keras.random.SeedGenerator) -> Any:
    """A square of half the side becomes 0 (mid-grey)."""
    count, side = ops.shape(images)[0], images.shape[1]
    length = int(side * CUT)
    place = ops.arange(side)[None, :]
    top, left = (
        keras.random.randint((count, 1), -(length // 2), side - length // 2, seed=seed) for _ in range(2)
    )
    rows = ops.logical_and(place >= top, place < top + length)
    columns = ops.logical_and(place >= left, place < left + length)
    inside = ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])
    return ops.where(inside, ops.zeros_like(images), images)


def next_chance(chance: Any, sign: Any, count: int) -> Any:
    """The chance after ``count`` more real images whose answers had this mean sign."""
    return ops.clip(chance + ops.sign(sign - TARGET) * (count / IMAGES), 0.0, 1.0)
