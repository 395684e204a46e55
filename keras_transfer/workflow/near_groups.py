"""Near-duplicates kept in one split: ``train --group-near-duplicates``."""

from __future__ import annotations

import logging
from pathlib import Path

import keras
import numpy as np

from keras_transfer.checking.grouped import groups_csv
from keras_transfer.checking.near import clusters, directions_of, near_pairs
from keras_transfer.checking.pictures import small_pictures
from keras_transfer.data import ImageTable
from keras_transfer.data.splits import units_of
from keras_transfer.errors import UsageError
from keras_transfer.features import extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.paths import atomic_write
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings

log = logging.getLogger("keras_transfer")


def write_near_groups(
    table: ImageTable,
    backbone: keras.Model,
    path: Path,
    *,
    preprocessing: Preprocessing,
    engine: EngineSettings,
) -> int:
    """Write the groups of a table's near-duplicates, joined with the groups that it has, as ``--groups`` takes them.

    Args:
        table: its own splits are not used.
        backbone: whose features images are compared by, with pretrained weights whatever is trained.
        path: the CSV.
        preprocessing: the backbone's.
        engine: what computes.

    Returns:
        How many images are in a group of more than one.

    Raises:
        UsageError: the data say themselves what is in which split.
    """
    if table.given_splits:
        raise UsageError(
            f"--group-near-duplicates: {table.source} says itself which image is in which split. Leave the option out; "
            "`keras-transfer check` lists the near-duplicates of different splits."
        )
    found = extract(
        table,
        feature_model(backbone),
        preprocessing=preprocessing,
        engine=engine.engine,
        engine_precision=engine.engine_precision,
    )
    pairs = near_pairs(
        directions_of(found.values), small_pictures(table, np.arange(len(table))), table.sha256
    )
    joined = _joined(table, clusters(pairs))
    atomic_write(path, groups_csv(table, joined).encode("utf-8", "surrogateescape"))
    alike = sum(map(len, joined))
    log.info("%d images are in %d groups (%s), each in one split", alike, len(joined), path.name)
    return alike


def _joined(table: ImageTable, near: list[list[int]]) -> list[list[int]]:
    """Clusters of more than one image, by near-duplicates and by the groups that the table has."""
    own = [f"alone: {row}" for row in range(len(table))]
    for number, rows in enumerate(near):
        for row in rows:
            own[row] = f"near: {number}"
    columns = [np.array(own)] if table.groups is None else [np.array(own), table.groups]
    units = units_of([str(row) for row in range(len(table))], columns, 0)
    members: dict[int, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(int(unit), []).append(row)
    return sorted(rows for rows in members.values() if len(rows) > 1)
