"""What models are asked about the images of a table: pixels that are decoded once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from keras_transfer.data.pipeline import input_batches
from keras_transfer.data.table import ImageTable
from keras_transfer.inference import Runner
from keras_transfer.preprocessing import Preprocessing

BATCH = 32
KEPT_BYTES = 512_000_000
"""Pixels that are kept in memory between two passes over the same images: 3,400 images of 224 px."""


@dataclass
class Questions:
    """What a model is given for rows of a table: their pixels, or inputs that a task draws.

    Iterating gives batches, uint8 ``(B, H, W, 3)`` (RGB in [0, 255]) or drawn float32 ``(B, ...)``, in order and the
    same in every pass; nobody changes them. An image is decoded in the first pass and kept, where all of them take at
    most :data:`KEPT_BYTES`; otherwise in every pass. One pass at a time.

    Attributes:
        table: the images.
        preprocessing: how an image becomes pixels.
        rows: of the table.
        draw: of models that generate: see :func:`keras_transfer.data.pipeline.input_batches`.
        batch: how many at a time.

    Raises ``DataError`` while iterating, when an image cannot be read any more.
    """

    table: ImageTable
    preprocessing: Preprocessing
    rows: np.ndarray
    draw: Callable[[ImageTable], np.ndarray] | None = None
    batch: int = BATCH
    _kept: list[np.ndarray] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kept(self) -> bool:
        """Whether a second pass decodes nothing."""
        return self.draw is not None or len(self) * math.prod(self.preprocessing.size) * 3 <= KEPT_BYTES

    @property
    def batches(self) -> int:
        """How many batches a pass has."""
        return -(-len(self) // self.batch)

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._kept is not None:
            yield from self._kept
            return
        seen = []
        for batch in input_batches(
            self.table, self.preprocessing, self.batch, draw=self.draw, indices=self.rows
        ):
            if self.kept:
                seen.append(batch)
            yield batch
        if self.kept:
            self._kept = seen

    def blank(self, runtime: Runner) -> np.ndarray:
        """An input of a batch of one, for a model's first answer: a mid-grey image, or zeros."""
        return blank(runtime, self.preprocessing, self.draw is not None)


def blank(runtime: Runner, preprocessing: Preprocessing, generates: bool) -> np.ndarray:
    """A mid-grey image uint8 ``(1, H, W, 3)``; of a model that generates, zeros float32 ``(1, ...)``."""
    if generates:
        return np.zeros((1, *runtime.inputs[0].shape[1:]), np.float32)
    return np.full((1, *preprocessing.size, 3), 127, np.uint8)
