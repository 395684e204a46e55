"""Frozen features of a table of images: from the cache where they are known, computed and kept where not."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_transfer.data.order import row_numbers
from keras_transfer.data.pipeline import batches
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import CacheError
from keras_transfer.features.cache import FeatureCache, Writer, size_limit
from keras_transfer.features.choosing import Engine
from keras_transfer.features.given import FeatureFolder
from keras_transfer.features.identity import model_hash
from keras_transfer.features.room import room_for
from keras_transfer.features.shards import FORMAT, Collection
from keras_transfer.hashing import sha256_of
from keras_transfer.inference import ParallelLiteRTRunner, engines
from keras_transfer.inference import stream as stream_of
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.progress import track
from keras_transfer.settings import EngineSettings

logger = logging.getLogger("keras_transfer")

SHARD_IMAGES = 256
SHARD_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Features:
    """What :func:`extract` gives.

    Attributes:
        values: float32 (N, D), in the order of the rows asked for; a memory map where they are more than 1 GB.
        engine: ``openvino``, ``litert`` or ``keras``: what computed them, now or when they were cached.
        engine_precision: ``float32`` or ``bfloat16``: what OpenVINO computed in; ``float32`` of the others.
        computed: different images run through the network.
        cached: different images taken from the cache. Equal images count once.
        seconds: all of it.
        preparation_seconds: of these, converting (or loading) and checking the engine.
    """

    values: np.ndarray
    engine: str
    engine_precision: str
    computed: int
    cached: int
    seconds: float
    preparation_seconds: float


def extract(
    table: ImageTable,
    backbone: keras.Model,
    *,
    preprocessing: Preprocessing,
    engine: str = "auto",
    engine_precision: str = "float32",
    batch_size: int = 32,
    cache: bool = True,
    indices: Sequence[int] | np.ndarray | None = None,
    converted: bytes | None = None,
    given: str | None = None,
) -> Features:
    """The backbone's pooled features of every image: ``GAP(backbone(x))``, in float32 within 1e-4 of the scale.

    Equal images (by the hash of their bytes) are computed once. What is computed is committed to the cache
    every 256 images or 10 seconds, so an interrupted call goes on where it stopped.

    Args:
        table: the images.
        backbone: pixels float32 (B, H, W, 3) in [0, 255] to (B, h, w, D), which is averaged, or (B, D).
        preprocessing: its size is the backbone's.
        engine: ``openvino`` (where the package is installed) or ``litert``: converted once, all CPU cores; ``keras``;
            or ``auto``: Keras on a GPU, otherwise what is sooner done for so many images with an empty cache. Where one
            fails, or differs from Keras by more than 1e-3 of the scale on the first few images, the next in this order
            computes, with a warning.
        engine_precision: ``float32``, or ``bfloat16`` for ``openvino`` on a processor that has it: faster, and a few
            percent of the scale off. It is believed with a cosine of 0.98 to Keras on the first few images.
        batch_size: images decoded and computed together, at most; the edge runtimes take fewer where that is faster.
        cache: False: nothing is read from the disk's cache or written to it.
        indices: rows of the table, in any order; all by default.
        converted: the backbone as a ``.tflite`` in another precision, pixels to (B, D): its features are given, and
            ``engine`` and its precision are not asked.
        given: a folder of features that were computed elsewhere: all are taken from there, and nothing is computed.

    Raises:
        UsageError: unknown engine, one that cannot be had on this machine, or sizes that do not fit; given features of
            another network or other pixels.
        DataError: an image is gone, damaged or changed since the table was made; or has no features among those given.
        CacheError: there is no room on the disk for more features than memory should hold.
    """
    started = time.perf_counter()
    asked = EngineSettings(engine, engine_precision)
    engines.require(asked)
    size_limit()  # a size that is not understood is found before the work, not after
    rows = row_numbers(indices, len(table))
    pooled = engines.pooled_model(backbone, preprocessing.size)
    places: dict[str, int] = {}  # image -> the first position that shows it
    for position, row in enumerate(rows):
        places.setdefault(table.sha256[row], position)
    if given is not None:
        return _given(FeatureFolder(given), table, rows, places, pooled, preprocessing, started)

    disk = FeatureCache() if cache else None
    identity = _identity(pooled) if disk else None
    if converted is not None:
        asked, identity = EngineSettings("litert"), sha256_of(converted)
    chosen = Engine(asked, pooled, identity, len(places), disk)

    def collection() -> Collection | None:
        own = chosen.identity if converted is None else {**chosen.identity, "precision": "converted"}
        return collection_of(disk, identity, pooled, preprocessing, own)

    values = room_for((len(rows), pooled.output_shape[1]), disk.root if disk else None)
    known = collection()
    found = known.read(places, values) if known else set()
    todo = [digest for digest in places if digest not in found]
    if todo:
        some = rows[[places[digest] for digest in todo[: engines.CHECK_IMAGES]]]

        def sample() -> np.ndarray:
            return np.concatenate(list(batches(table, preprocessing, indices=some)))

        engine = chosen.name
        runner = ParallelLiteRTRunner(converted) if converted is not None else chosen.runner(sample)
        if chosen.name != engine:  # it was refused: the next one's features may be known already
            known = collection()
            found = known.read(places, values) if known else set()
            todo = [digest for digest in places if digest not in found]
        stream = stream_of(
            runner, table, preprocessing, rows[[places[digest] for digest in todo]], batch_size
        )
        writer = Writer(disk, known) if disk and known else None
        work = _keep(stream, todo, places, values, writer)
        for _ in track(work, "Extracting features", total=len(todo)):
            pass
    return Features(
        values=_of_rows(values, table, rows, places),
        engine=chosen.name,
        engine_precision=chosen.precision,
        computed=len(todo),
        cached=len(found),
        seconds=time.perf_counter() - started,
        preparation_seconds=chosen.preparation_seconds,
    )


def _of_rows(
    values: np.ndarray, table: ImageTable, rows: np.ndarray, places: Mapping[str, int]
) -> np.ndarray:
    """Values that are filled for the first row of each image, filled for every row."""
    if len(places) < len(rows):
        for position, row in enumerate(rows.tolist()):
            if (first := places[table.sha256[row]]) != position:
                values[position] = values[first]
    return values


def _given(
    folder: FeatureFolder,
    table: ImageTable,
    rows: np.ndarray,
    places: Mapping[str, int],
    pooled: keras.Model,
    preprocessing: Preprocessing,
    started: float,
) -> Features:
    """The features in a folder, where they are those of this network."""
    engine, precision = (str(folder.record.engine.get(name)) for name in ("engine", "precision"))
    dim = pooled.output_shape[1]
    folder.require(model_hash(pooled), preprocessing, dim, engines.identity(engine, precision))
    values = room_for((len(rows), dim), None)
    folder.require_all(table, rows, folder.read(places, values))
    return Features(
        values=_of_rows(values, table, rows, places),
        engine=engine,
        engine_precision=precision,
        computed=0,
        cached=len(places),
        seconds=time.perf_counter() - started,
        preparation_seconds=0.0,
    )


def _keep(
    stream: Generator[np.ndarray, None, None],
    todo: Sequence[str],
    places: Mapping[str, int],
    values: np.ndarray,
    writer: Writer | None,
) -> Iterator[str]:
    """Take ``stream``, the features of the images ``todo``, to their places of ``values``; yield each image.

    Shards are committed on the way, and what is pending when the work is interrupted.
    """
    done = committed = 0
    since = time.monotonic()

    def commit() -> None:
        nonlocal committed, since
        images = todo[committed:done]
        if writer is not None:
            writer.write(images, values[[places[digest] for digest in images]])
        committed, since = done, time.monotonic()

    try:
        for features in stream:
            images = todo[done : done + len(features)]
            values[[places[digest] for digest in images]] = features
            done += len(features)
            if done - committed >= SHARD_IMAGES or time.monotonic() - since > SHARD_SECONDS:
                commit()
            yield from images
    finally:
        stream.close()
        commit()


def _identity(pooled: keras.Model) -> str | None:
    try:
        return model_hash(pooled)
    except CacheError as error:
        logger.warning("%s", error)
        return None


def collection_of(
    disk: FeatureCache | None,
    identity: str | None,
    pooled: keras.Model,
    preprocessing: Preprocessing,
    engine: Mapping[str, str],
) -> Collection | None:
    """Where an engine's features are kept, under everything they depend on; None: nowhere.

    The pooling is a layer of the model, so it is in the model's hash.
    """
    if disk is None or identity is None:
        return None
    height, width = preprocessing.size
    key = {
        "format": FORMAT,
        "model": identity,
        "preprocessing": preprocessing.fingerprint(),
        "dim": pooled.output_shape[1],
        **engine,
    }
    name = engine["engine"] + (" bfloat16" if engine["precision"] == "bfloat16" else "")
    return disk.collection(key, {"backbone": pooled.name, "size": f"{height}x{width}", "engine": name})
