"""Images as a training needs them: decoded once, in memory, or mapped to a file where they are many."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer_gan.measuring import pixels_of, spread
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.training import Material

log = logging.getLogger("keras_transfer")
LOOKED_AT = 200
MEMORY = 1_000_000_000
"""Bytes of pixels above which they are kept in a file, not in memory."""
CHUNK = 4096


def channels_of(table: ImageTable, asked: str) -> int:
    """1 or 3, as asked, or as the images are.

    Raises:
        UsageError: some of the images are grey and others are not, and nothing was asked for.
    """
    if asked != "auto":
        return {"grey": 1, "rgb": 3}[asked]
    rows = spread(len(table), LOOKED_AT)
    images = [table.images.load(int(row)) for row in rows]
    grey = [bool((image == image[..., :1]).all()) for image in images]
    shares = {round(image.shape[1] / image.shape[0], 1) for image in images}
    if len(shares) > 1:
        log.warning(
            "The images have several shapes (width over height: %s): they are brought to a square. --resize "
            "crop or pad "
            "keeps what is in them as it is.",
            ", ".join(f"{share:g}" for share in sorted(shares)[:5]),
        )
    if any(grey) and not all(grey):
        raise UsageError(
            f"Of {len(rows)} images {sum(grey)} are grey and the others in colour, such as "
            f"{table.images.describe(int(rows[grey.index(False)]))}. Choose what is to be made: --channels grey or rgb."
        )
    return 1 if all(grey) else 3


def material_of(table: ImageTable, facts: Facts, folder: Path) -> Material:
    """The training and validation images of a table; ``folder`` takes a file of pixels where they are many."""
    size = (facts.size, facts.size)
    train, val = (table.take(table.indices(split)) for split in ("train", "val"))
    shape = (len(train), *size, facts.channels)
    if np.prod(shape) <= MEMORY:
        pixels = pixels_of(train, size, facts.channels)
    else:
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
        for start in range(0, len(train), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(train)))
            pixels[rows] = pixels_of(train.take(rows), size, facts.channels)
    labels, held_out_labels = (_labels(part, facts) for part in (train, val))
    return Material(pixels, labels, pixels_of(val, size, facts.channels), held_out_labels)


def _labels(table: ImageTable, facts: Facts) -> np.ndarray:
    return table.labels.astype(np.int32) if facts.conditional else np.zeros(len(table), np.int32)
