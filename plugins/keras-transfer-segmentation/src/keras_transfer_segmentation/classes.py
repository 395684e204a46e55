"""The classes of a data set: their names, their colours, and the index of pixels that do not count."""

from __future__ import annotations

import csv
import functools
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import DataError, UsageError

IGNORE_INDEX = 255
IGNORE_NAME = "ignore"
"""The name of the row of a colour table that gives the colour of ignored pixels."""
LARGEST_INDEX = 65_535

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """What the numbers in a mask mean.

    Attributes:
        names: of class 0, 1, ...; at least two, all different.
        colors: (r, g, b) of each class, each in [0, 255]; empty where the masks hold indices.
        ignore_index: the value of pixels that are neither trained on nor measured; not a class, at most 65535.
        ignore_color: their colour in colour-coded masks, if they have one.

    Raises:
        UsageError: names, colours or an ignore index that cannot be.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    ignore_index: int = IGNORE_INDEX
    ignore_color: Color | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "colors", tuple(_color(color) for color in self.colors))
        if self.ignore_color is not None:
            object.__setattr__(self, "ignore_color", _color(self.ignore_color))
        _require_names(self.names)
        if self.colors and len(self.colors) != len(self.names):
            raise UsageError(
                f"There are {len(self.colors)} colours and {len(self.names)} classes; expected one colour for each."
            )
        colors = [*self.colors, *([self.ignore_color] if self.ignore_color else [])]
        twice = next((color for color in colors if colors.count(color) > 1), None)
        if twice:
            raise UsageError(f"The colour {twice} stands for two classes; give each its own.")
        if not len(self.names) <= self.ignore_index <= LARGEST_INDEX:
            raise UsageError(
                f"The ignore index is {self.ignore_index}; expected a number that is not a class, from "
                f"{len(self.names)} to {LARGEST_INDEX}."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dtype(self) -> np.dtype:
        """Of masks: uint8 where classes and ignore index fit, else int32."""
        return np.dtype(np.uint8 if self.ignore_index <= 255 else np.int32)

    @property
    def drawing_colors(self) -> np.ndarray:
        """uint8 (C, 3): the classes' colours, or stable ones by index where the classes have none."""
        return np.array(self.colors, np.uint8) if self.colors else palette(len(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` is the inverse."""
        return {
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "ignore_index": self.ignore_index,
            "ignore_color": list(self.ignore_color) if self.ignore_color else None,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Classes:
        """Read back what :meth:`to_dict` gave. Raises ``DataError`` for anything else."""
        try:
            return cls(**{**values, "names": tuple(values["names"])})
        except (UsageError, TypeError, KeyError) as error:
            raise DataError(f"The classes cannot be used: {error}") from error


def read_color_table(path: Path, ignore_index: int = IGNORE_INDEX) -> Classes:
    """Classes and colours from a CSV in UTF-8: a header ``name,r,g,b`` and one row for each class, in order.

    A row named ``ignore`` gives the colour of pixels that do not count, and is not a class.

    Raises:
        UsageError: no such file. DataError: not such a table; the message names the line.
    """
    if not path.is_file():
        raise UsageError(f"There is no colour table {path}. Expected a CSV with the columns name,r,g,b.")
    try:
        text = path.read_text("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}.") from error
    header = [column.strip().lower() for column in rows[0]] if rows else []
    if header != ["name", "r", "g", "b"]:
        raise DataError(f"{path} begins with {','.join(header)!r}; expected the header name,r,g,b.")
    colors: dict[str, Color] = {}
    for number, row in enumerate(rows[1:], 2):
        name = unicodedata.normalize("NFC", row[0].strip())
        try:
            color = _color([int(value) for value in row[1:]])
        except (ValueError, UsageError) as error:
            raise DataError(
                f"Row {number} of {path} is {','.join(row)!r}; expected a name and three whole numbers in [0, 255]."
            ) from error
        if name in colors:
            raise DataError(f"{path} has the class {name!r} twice. Remove one row.")
        colors[name] = color
    ignored = colors.pop(IGNORE_NAME, None)
    try:
        return Classes(tuple(colors), tuple(colors.values()), ignore_index, ignored)
    except UsageError as error:
        raise DataError(f"{path} cannot be used: {error}") from error


@functools.cache
def _palette() -> np.ndarray:
    index = np.arange(256)[:, None]
    bits = np.arange(8)[None, :]
    channels = []
    for channel in range(3):
        position = 3 * bits + channel
        on = (index >> position) & 1
        channels.append((on << (7 - bits)).sum(axis=1))
    return np.stack(channels, axis=1).astype(np.uint8)


def palette(count: int = 256) -> np.ndarray:
    """uint8 (count, 3): the colours of the PASCAL VOC development kit, which differ most for small indices.

    Bits 0, 3, 6 of the index, most important first, are red, bits 1, 4, 7 green, bits 2, 5 blue; index 0 is black.
    They repeat after 256.
    """
    return _palette()[np.arange(count) % 256]


def _require_names(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise UsageError(
            f"{len(names)} classes were given; at least 2 are expected (background counts as a class)."
        )
    wrong = next((name for name in names if not isinstance(name, str) or not name.strip()), None)
    if wrong is not None:
        raise UsageError(f"The class name {wrong!r} is empty or no text.")
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"The class {twice!r} was given twice.")


def _color(values: Sequence[int]) -> Color:
    color = tuple(values)
    if len(color) != 3 or not all(isinstance(v, (int, np.integer)) and 0 <= v <= 255 for v in color):
        raise UsageError(f"The colour {color} is not (r, g, b) with whole numbers in [0, 255].")
    return int(color[0]), int(color[1]), int(color[2])
