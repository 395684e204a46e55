"""What ``train`` looks for by itself once features are there: pictures that are in two splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_transfer.checking.candidates import NEAREST
from keras_transfer.checking.near import directions_of, near_pairs
from keras_transfer.checking.pictures import Closer, small_pictures
from keras_transfer.data import ImageTable
from keras_transfer.errors import KerasTransferError
from keras_transfer.features.known import known_features
from keras_transfer.features.pooling import feature_model
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings

log = logging.getLogger("keras_transfer")

LIKELY = 0.9
"""Cosine of centred features from which two images are looked at: what a copy in another size or light has."""
MOST = 200
"""Images whose pictures are compared, the likeliest first: this is to take seconds."""
_BLOCK = 1024
SHOWN = 20


def tell_leaks(
    table: ImageTable, backbone: keras.Model, preprocessing: Preprocessing, notes: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Compare validation and test images, as far as their features are cached, with the training images.

    Args:
        table: with its splits.
        backbone, preprocessing: what the features were computed with; not what fine-tuning has made of it.
        notes: of the training; ``features`` says by which engine.

    Returns:
        JSON-able: ``compared`` (images of each split), ``found`` (the same), ``pairs`` (the first, as paths); None
        where nothing could be compared. A warning names what was found. It never ends a training.
    """
    told = notes.get("features")
    if not told or "engine" not in told or notes.get("deploy") or notes.get("adapted"):
        return None
    try:
        engine = EngineSettings(told["engine"], told["engine_precision"])
        rows, values = known_features(
            table, feature_model(backbone), preprocessing=preprocessing, engine=engine
        )
        found = leaks(table, rows, values)
    except (KerasTransferError, OSError) as error:
        log.info("Splits were not compared: %s", error)
        return None
    splits = table.splits[rows]
    compared = {split: int((splits == split).sum()) for split in ("val", "test") if (splits == split).any()}
    if not compared or not (splits == "train").any():
        return None
    images = {split: len({a for a, _ in found if table.splits[a] == split}) for split in compared}
    if found:
        one, other = (table.images.describe(row) for row in found[0])
        counts = " and ".join(f"{images[split]} of {compared[split]} {split} images" for split in compared)
        log.warning(
            "%s show what training images show (near-duplicates), such as %s and %s: measured on them a model looks "
            "better than it is. Train with --group-near-duplicates, or see `keras-transfer check`.",
            counts,
            one,
            other,
        )
    pairs = [[table.images.name(row) for row in pair] for pair in found[:SHOWN]]
    return {"compared": compared, "found": images, "pairs": pairs}


def leaks(table: ImageTable, rows: np.ndarray, values: np.ndarray) -> list[tuple[int, int]]:
    """Rows of the table: an image that measures, and a training image that shows the same; the most alike first.

    Args:
        rows: int ``(n,)``, whose features ``values`` ``(n, D)`` are.
    """
    splits = table.splits[rows]
    learned, measuring = np.flatnonzero(splits == "train"), np.flatnonzero(splits != "train")
    if not len(learned) or not len(measuring):
        return []
    directions = directions_of(values)
    candidates: list[tuple[float, int, np.ndarray]] = []
    for at in range(0, len(measuring), _BLOCK):
        part = measuring[at : at + _BLOCK]
        cosines = directions[part] @ directions[learned].T
        most = min(NEAREST, cosines.shape[1])
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        best = np.take_along_axis(cosines, nearest, axis=1).max(axis=1)
        likely = zip(best.tolist(), part.tolist(), learned[nearest], strict=True)
        candidates += [one for one in likely if one[0] >= LIKELY]
    candidates = sorted(candidates, key=lambda one: (-one[0], one[1]))[:MOST]
    if not candidates:
        return []
    involved = np.unique(np.concatenate([np.append(others, one) for _, one, others in candidates]))
    some = table.take(rows[involved])
    small, found = small_pictures(some, np.arange(len(some))), []
    for pair in near_pairs(directions[involved], small, some.sha256, Closer(some)):
        ends = [int(rows[involved[end]]) for end in (pair.first, pair.second)]
        kinds = [table.splits[row] == "train" for row in ends]
        if kinds[0] != kinds[1]:
            found.append((ends[kinds[0]], ends[kinds[1]]))
    return found
