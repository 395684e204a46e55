"""Training images and their masks varied together, as a pure function of a seed and a key.

Flip, rotation, scale and crop are one affine map, applied once to each: the image is sampled bilinearly, the mask at
its nearest pixel, both at the same places. What comes from outside is black in the image and ignored in the mask.
Colours change in the image alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer_segmentation.classes import IGNORE_INDEX

FLIPS = ("none", "horizontal", "both")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, what Pillow's grey is, too."""


@dataclass(frozen=True)
class Augmentation:
    """How far images are varied; each strength is drawn evenly for each image.

    Attributes:
        flips: ``horizontal``; ``both`` (vertically, too) for images without an upright; ``none``.
        scale: (least, most) factor of enlargement. Above 1 a random part fills the result, below 1 the image lies at a
            random place in it.
        rotation: degrees to either side, in [0, 180].
        brightness: largest share of 255 that is added or taken, in [0, 1].
        contrast: largest change of the distance to the image's mean grey, as a share in [0, 1].
        saturation: largest change of the distance to each pixel's grey, as a share in [0, 1].
        seed: at least 0.
        ignore_index: of mask pixels that come from outside the image.

    Raises:
        UsageError: a value that is not one of the above.
    """

    flips: str = "horizontal"
    scale: tuple[float, float] = (0.8, 1.5)
    rotation: float = 10.0
    brightness: float = 0.15
    contrast: float = 0.25
    saturation: float = 0.25
    seed: int = 0
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(float(factor) for factor in self.scale))
        if self.flips not in FLIPS:
            raise unknown_name("kind of flips", str(self.flips), FLIPS)
        if len(self.scale) != 2 or not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise UsageError(f"scale is {self.scale}; expected (least, most) from 0.1 to 10.")
        if not 0 <= self.rotation <= 180:
            raise UsageError(f"rotation is {self.rotation!r}; expected degrees from 0 to 180.")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected a share from 0 to 1.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise UsageError(f"seed is {self.seed!r}; expected a whole number of at least 0.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**dataclasses.asdict(self), "scale": list(self.scale)}

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, key: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vary each image of a batch together with its mask.

        Args:
            images: uint8 (B, H, W, 3), RGB; not changed.
            masks: whole numbers (B, H, W) of a type that holds ``ignore_index``; not changed.
            key: whole numbers of at least 0 that say which draw this is, such as (epoch, step).

        Returns:
            New arrays: float32 (B, H, W, 3) in [0, 255], and masks of the same shape and dtype. The same arguments
            give the same arrays in every process.

        Raises:
            UsageError: other shapes or dtypes, or an impossible key.
        """
        images, masks = np.asarray(images), np.asarray(masks)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise UsageError(f"The images are {images.dtype} {images.shape}; expected uint8 (B, H, W, 3).")
        if masks.shape != images.shape[:3] or not np.issubdtype(masks.dtype, np.integer):
            raise UsageError(
                f"The masks are {masks.dtype} {masks.shape}; expected whole numbers {images.shape[:3]}."
            )
        if np.iinfo(masks.dtype).max < self.ignore_index:
            raise UsageError(
                f"The masks are {masks.dtype}, which cannot hold the ignore index {self.ignore_index}."
            )
        numbers = [int(number) for number in key]
        if not numbers or min(numbers) < 0:
            raise UsageError(
                f"The key is {tuple(key)}; expected whole numbers of at least 0, such as (epoch, step)."
            )
        varied = np.empty(images.shape, np.float32)
        moved = np.empty_like(masks)
        for i in range(len(images)):
            # The length, because NumPy draws the same from (1,) and (1, 0).
            random = np.random.default_rng((self.seed, len(numbers), *numbers, i))
            place = self._place(random, images.shape[1:3])
            # A drawing for each of them whatever the strengths: one strength does not change what another draws.
            colors = random.uniform(-1, 1, 3) * (self.brightness, self.contrast, self.saturation)
            varied[i] = _recolor(_sample_image(images[i], place), *colors)
            moved[i] = _sample_mask(masks[i], place, self.ignore_index)
        return varied, moved

    def _place(self, random: np.random.Generator, size: tuple[int, int]) -> tuple[float, ...]:
        """Where a pixel of the result comes from: (a, b, c, d, e, f), x' = ax + by + c and y' = dx + ey + f."""
        height, width = size
        mirror_x, mirror_y = random.random(2) < 0.5
        angle = math.radians(random.uniform(-1, 1) * self.rotation)
        scale = random.uniform(*self.scale)
        shift_x, shift_y = random.uniform(-0.5, 0.5, 2)
        x_sign = -1 if mirror_x and self.flips in ("horizontal", "both") else 1
        y_sign = -1 if mirror_y and self.flips == "both" else 1
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        a, b, d, e = cos * x_sign, sin * y_sign, -sin * x_sign, cos * y_sign
        # The centre moves by what the part leaves free: nothing at scale 1.
        center_x = width / 2 + shift_x * width * (1 - 1 / scale)
        center_y = height / 2 + shift_y * height * (1 - 1 / scale)
        return (
            a,
            b,
            center_x - a * width / 2 - b * height / 2,
            d,
            e,
            center_y - d * width / 2 - e * height / 2,
        )


def _sample_image(image: np.ndarray, place: tuple[float, ...]) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    moved = Image.fromarray(image).transform(size, Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
    return np.asarray(moved)


def _sample_mask(mask: np.ndarray, place: tuple[float, ...], outside: int) -> np.ndarray:
    # Not by Pillow, whose nearest neighbour is found in fixed-point numbers: at the image's edge a pixel could be
    # inside for the mask and outside for the image.
    a, b, c, d, e, f = place
    height, width = mask.shape
    x, y = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    columns, rows = a * x + b * y + c, d * x + e * y + f
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    nearest = (np.where(inside, axis, 0).astype(np.int64) for axis in (rows, columns))
    return np.where(inside, mask[tuple(nearest)], outside).astype(mask.dtype)


def _recolor(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """float32 (H, W, 3) in [0, 255]; all 0: the image as it is."""
    pixels: np.ndarray = image.astype(np.float32)
    if not (brightness or contrast or saturation):
        return pixels
    grey = (pixels @ _LUMA)[..., None]
    pixels = grey + (pixels - grey) * np.float32(1 + saturation)
    pixels = grey.mean() + (pixels - grey.mean()) * np.float32(1 + contrast)
    return np.clip(pixels + np.float32(255 * brightness), 0.0, 255.0)
