"""What computes frozen features: LiteRT with XNNPACK, or Keras; and which of the two is sooner done.

Both give the same numbers: `engine(x) == model(x, training=False)` within 1e-4 of the scale. On a CPU the edge
runtime is the fastest way to compute them (see :data:`COSTS`); the backbone is converted once and checked
against Keras on a few of the user's own images before anything is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from queue import SimpleQueue
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.backbones.cost import macs
from keras_transfer.data.pipeline import batches, load_image
from keras_transfer.data.table import ImageTable
from keras_transfer.data.threads import default_threads, ordered_map
from keras_transfer.errors import ExportError, UsageError
from keras_transfer.features.converted import ConvertedModels, SelfCheck
from keras_transfer.litert import LiteRTModel, best_batch, convert
from keras_transfer.preprocessing import Preprocessing

logger = logging.getLogger("keras_transfer")

ENGINES = ("auto", "litert", "keras")
TOLERANCE = 1e-3  # of the scale; a sound conversion is within 1e-5
CHECK_IMAGES = 4


@dataclass(frozen=True)
class Cost:
    """Seconds before the first image, and per image and giga multiply-add."""

    start: float
    per_gmac: float


# Measured with EfficientNet-Lite0 at 224 px (0.385 GMAC) on two CPU cores, TensorFlow 2.21, LiteRT 2.3:
# LiteRT 115 images/s, tf.function 52 images/s, conversion about 15 s, tracing about 3 s. Only their ratio
# matters here. They are constants, not timings of this machine, so that the same call always makes the
# same choice.
COSTS = {
    "litert": Cost(start=1.0, per_gmac=1 / 115 / 0.385),
    "keras": Cost(start=3.0, per_gmac=1 / 52 / 0.385),
}
CONVERSION_SECONDS = 15.0
_COPIES_BYTES = 400_000_000  # of weights, in all interpreters together


class Engine(Protocol):
    """Pixels, uint8 or float32 ``(B, H, W, 3)`` in [0, 255], to features float32 ``(B, D)``.

    Where the model is not pooled, the features are activations ``(B, h, w, D)``."""

    name: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray: ...

    def stream(
        self, table: ImageTable, preprocessing: Preprocessing, rows: np.ndarray, batch_size: int
    ) -> Generator[np.ndarray, None, None]:
        """The features of ``rows`` in order, float32 ``(b, D)``, any number at a time."""

    def over(self, blocks: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """The features of blocks of pixels in order, any number at a time. ``blocks`` is read by one thread."""


class KerasEngine:
    """``model(x, training=False)`` as one graph. (Freezing its variables to constants is a third faster on a
    CPU, but takes as long as thousands of images: there LiteRT is the engine.)"""

    name = "keras"

    def __init__(self, pooled: keras.Model) -> None:
        height, width = pooled.input_shape[1:3]

        @tf.function(input_signature=[tf.TensorSpec((None, height, width, 3), tf.float32)])
        def features(pixels: tf.Tensor) -> tf.Tensor:
            return tf.cast(pooled(pixels, training=False), tf.float32)

        self._features = features

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self._features(tf.cast(tf.constant(pixels), tf.float32)).numpy()

    def stream(
        self, table: ImageTable, preprocessing: Preprocessing, rows: np.ndarray, batch_size: int
    ) -> Generator[np.ndarray, None, None]:
        """Two batches in flight, decoded by other threads: none waits while a batch is handed over."""
        return self.over(batches(table, preprocessing, batch_size, indices=rows))

    def over(self, blocks: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        return ordered_map(self, blocks, threads=2, ahead=2)


class LiteRTEngine:
    """A converted backbone on all CPU cores: one single-threaded interpreter a core, fed a few images at a time.

    Against one interpreter with all threads and batches of 8 this needs a tenth less processor time (an
    image's activations stay in the core's own cache) and does not wait for the slowest thread of every
    layer. A backbone too large for a copy a core gets fewer interpreters with more threads each.
    """

    name = "litert"

    def __init__(self, content: bytes) -> None:
        cores = default_threads()
        self._copies = max(1, min(cores, _COPIES_BYTES // len(content)))
        models = [LiteRTModel(content, threads=cores // self._copies) for _ in range(self._copies)]
        self._step = best_batch(*models[0].input_size)
        self._free: SimpleQueue[LiteRTModel] = SimpleQueue()
        for model in models:
            self._free.put(model)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return np.concatenate([self._run(chunk) for chunk in _cut(pixels, self._step)])

    def stream(
        self, table: ImageTable, preprocessing: Preprocessing, rows: np.ndarray, batch_size: int
    ) -> Generator[np.ndarray, None, None]:
        """Images are decoded by the thread that computes them, so no thread takes another's core or cache."""

        def one(chunk: np.ndarray) -> np.ndarray:
            return self._run(np.stack([load_image(table, i, preprocessing) for i in chunk.tolist()]))

        chunks = _cut(rows, min(self._step, batch_size))
        return ordered_map(one, chunks, threads=self._copies, ahead=4 * self._copies)

    def over(self, blocks: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        chunks = (chunk for block in blocks for chunk in _cut(block, self._step))
        return ordered_map(self._run, chunks, threads=self._copies, ahead=4 * self._copies)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        model = self._free.get()
        try:
            return model.predict(pixels)
        finally:
            self._free.put(model)


def _cut(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (items[start : start + size] for start in range(0, len(items), size))


def sized_model(backbone: keras.Model, size: tuple[int, int]) -> keras.Model:
    """The backbone at a fixed image size, in inference mode where that had to be set; its output as it is.

    Args:
        backbone: one input ``(B, H, W, 3)``, one output.
        size: (height, width) of the images in pixels.

    Raises:
        UsageError: other inputs or outputs, or a fixed size that is not ``size``.
    """
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1:
        raise UsageError(
            f"The backbone {backbone.name!r} has {len(backbone.inputs)} inputs and {len(backbone.outputs)} "
            "outputs; features need one of each."
        )
    expected = tuple(backbone.inputs[0].shape[1:])
    if len(expected) != 3 or any(e not in (None, s) for e, s in zip(expected, (*size, 3), strict=True)):
        raise UsageError(
            f"The backbone {backbone.name!r} takes images {expected}, the preprocessing gives {(*size, 3)}. "
            "Use the same size for both."
        )
    source, output = backbone.inputs[0], backbone.outputs[0]
    if None in expected:
        source = keras.Input((*size, 3))
        output = backbone(source, training=False)
    return keras.Model(source, output, name=backbone.name)


def pooled_model(backbone: keras.Model, size: tuple[int, int]) -> keras.Model:
    """The backbone at a fixed image size, ending in features ``(B, D)``: a feature map is averaged.

    Args:
        backbone: one input ``(B, H, W, 3)``, one output ``(B, h, w, D)`` or ``(B, D)``.
        size: (height, width) of the images in pixels.

    Raises:
        UsageError: other inputs or outputs, or a fixed size that is not ``size``.
    """
    sized = sized_model(backbone, size)
    output = sized.outputs[0]
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D()(output)
    if len(output.shape) != 2 or output.shape[1] is None:
        raise UsageError(
            f"The backbone {backbone.name!r} gives {tuple(backbone.outputs[0].shape)}; expected (B, h, w, D) "
            "or (B, D)."
        )
    return keras.Model(sized.inputs[0], output, name=backbone.name)


def runtime(engine: str) -> str:
    """The versions an engine's numbers depend on."""
    packages = {"litert": ("keras", "tensorflow", "ai-edge-litert"), "keras": ("keras", "tensorflow")}[engine]
    return " ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # tensorflow-cpu, tf-nightly: the module knows
        return str(getattr({"tensorflow": tf, "keras": keras}.get(package), "__version__", "unknown"))


def choose(model: keras.Model, images: int) -> str:
    """The engine that is sooner done: Keras on a GPU; on a CPU by the estimated total time.

    The two differ in the last digits, so what happens to be in the cache has no say: the same images would give
    other weights the second time.

    Args:
        model: what is to be run.
        images: how many different images it is to see, cached or not.
    """
    if tf.config.list_physical_devices("GPU"):
        return "keras"
    work = macs(model) / 1e9
    seconds = {name: cost.start + images * work * cost.per_gmac for name, cost in COSTS.items()}
    seconds["litert"] += CONVERSION_SECONDS
    return min(seconds, key=lambda name: seconds[name])


def prepare(
    name: str,
    pooled: keras.Model,
    sample: Callable[[], np.ndarray],
    models: ConvertedModels,
    key: str,
) -> Engine:
    """The engine ``name`` for a model, converted and checked; Keras, with a warning, where LiteRT cannot.

    Args:
        name: ``litert`` or ``keras``.
        pooled: from :func:`pooled_model`.
        sample: gives a few real images, uint8 ``(n, H, W, 3)``; called only when there is something to check.
        models: where a converted model is found and kept.
        key: its name there.
    """
    if name == "keras":
        return KerasEngine(pooled)
    try:
        known = models.load(key)
        content = known.content if known else _convert(pooled)
        engine = LiteRTEngine(content)
        check = known.check if known else None
        if check is None:
            check = self_check(engine, pooled, sample())
            models.save(key, content, check, _about(pooled))
    except ExportError as error:
        logger.warning(
            "LiteRT cannot run %s; Keras computes the features instead, slower. %s", pooled.name, error
        )
        return KerasEngine(pooled)
    if not check.passed(TOLERANCE):
        logger.warning(
            "LiteRT's features of %s differ from Keras's by %.3g on a scale of %.3g, over the tolerance of %g; "
            "Keras computes them instead, slower.",
            pooled.name,
            check.difference,
            check.scale,
            TOLERANCE,
        )
        return KerasEngine(pooled)
    return engine


def self_check(engine: Engine, pooled: keras.Model, pixels: np.ndarray) -> SelfCheck:
    """Compare an engine with Keras on a few images, uint8 ``(n, H, W, 3)``."""
    expected = np.asarray(pooled(pixels.astype(np.float32), training=False), np.float32)
    difference = np.abs(engine(pixels) - expected)
    return SelfCheck(float(difference.max()), float(np.abs(expected).max()), len(pixels))


def _convert(pooled: keras.Model) -> bytes:
    logger.info(
        "Converting %s for fast feature extraction (once, about %d s)", pooled.name, CONVERSION_SECONDS
    )
    return convert(pooled)


def _about(pooled: keras.Model) -> dict[str, str]:
    height, width = pooled.input_shape[1:3]
    return {"backbone": pooled.name, "size": f"{height}x{width}", "precision": "float32"}
