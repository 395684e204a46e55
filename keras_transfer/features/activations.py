"""What the layers below a training's boundary give for every image: computed once, kept in half precision.

Frozen layers give the same activations in every epoch. They are computed through the fast engine, written to the
cache, and read memory-mapped while the layers above train (``training.split_cache``). Augmentation happens before
the frozen layers, so each image is stored in a fixed number of augmented views, and the epochs take turns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np

from keras_transfer.data.order import row_numbers
from keras_transfer.data.pipeline import batches
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import CacheError, UsageError
from keras_transfer.features.activation_files import OFF, ActivationFiles
from keras_transfer.features.cache import FeatureCache, cache_key
from keras_transfer.features.choosing import Engine
from keras_transfer.features.identity import model_hash
from keras_transfer.features.shards import FORMAT
from keras_transfer.hashing import sha256_of
from keras_transfer.inference import Runner, engines, over
from keras_transfer.inference import stream as stream_of
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.progress import track
from keras_transfer.settings import EngineSettings

BLOCK = 32
"""Images decoded, augmented and computed together. The augmentation's keys count these blocks."""


class Augments(Protocol):
    """What is needed of ``data.augmentation.Augmenter``."""

    def images(self, pixels: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """uint8 (B, H, W, 3) to float32 (B, H, W, 3) in [0, 255], a pure function of its arguments."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: everything the result depends on."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What :func:`activations` gives.

    Attributes:
        values: float16 (float32 where the numbers are too large) ``(V, M, ...)``, memory-mapped: ``V`` views of
            ``M`` different images.
        places: int64 ``(len(table),)``: a row of the table to its place among the ``M``; -1: not there.
        engine: ``openvino``, ``litert`` or ``keras``: what computed them, now or when they were cached.
        computed: images run through the network, each view of it counted.
        cached: the same, found in the cache. Equal images count once.
        seconds: all of it.
        preparation_seconds: of these, converting (or loading) and checking the engine.
    """

    values: np.ndarray
    places: np.ndarray
    engine: str
    computed: int
    cached: int
    seconds: float
    preparation_seconds: float

    @property
    def views(self) -> int:
        """How many augmented views of each image there are."""
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image's activation."""
        return self.values.shape[2:]

    def take(self, rows: Sequence[int] | np.ndarray, view: int = 0) -> np.ndarray:
        """The activations of rows of the table, in order: a new array ``(b, ...)`` of the dtype they are kept in.

        Raises:
            UsageError: a row that was not among the indices, or no such view.
        """
        numbers = row_numbers(rows, len(self.places))
        places = self.places[numbers]
        if np.any(places < 0):
            raise UsageError(
                f"Row {numbers[places < 0][0]} has no activations; they were computed for other rows. "
                "Ask for all rows when computing them."
            )
        if not 0 <= view < self.views:
            raise UsageError(f"View {view} was asked for; there are views 0 to {self.views - 1}.")
        return self.values[view][places]


def activations(
    table: ImageTable,
    lower: keras.Model,
    *,
    preprocessing: Preprocessing,
    indices: Sequence[int] | np.ndarray | None = None,
    engine: str = "auto",
    engine_precision: str = "float32",
    augmenter: Augments | None = None,
    views: int = 1,
    seed: int = 0,
) -> Activations:
    """Run images through the frozen part of a network, or find in the cache that it was done.

    Equal images (by the hash of their bytes) are computed once. The result belongs to this set of images: another
    set, other weights, another augmentation, seed or number of views are computed anew, and so is everything after
    an interruption. The memory needed does not grow with the number of images.

    Args:
        table: the images.
        lower: from ``boundary.cut_at``: pixels float32 (B, H, W, 3) in [0, 255] to an activation of fixed shape.
        preprocessing: its size is the network's.
        indices: rows of the table; all by default.
        engine, engine_precision: what computes, as for ``features.extract``.
        augmenter: changes the images; view ``v`` of block ``b`` (32 images, in the order of their hashes) is
            ``augmenter.images(pixels, key=(seed, v, b))``.
        views: how many augmented views of each image; 1 without an augmenter.
        seed: of the views.

    Raises:
        UsageError: an engine that cannot be had, no rows, impossible rows or views, or sizes that do not fit.
        DataError: an image is gone, damaged or changed, or an activation is not a finite number.
        CacheError: too little space, the cache cannot be written, or the network has no lasting identity.
    """
    started = time.perf_counter()
    asked = EngineSettings(engine, engine_precision)
    engines.require(asked)
    if views < 1 or (views > 1 and augmenter is None):
        raise UsageError(
            f"views={views} was given; at least 1, and without an augmenter exactly 1, is expected."
        )
    sized = engines.sized_model(lower, preprocessing.size)
    if None in sized.output_shape[1:]:
        raise UsageError(
            f"The activation of {lower.name!r} has the shape {sized.output_shape}; fixed sides are expected."
        )
    rows = row_numbers(indices, len(table))
    if not len(rows):
        raise UsageError("No rows were given; at least one image is expected.")
    first = {
        table.sha256[row]: row for row in reversed(rows.tolist())
    }  # image -> the first row that shows it
    digests = sorted(first)
    sources = np.array([first[digest] for digest in digests], np.int64)
    number = {digest: place for place, digest in enumerate(digests)}
    places = np.full(len(table), -1, np.int64)
    places[rows] = [number[table.sha256[row]] for row in rows.tolist()]

    try:
        identity = model_hash(sized)
    except CacheError as error:
        raise CacheError(f"{error} Or {OFF}.") from error
    shape = (views, len(digests), *sized.output_shape[1:])
    content = {
        "format": FORMAT,
        "model": identity,
        "preprocessing": preprocessing.fingerprint(),
        "images": sha256_of("".join(digests).encode()),
        "shape": shape,
        "augmentation": augmenter.to_dict() if augmenter else None,
        "seed": [seed, BLOCK] if augmenter else None,
    }
    cache = FeatureCache()
    files = ActivationFiles(cache)
    chosen = Engine(asked, sized, identity, views * len(digests), cache)
    key = cache_key({**content, **chosen.identity})
    values = files.load(key, shape)
    computed = 0
    if values is None:

        def sample() -> np.ndarray:
            return next(batches(table, preprocessing, engines.CHECK_IMAGES, indices=sources))

        engine = chosen.name
        runner = chosen.runner(sample)
        if chosen.name != engine:  # it was refused: the next one's activations may be known already
            key = cache_key({**content, **chosen.identity})
            values = files.load(key, shape)
        if values is None:
            chunks = partial(_compute, runner, table, preprocessing, sources, augmenter, views, seed)
            height, width = preprocessing.size
            about = {
                "model": lower.name,
                "size": f"{height}x{width}",
                "views": f"{views} views",
                "engine": chosen.name,
            }
            values = files.save(key, shape, chunks, about)
            computed = views * len(digests)
    return Activations(
        values=values,
        places=places,
        engine=chosen.name,
        computed=computed,
        cached=views * len(digests) - computed,
        seconds=time.perf_counter() - started,
        preparation_seconds=chosen.preparation_seconds,
    )


def _compute(
    runner: Runner,
    table: ImageTable,
    preprocessing: Preprocessing,
    rows: np.ndarray,
    augmenter: Augments | None,
    views: int,
    seed: int,
) -> Generator[np.ndarray, None, None]:
    """float32 (1, ...), image after image, view after view."""

    def images() -> Iterator[np.ndarray]:
        for view in range(views):
            if augmenter is None:
                stream = stream_of(runner, table, preprocessing, rows, BLOCK)
            else:
                stream = over(runner, _augmented(table, preprocessing, rows, augmenter, (seed, view)))
            with contextlib.closing(stream):
                for chunk in stream:
                    yield from np.split(chunk, len(chunk))

    return track(images(), "Computing what stays frozen", total=views * len(rows))


def _augmented(
    table: ImageTable,
    preprocessing: Preprocessing,
    rows: np.ndarray,
    augmenter: Augments,
    key: tuple[int, ...],
) -> Iterator[np.ndarray]:
    """Augmented by one thread: an augmenter may hold state while it works."""
    for block, pixels in enumerate(batches(table, preprocessing, BLOCK, indices=rows)):
        yield augmenter.images(pixels, key=(*key, block))
