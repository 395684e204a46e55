"""Images larger (or smaller) than a model's input: overlapping tiles, blended smoothly.

Predictions near the border of a tile lack context. Each tile therefore counts most in its middle, by a window that
falls towards its border like a squared sine, and the weights of all tiles at a pixel are divided by their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_transfer.errors import UsageError

Predict = Callable[[np.ndarray], np.ndarray]
"""float32 (B, h, w, 3) in [0, 255] to (B, h, w, C), for tiles of one size."""


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of an image lie.

    Attributes:
        image_size: (height, width) in pixels.
        tile_size: of every tile. A side of the image that is shorter is filled up by mirroring at the bottom or right.
        tops, lefts: where tiles begin, evenly spread from 0 to the last that fits; every pair of them is a tile.
    """

    image_size: tuple[int, int]
    tile_size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of each tile, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) the tiles cover: the image's, but at least a tile's."""
        return max(self.image_size[0], self.tile_size[0]), max(self.image_size[1], self.tile_size[1])


def plan_tiles(image_size: tuple[int, int], tile_size: tuple[int, int], overlap: float = 0.5) -> Tiles:
    """Tiles that cover an image.

    Args:
        image_size, tile_size: (height, width) in pixels, at least 1.
        overlap: the least share of a tile's side that it has in common with the next, in [0, 0.9].

    Raises:
        UsageError: an impossible size or overlap.
    """
    for what, size in (("image size", image_size), ("tile size", tile_size)):
        if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in size):
            raise UsageError(f"The {what} is {size!r}; expected (height, width) in pixels, at least 1 each.")
    if not 0 <= overlap <= 0.9:
        raise UsageError(f"overlap is {overlap!r}; expected a share from 0 to 0.9.")
    tops, lefts = (_starts(*sides, overlap) for sides in zip(image_size, tile_size, strict=True))
    return Tiles(
        (int(image_size[0]), int(image_size[1])), (int(tile_size[0]), int(tile_size[1])), tops, lefts
    )


def window(tile_size: tuple[int, int]) -> np.ndarray:
    """float32 (h, w): the weight of each pixel of a tile, above 0 and largest in the middle."""
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in tile_size)
    return np.outer(rows, columns).astype(np.float32)


def predict_tiled(
    predict: Predict,
    image: np.ndarray,
    tile_size: tuple[int, int],
    *,
    overlap: float = 0.5,
    batch_size: int = 8,
) -> np.ndarray:
    """Predict an image of any size with a model of one size.

    Args:
        predict: the model, such as ``lambda tiles: model.predict(tiles, verbose=0)``.
        image: uint8 or float32 (H, W, 3), RGB in [0, 255]; not changed.
        tile_size: (height, width) of the model's input.
        overlap: as in :func:`plan_tiles`.
        batch_size: tiles in one call.

    Returns:
        float32 (H, W, C): the blended predictions. Probabilities stay probabilities.

    Raises:
        UsageError: another shape, an impossible argument, or a model that gives something else for its tiles.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"The image has shape {image.shape}; expected (height, width, 3).")
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; expected at least 1.")
    tiles = plan_tiles(image.shape[:2], tile_size, overlap)
    missing = [padded - side for padded, side in zip(tiles.padded_size, tiles.image_size, strict=True)]
    padded = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    total, shape = _total(tiles), window(tiles.tile_size)[..., None]
    blended: np.ndarray | None = None
    corners = tiles.corners
    for start in range(0, len(corners), batch_size):
        chunk = corners[start : start + batch_size]
        batch = np.stack([padded[_slice(corner, tiles)] for corner in chunk]).astype(np.float32)
        answers = np.asarray(predict(batch), np.float32)
        if answers.ndim != 4 or answers.shape[:3] != batch.shape[:3]:
            raise UsageError(
                f"The model gives {answers.shape} for tiles {batch.shape}; expected {batch.shape[:3]} and the classes."
            )
        if blended is None:
            blended = np.zeros((*tiles.padded_size, answers.shape[3]), np.float32)
        for corner, answer in zip(chunk, answers, strict=True):
            blended[_slice(corner, tiles)] += answer * shape / total[_slice(corner, tiles)][..., None]
    assert blended is not None  # there is always a tile
    return blended[: tiles.image_size[0], : tiles.image_size[1]]


def _starts(side: int, tile: int, overlap: float) -> tuple[int, ...]:
    room = max(0, side - tile)
    step = max(1, int(tile * (1 - overlap)))
    count = -(-room // step) + 1
    return tuple(round(i * room / max(1, count - 1)) for i in range(count))


def _slice(corner: tuple[int, int], tiles: Tiles) -> tuple[slice, slice]:
    return slice(corner[0], corner[0] + tiles.tile_size[0]), slice(corner[1], corner[1] + tiles.tile_size[1])


def _total(tiles: Tiles) -> np.ndarray:
    """float32 (padded height, padded width): the sum of the windows."""
    total = np.zeros(tiles.padded_size, np.float32)
    shape = window(tiles.tile_size)
    for corner in tiles.corners:
        total[_slice(corner, tiles)] += shape
    return total
