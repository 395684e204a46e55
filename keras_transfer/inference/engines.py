"""What computes frozen features: LiteRT with XNNPACK, or Keras; and which of the two is sooner done.

Both give the same numbers: `engine(x) == model(x, training=False)` within 1e-4 of the scale. On a CPU the edge
runtime is the fastest way to compute them (see :data:`COSTS`); the backbone is converted once and checked
against Keras on a few of the user's own images before anything is believed.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.backbones.cost import macs
from keras_transfer.errors import ExportError, UsageError, unknown_name
from keras_transfer.inference.keras_runner import KerasRunner
from keras_transfer.inference.litert_runner import ParallelLiteRTRunner
from keras_transfer.inference.runner import Runner
from keras_transfer.litert import convert

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


def require(engine: str) -> None:
    """Raise ``UsageError`` for an engine that there is not."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)


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


@dataclass(frozen=True)
class SelfCheck:
    """How far LiteRT's outputs were from Keras's on real images.

    ``difference``: the largest absolute difference. ``scale``: the largest absolute Keras output. A check
    passes when ``difference <= tolerance * scale``. ``machine``: the kind of processor it was made on.
    """

    difference: float
    scale: float
    images: int
    machine: str = platform.machine()

    def passed(self, tolerance: float) -> bool:
        """False as well when an output was not finite."""
        return bool(self.difference <= tolerance * self.scale)


@dataclass(frozen=True)
class Converted:
    """A converted model, and its self-check where one was made on this kind of processor."""

    content: bytes
    check: SelfCheck | None


class Conversions(Protocol):
    """Where converted models are found and kept."""

    def load(self, key: str) -> Converted | None:
        """The model under ``key``, or None."""

    def save(self, key: str, content: bytes, check: SelfCheck, about: Mapping[str, Any]) -> None:
        """Keep a model."""


def prepare(
    name: str,
    pooled: keras.Model,
    sample: Callable[[], np.ndarray],
    models: Conversions,
    key: str,
) -> Runner:
    """What runs a model by the engine ``name``, converted and checked; Keras, with a warning, where LiteRT cannot.

    Args:
        name: ``litert`` or ``keras``.
        pooled: one input ``(B, H, W, 3)`` of fixed size, one output.
        sample: gives a few real images, uint8 ``(n, H, W, 3)``; called only when there is something to check.
        models: where a converted model is found and kept.
        key: its name there.
    """
    if name == "keras":
        return KerasRunner(pooled)
    try:
        known = models.load(key)
        content = known.content if known else _convert(pooled)
        engine = ParallelLiteRTRunner(content)
        check = known.check if known else None
        if check is None:
            check = self_check(engine, pooled, sample())
            models.save(key, content, check, _about(pooled))
    except ExportError as error:
        logger.warning(
            "LiteRT cannot run %s; Keras computes the features instead, slower. %s", pooled.name, error
        )
        return KerasRunner(pooled)
    if not check.passed(TOLERANCE):
        logger.warning(
            "LiteRT's features of %s differ from Keras's by %.3g on a scale of %.3g, over the tolerance of %g; "
            "Keras computes them instead, slower.",
            pooled.name,
            check.difference,
            check.scale,
            TOLERANCE,
        )
        return KerasRunner(pooled)
    return engine


def self_check(engine: Runner, pooled: keras.Model, pixels: np.ndarray) -> SelfCheck:
    """Compare an engine with Keras on a few images, uint8 ``(n, H, W, 3)``."""
    expected = np.asarray(pooled(pixels.astype(np.float32), training=False), np.float32)
    difference = np.abs(engine.predict(pixels) - expected)
    return SelfCheck(float(difference.max()), float(np.abs(expected).max()), len(pixels))


def _convert(pooled: keras.Model) -> bytes:
    logger.info(
        "Converting %s for fast feature extraction (once, about %d s)", pooled.name, CONVERSION_SECONDS
    )
    return convert(pooled)


def _about(pooled: keras.Model) -> dict[str, str]:
    height, width = pooled.input_shape[1:3]
    return {"backbone": pooled.name, "size": f"{height}x{width}", "precision": "float32"}
