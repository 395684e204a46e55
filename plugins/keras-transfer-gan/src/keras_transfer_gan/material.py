"""Images as a training needs them: decoded once, in memory, or mapped to a file where they are many."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer_gan.measuring import pixels_of, spread
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.training import Material

log = logging.getLogger("keras_transfer")
LOOKED_AT = 200
CLEAR = 0.25
"""Up to this share of grey images among coloured ones, colour is meant."""
MEMORY = 1_000_000_000
"""Bytes of pixels above which they are kept in a file, not in memory."""


def channels_of(table: ImageTable, asked: str, resize: str = "squash") -> int:
    """1 or 3, as asked, or as the images are; ``resize`` is what will be done to their shapes.

    Raises:
        UsageError: many of the images are grey and others are not, and nothing was asked for.
    """
    if asked != "auto":
        return {"grey": 1, "rgb": 3}[asked]
    rows = spread(len(table), LOOKED_AT)
    images = [table.images.load(int(row)) for row in rows]
    grey = [bool((image == image[..., :1]).all()) for image in images]
    shares = {round(image.shape[1] / image.shape[0], 1) for image in images}
    if len(shares) > 1 and resize == "squash":
        log.warning(
            "The images have several shapes (width over height: %s): they are brought to a square. --resize "
            "crop or pad "
            "keeps what is in them as it is.",
            ", ".join(f"{share:g}" for share in sorted(shares)[:5]),
        )
    if any(grey) and sum(grey) <= CLEAR * len(grey):
        log.warning(
            "%d of %d images are grey and the others in colour: colour is made. --channels grey makes grey ones.",
            sum(grey),
            len(grey),
        )
        return 3
    if any(grey) and not all(grey):
        raise UsageError(
            f"Of {len(rows)} images {sum(grey)} are grey and the others in colour, such as "
            f"{table.images.describe(int(rows[grey.index(False)]))}. Choose what is to be made: --channels grey or rgb."
        )
    return 1 if all(grey) else 3


def material_of(table: ImageTable, facts: Facts, preprocessing: Preprocessing, folder: Path) -> Material:
    """The training and validation images of a table; ``folder`` takes files of pixels where they are many."""
    train, val = (table.take(table.indices(split)) for split in ("train", "val"))
    numbers = (len(train) + len(val)) * facts.size**2 * facts.channels

    def decoded(part: ImageTable, name: str) -> np.ndarray:
        if numbers <= MEMORY or not len(part):
            return pixels_of(part, preprocessing, facts.channels)
        shape = (len(part), *preprocessing.size, facts.channels)
        kept = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        return pixels_of(part, preprocessing, facts.channels, kept)

    return Material(
        decoded(train, "pixels"), _labels(train, facts), decoded(val, "held_out"), _labels(val, facts)
    )


def _labels(table: ImageTable, facts: Facts) -> np.ndarray:
    return table.labels.astype(np.int32) if facts.conditional else np.zeros(len(table), np.int32)
