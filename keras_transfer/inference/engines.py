"""What computes frozen features: OpenVINO, LiteRT with XNNPACK, or Keras; and which of them is sooner done.

In float32 all give the same numbers: `engine(x) == model(x, training=False)` within 1e-4 of the scale. On a CPU an edge
runtime is the fastest way to compute them (see :data:`COSTS`); the backbone is converted once and checked
against Keras on a few of the user's own images before anything is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.backbones.cost import macs
from keras_transfer.engine_choice import openvino_is_missing, require_engine
from keras_transfer.errors import ExportError, UsageError
from keras_transfer.inference.keras_runner import KerasRunner
from keras_transfer.inference.litert_runner import ParallelLiteRTRunner
from keras_transfer.inference.openvino_runner import OpenVINORunner, require_bfloat16
from keras_transfer.inference.runner import Runner
from keras_transfer.inference.self_check import TOLERANCES, Conversions, Converted, SelfCheck, self_check
from keras_transfer.litert import convert
from keras_transfer.settings import EngineSettings

logger = logging.getLogger("keras_transfer")

CHAIN = ("openvino", "litert", "keras")
"""The engines; where one cannot run a network, or is not believed, the next one computes."""
TITLES = {"openvino": "OpenVINO", "litert": "LiteRT", "keras": "Keras"}
CHECK_IMAGES = 4


@dataclass(frozen=True)
class Cost:
    """Seconds before the first image, and per image and giga multiply-add."""

    start: float
    per_gmac: float


# Measured with EfficientNet-Lite0 at 224 px (0.385 GMAC) on two CPU cores, TensorFlow 2.21, LiteRT 2.3, OpenVINO
# 2026.4: LiteRT 115 images/s, tf.function 52 images/s, OpenVINO 1.3 times LiteRT (with AVX-512), conversion about 15 s,
# tracing about 3 s. Only their ratio matters here. They are constants, not timings of this machine, so that the same
# call always makes the same choice.
COSTS = {
    "openvino": Cost(start=2.0, per_gmac=1 / 149 / 0.385),
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


def require(asked: EngineSettings) -> None:
    """Refuse an engine, or a precision of it, that there is not, or not on this machine.

    Raises:
        UsageError: an unknown name, openvino missing or too old, or a processor without bfloat16.
    """
    require_engine(asked)
    if asked.engine_precision == "bfloat16":
        require_bfloat16()


def runtime(engine: str) -> str:
    """The versions an engine's numbers depend on."""
    own = {"openvino": ("openvino",), "litert": ("ai-edge-litert",), "keras": ()}[engine]
    return " ".join(f"{package} {_version(package)}" for package in ("keras", "tensorflow", *own))


def identity(engine: str, precision: str) -> dict[str, str]:
    """What of an engine its numbers depend on, JSON-able: a part of the cache's keys."""
    return {"engine": engine, "precision": precision, "runtime": runtime(engine)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # tensorflow-cpu, tf-nightly: the module knows
        return str(getattr({"tensorflow": tf, "keras": keras}.get(package), "__version__", "unknown"))


def choose(model: keras.Model, images: int) -> str:
    """The engine that is sooner done, in float32: Keras on a GPU; on a CPU by the estimated total time.

    OpenVINO counts where it is installed. The engines differ in the last digits, so what happens to be in the cache has
    no say: the same images would give other weights the second time.

    Args:
        model: what is to be run.
        images: how many different images it is to see, cached or not.
    """
    if tf.config.list_physical_devices("GPU"):
        return "keras"
    work = macs(model) / 1e9
    seconds = {name: cost.start + images * work * cost.per_gmac for name, cost in COSTS.items()}
    edge = "litert" if openvino_is_missing() else "openvino"
    return edge if seconds[edge] + CONVERSION_SECONDS < seconds["keras"] else "keras"


def prepare(
    asked: EngineSettings,
    pooled: keras.Model,
    sample: Callable[[], np.ndarray],
    models: Conversions,
    key: str,
) -> Runner:
    """What runs a model by an engine, converted and checked; where it cannot, by the next of :data:`CHAIN`.

    Each that cannot is a warning.

    Args:
        asked: ``openvino`` in a precision, ``litert`` or ``keras``.
        pooled: one input ``(B, H, W, 3)`` of fixed size, one output.
        sample: gives a few real images, uint8 ``(n, H, W, 3)``; called only when there is something to check.
        models: where a converted model is found and kept.
        key: its name there.
    """
    if asked.engine == "keras":
        return KerasRunner(pooled)
    try:
        known = models.load(key) or Converted(_convert(pooled))
    except ExportError as error:
        _warn(asked.engine, "keras", pooled, f"it cannot be converted. {error}")
        return KerasRunner(pooled)
    sample = cache(sample)
    for name, other in pairwise(CHAIN[CHAIN.index(asked.engine) :]):
        precision = asked.engine_precision if name == "openvino" else "float32"
        label = " ".join(identity(name, precision).values())
        try:
            runner = _open(name, precision, known.content)
            if label not in known.checks:
                check = self_check(runner, pooled, sample())
                known = replace(known, checks={**known.checks, label: check})
                models.save(key, known, _about(pooled))
        except ExportError as error:
            _warn(name, other, pooled, f"it cannot be run. {error}")
            continue
        if known.checks[label].passed(TOLERANCES[precision]):
            return runner
        runner.close()
        _warn(name, other, pooled, _refusal(known.checks[label], precision))
    return KerasRunner(pooled)


def _open(name: str, precision: str, content: bytes) -> Runner:
    return OpenVINORunner(content, precision) if name == "openvino" else ParallelLiteRTRunner(content)


def _refusal(check: SelfCheck, precision: str) -> str:
    allowed = TOLERANCES[precision]
    told = f"its answers in {precision} differ from Keras's by {check.difference:.3g} on a scale of {check.scale:.3g}"
    cosine = f", their cosine is {check.cosine:.3f}" if allowed.cosine > -1 else ""
    return f"{told}{cosine}, over the tolerance."


def _warn(engine: str, other: str, pooled: keras.Model, why: str) -> None:
    logger.warning(
        "%s does not run %s: %s %s computes instead.", TITLES[engine], pooled.name, why, TITLES[other]
    )


def _convert(pooled: keras.Model) -> bytes:
    logger.info(
        "Converting %s for fast feature extraction (once, about %d s)", pooled.name, CONVERSION_SECONDS
    )
    return convert(pooled)


def _about(pooled: keras.Model) -> dict[str, str]:
    height, width = pooled.input_shape[1:3]
    return {"backbone": pooled.name, "size": f"{height}x{width}", "precision": "float32"}
