"""One pass over the images: what their headers say, how they look, and a small grey picture of each."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.data.table import ArrayImages, ImageTable
from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import FORMATS, read_image_bytes, read_picture
from keras_transfer.progress import track

SIDE = 64
"""Of the small grey pictures."""
CLOSE = 128
"""Of those that pairs of images that are much alike are compared by."""
_KEPT = 2048
_LOOK = 128  # pixels of the longer side at which sharpness and borders are judged
_SAME = 4.0  # levels of 255: what differs by less is one colour


@dataclass(frozen=True)
class Picture:
    """What is known of one image.

    Attributes:
        format: of the file, ``array`` without one.
        mode: as Pillow names it.
        height, width: upright pixels.
        size: bytes.
        orientation: EXIF's.
        transparent, deep, grey: with transparency; 16 bits per value; without colour, however it is stored.
        low, mean, high: 5th percentile, mean and 95th percentile of the grey values, 0 to 255.
        sharpness: variance of the Laplacian, as a share of the variance of the grey values.
        frame: share of the shorter side that a border of one colour takes; 0: there is none.
        colour: of that border.
    """

    format: str
    mode: str
    height: int
    width: int
    size: int
    orientation: int
    transparent: bool
    deep: bool
    grey: bool
    low: float
    mean: float
    high: float
    sharpness: float
    frame: float
    colour: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Of all images of a table: facts, and small grey pictures uint8 ``(N, SIDE, SIDE)`` (4 KB an image)."""

    facts: list[Picture]
    small: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """One fact of all images, ``(N,)``."""
        return np.array([getattr(one, name) for one in self.facts])


def look_at(table: ImageTable) -> Pictures:
    """Decode every image once, a JPEG at a part of its size; a few dozen are in memory at a time.

    Raises ``DataError`` where a file is gone or damaged since the table was made.
    """
    facts: list[Picture] = []
    small = np.empty((len(table), SIDE, SIDE), np.uint8)
    found = ordered_map(lambda i: _look(table, i), range(len(table)), ahead=32)
    for row, (picture, tiny) in enumerate(track(found, "Looking at images", total=len(table))):
        facts.append(picture)
        small[row] = tiny
    return Pictures(facts, small)


def small_pictures(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    """The small grey pictures of some images, uint8 ``(n, SIDE, SIDE)``."""
    found = ordered_map(lambda i: _grey(_decoded(table, i)[0], SIDE), rows.tolist(), ahead=32)
    return np.stack(list(found)) if len(rows) else np.empty((0, SIDE, SIDE), np.uint8)


class Closer:
    """Larger grey pictures of the images of a table, decoded when they are asked for; the last 2,048 are kept (32 MB).

    It may be called from several threads. Raises ``DataError`` as :func:`look_at` does.
    """

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._picture = lru_cache(maxsize=_KEPT)(self._read)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 ``(n, CLOSE, CLOSE)``, and the pixels of each image's shorter side, int ``(n,)``."""
        found = [self._picture(row) for row in rows.tolist()]
        return np.stack([picture for picture, _ in found]), np.array([pixels for _, pixels in found])

    def _read(self, row: int) -> tuple[np.ndarray, int]:
        picture, height, width = _decoded(self._table, row)
        return _grey(picture, CLOSE), min(height, width)


def _decoded(table: ImageTable, i: int) -> tuple[Image.Image, int, int]:
    """An image, a JPEG perhaps at a part of its size, and its upright height and width."""
    if isinstance(table.images, ArrayImages):
        picture = Image.fromarray(table.images.load(i))
        return picture, picture.height, picture.width
    decoded = read_picture(read_image_bytes(table.images.path(i)), _scale)
    return decoded.picture, decoded.height, decoded.width


def _grey(picture: Image.Image, side: int) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def _look(table: ImageTable, i: int) -> tuple[Picture, np.ndarray]:
    if isinstance(table.images, ArrayImages):
        picture = Image.fromarray(table.images.load(i))
        height, width = picture.height, picture.width
        header: dict[str, Any] = {"format": "array", "mode": "RGB", "orientation": 1}
        header.update(transparent=False, deep=False, size=table.images.size(i))
        return _seen(picture, height, width, header)
    return look_at_file(read_image_bytes(table.images.path(i)))


def look_at_file(content: bytes) -> tuple[Picture, np.ndarray]:
    """The facts of an image file, and its small grey picture uint8 ``(SIDE, SIDE)``. Raises ``ImageError``."""
    decoded = read_picture(content, _scale)
    header = {**_header(content), "size": len(content), "orientation": decoded.orientation}
    return _seen(decoded.picture, decoded.height, decoded.width, header)


def _seen(
    picture: Image.Image, height: int, width: int, header: dict[str, Any]
) -> tuple[Picture, np.ndarray]:
    share = min(1.0, _LOOK / max(picture.size))
    around = picture.convert("RGB").resize(
        (max(2, round(picture.width * share)), max(2, round(picture.height * share))),
        Image.Resampling.BILINEAR,
    )
    pixels = np.asarray(around, np.float32)
    values = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    low, high = np.percentile(values, (5, 95))
    frame, colour = _frame(pixels)
    facts = Picture(
        **header,
        height=height,
        width=width,
        grey=bool(np.abs(pixels - pixels.mean(axis=2, keepdims=True)).max() < _SAME),
        low=float(low),
        mean=float(values.mean()),
        high=float(high),
        sharpness=_sharpness(values),
        frame=frame,
        colour=colour,
    )
    return facts, _grey(picture, SIDE)


def _scale(height: int, width: int) -> int:
    return next((scale for scale in (8, 4, 2) if min(height, width) / scale >= 2 * _LOOK), 1)


def _header(content: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        deep = picture.mode.startswith("I") or (picture.format == "PNG" and content[24:25] == b"\x10")
        return {
            "format": str(picture.format),
            "mode": picture.mode,
            "transparent": picture.has_transparency_data,
            "deep": deep,
        }


def _sharpness(values: np.ndarray) -> float:
    if min(values.shape) < 3:
        return 1.0
    inner = 4 * values[1:-1, 1:-1]
    inner = inner - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    return float(inner.var() / max(float(values.var()), 1.0))


def _frame(pixels: np.ndarray) -> tuple[float, tuple[float, float, float]]:
    """How thick a border of one colour is, as a share of the shorter side, and the colour."""
    corner = pixels[0, 0]
    other = (np.abs(pixels - corner) >= 2 * _SAME).any(axis=2)
    if not other.any():
        return 0.0, (0.0, 0.0, 0.0)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    height, width = other.shape
    thick = min(rows[0], height - 1 - rows[-1], columns[0], width - 1 - columns[-1])
    if not thick:
        return 0.0, (0.0, 0.0, 0.0)
    red, green, blue = (float(one) for one in corner)
    return float(thick / min(height, width)), (red, green, blue)
