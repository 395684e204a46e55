"""Features that are in the cache already, and nothing computed."""

from __future__ import annotations

import keras
import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.features.cache import FeatureCache
from keras_transfer.features.choosing import Engine
from keras_transfer.features.extraction import collection_of
from keras_transfer.features.identity import model_hash
from keras_transfer.features.room import room_for
from keras_transfer.inference import engines
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings


def known_features(
    table: ImageTable, backbone: keras.Model, *, preprocessing: Preprocessing, engine: EngineSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The pooled features that an engine has computed before.

    Args:
        table: the images.
        backbone, preprocessing: as for :func:`~keras_transfer.features.extract`.
        engine: by name; not ``auto``.

    Returns:
        Rows of the table int64 ``(n,)``, ascending, and their features float32 ``(n, D)``.
    """
    pooled, disk = engines.pooled_model(backbone, preprocessing.size), FeatureCache()
    identity = model_hash(pooled)
    chosen = Engine(engine, pooled, identity, len(table), disk)
    collection = collection_of(disk, identity, pooled, preprocessing, chosen.identity)
    known = set[str]()
    if collection is not None:
        known = {digest for shard in collection.shards() for digest in shard.digests}
    rows = np.array([row for row, digest in enumerate(table.sha256) if digest in known], np.int64)
    values = room_for((len(rows), pooled.output_shape[1]), disk.root)
    if collection is None or not len(rows):
        return rows, values
    first: dict[str, int] = {}
    for place, row in enumerate(rows.tolist()):
        first.setdefault(table.sha256[row], place)
    found = collection.read(first, values)
    for place, row in enumerate(rows.tolist()):
        values[place] = values[first[table.sha256[row]]]
    sound = np.array([table.sha256[row] in found for row in rows.tolist()], bool)
    return rows[sound], values if sound.all() else values[sound]
