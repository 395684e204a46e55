"""Pixels that the check of the images has decoded anyway, until something asks for them: each file is decoded once.

    with keep_pixels(preprocessing):
        table = load_data("photos/")
    features = extract(table, backbone, preprocessing=preprocessing)   # decodes nothing again

Without a preprocessing the check only looks whether a file decodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from keras_transfer.preprocessing import Preprocessing

MOST_BYTES = 256 << 20
"""Of pixels that a table keeps (1,783 images of 224 x 224 pixels); images beyond are decoded again."""

_wanted: ContextVar[Preprocessing | None] = ContextVar("keras_transfer_wanted_pixels", default=None)


class KeptPixels:
    """Pixels by the SHA-256 of the file they were decoded from. A table's; filled by one thread.

    Args:
        preprocessing: what they went through.
        most: bytes, beyond which nothing more is kept.
    """

    def __init__(self, preprocessing: Preprocessing, most: int = MOST_BYTES) -> None:
        self.preprocessing = preprocessing
        height, width = preprocessing.size
        self._room = most // (height * width * 3)
        self._pixels: dict[str, np.ndarray] = {}

    @property
    def full(self) -> bool:
        """Whether nothing more is kept."""
        return len(self._pixels) >= self._room

    def put(self, sha256: str, pixels: np.ndarray) -> None:
        """Keep the pixels uint8 (H, W, 3) of a file, where there is room."""
        if not self.full:
            self._pixels[sha256] = pixels

    def get(self, sha256: str, preprocessing: Preprocessing) -> np.ndarray | None:
        """A copy of a file's pixels; None where they are not known, or went through another preprocessing."""
        found = self._pixels.get(sha256) if preprocessing == self.preprocessing else None
        return None if found is None else found.copy()


@contextlib.contextmanager
def keep_pixels(preprocessing: Preprocessing | None) -> Iterator[None]:
    """Tables that are made meanwhile keep the pixels of files that have to be decoded for the check.

    At most 256 MB a table; they go with it. None: whatever was asked for around this holds.
    """
    token = _wanted.set(preprocessing or _wanted.get())
    try:
        yield
    finally:
        _wanted.reset(token)


def new_kept() -> KeptPixels | None:
    """For a table that is being made; None where nobody wants pixels."""
    wanted = _wanted.get()
    return None if wanted is None else KeptPixels(wanted)
