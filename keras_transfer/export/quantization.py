"""Quantization after training: ``int8``, ``int16x8`` and ``dynamic`` with the head kept in float.

The backbone is quantized up to its feature map (``int8``: from behind its first layers, see ``front``); pooling,
Dense layers and softmax stay in float32. A logistic regression folded into a Dense layer has weights that span orders
of magnitude (each is divided by its feature's deviation), and eight bits lose them. Measured on ELPV with Lite0, before
the probe bounded that spread: 12 points of accuracy for a head in int8, 12 for one with dynamic-range weights. A float
head costs 4 bytes a weight and no measurable time. Without a float at all: see ``all_integer``.

What the int8 backbone gets wrong on average is measured on the calibration images and added back, channel by
channel, in front of the head (bias correction: Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2, here with data).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export.front import convert_front, front_output, with_uint8_input
from keras_transfer.export.stitching import stitch
from keras_transfer.inference import KerasRunner
from keras_transfer.litert import LiteRTModel, convert, converter_for, converter_tools, run_converter

log = logging.getLogger("keras_transfer")

Calibration = Callable[[], Iterable[np.ndarray]]
"""Gives the calibration images anew at each call: batches ``(B, H, W, 3)``, RGB in [0, 255]."""

HEAD_LAYERS = (
    "Activation",
    "AlphaDropout",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Identity",
    "LayerNormalization",
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "SpatialDropout2D",
    "UnitNormalization",
)
"""Built-in layers from one tensor to one tensor that belong to the head when they end a model."""

FLOAT_HEAD_LIMIT = 4_000_000
"""Weights a float head may have (16 MB). Dense layers further down, as VGG's of 100 million, are quantized."""


def convert_integer(model: keras.Model, calibration: Calibration, *, activations: int = 8) -> bytes:
    """Convert a classifier to a ``.tflite`` of int8 weights and integer activations; first layers and head in float.

    Input: uint8 ``(B, H, W, 3)``, the pixels themselves, without quantization parameters: a client feeds them as they
    are. Output: float32 ``(B, C)``. Operators that LiteRT has no int8 kernel for stay in float.

    Args:
        model: Functional or Sequential, float32 pixels in [0, 255] to probabilities.
        calibration: representative images; the ranges of all activations come from them.
        activations: bits, 8 or 16 (``int16x8``: nearly float's accuracy, and no fast kernels on most processors).

    Raises:
        UsageError: no calibration images, or nothing in the model can be quantized.
        ExportError: the converter failed.
    """
    return Parts(model, calibration).quantized(activations)


class Parts:
    """A classifier cut into float front, the body that is quantized, and float head; joined again as often as asked.

    The front is converted once, and the float backbone is traced once.

    Args:
        model: see :func:`convert_integer`.
        calibration: representative images.
        whole: the first layers and the head belong to the body, too; there is no bias correction then.

    Attributes:
        body: the part to quantize.
        before: pixels ``(B, H, W, 3)`` to the body's input.

    Raises:
        UsageError, ExportError: see :func:`convert_integer`.
    """

    def __init__(self, model: keras.Model, calibration: Calibration, *, whole: bool = False) -> None:
        self._model, self._calibration, self._cut = model, calibration, None
        if whole:
            self.body = model
            self._front = convert_front(model, model.inputs[0])
        else:
            backbone, self._cut = _backbone(model)
            entrance = front_output(backbone, self._cut)
            self.body = keras.Model(entrance, self._cut, name=model.name)
            self._front = convert_front(backbone, entrance)
            self._exact = KerasRunner(backbone)
        self.before = LiteRTModel(self._front).predict

    def quantized(self, activations: int) -> bytes:
        """The classifier with its body in integers; ``activations``: see :func:`convert_integer`."""
        return self.join(quantize(self.body, self._calibration, self.before, activations))

    def join(self, body: bytes) -> bytes:
        """The classifier around a quantized body, fed uint8 pixels, giving float32 probabilities."""
        content = stitch(self._front, body)
        if self._cut is not None:
            correction = mean_error(self._exact.predict, LiteRTModel(content).predict, self._calibration)
            log.debug("Quantized: mean error of a channel %.3g (largest %.3g)", *_magnitudes(correction))
            content = attach_head(content, self._model, self._cut, correction)
        _check_edges(content)
        return content


def convert_dynamic(model: keras.Model, *, uint8_input: bool = False) -> bytes:
    """Convert a classifier to a ``.tflite`` whose backbone has int8 weights and float activations, its head in float.

    Input: float32 (or uint8) ``(B, H, W, 3)``, RGB in [0, 255]. Output: float32 ``(B, C)``. The runtime quantizes
    activations as it goes; no calibration is needed.

    Args:
        model: Functional or Sequential, float32 pixels in [0, 255] to probabilities.

    Raises:
        UsageError: nothing in the model can be quantized.
        ExportError: the converter failed.
    """
    backbone, cut = _backbone(model)
    if uint8_input:
        backbone = with_uint8_input(backbone)
    return attach_head(convert(backbone, "dynamic"), model, cut)


def _backbone(model: keras.Model) -> tuple[keras.Model, keras.KerasTensor]:
    """The part that is quantized, and the tensor where it ends."""
    cut = head_input(model)
    if any(cut is each for each in model.inputs):
        raise UsageError(f"The model {model.name!r} has nothing before its head to quantize.")
    return keras.Model(model.inputs, cut, name=model.name), cut


def attach_head(
    content: bytes, model: keras.Model, cut: keras.KerasTensor, correction: np.ndarray | None = None
) -> bytes:
    """Join the quantized backbone and the rest of the model in float32; ``correction`` ``(D,)`` is added between."""
    entry = keras.Input(cut.shape[1:], name="features")
    features = entry if correction is None else entry + correction
    if not any(cut is each for each in model.outputs):
        features = keras.Model(cut, model.outputs[0], name="layers")(features)
    if features is entry:
        return content
    return stitch(content, convert(keras.Model(entry, features, name="head")))


def head_input(model: keras.Model) -> keras.KerasTensor:
    """Where the head begins: the last feature map ``(B, h, w, D)``, or what a layer that is no head layer gives.

    Walks from the output towards the input over layers of :data:`HEAD_LAYERS` and functions of ``keras.ops`` while
    their weights number at most :data:`FLOAT_HEAD_LIMIT`, and stops at a feature map.

    Raises:
        UsageError: the model is neither Functional nor a built Sequential.
    """
    if not getattr(model, "inputs", None) or len(model.outputs) != 1:
        raise UsageError(
            f"int8 needs a Functional or a built Sequential model with one output; {model.name!r} is a "
            f"{type(model).__name__}. Choose another precision."
        )
    tensor, weights = model.outputs[0], 0
    while len(tensor.shape) < 4:
        layer, before, plain = _made_by(tensor)
        if (type(layer).__name__ not in HEAD_LAYERS and not plain) or not before:
            break
        source = before[0] if len(before) == 1 else _common_source(before)
        if source is None:
            break
        weights += 0 if plain else layer.count_params()
        if weights > FLOAT_HEAD_LIMIT:
            break
        tensor = source
    return tensor


def _made_by(tensor: keras.KerasTensor) -> tuple[Any, list[keras.KerasTensor], bool]:
    """What gave a tensor, from which tensors, and whether it is a function of ``keras.ops``."""
    layer, node, _ = tensor._keras_history
    return layer, layer._inbound_nodes[node].input_tensors, not isinstance(layer, keras.layers.Layer)


def _common_source(tensors: list[keras.KerasTensor]) -> keras.KerasTensor | None:
    """The tensor that all of ``tensors`` are functions of ``keras.ops`` of, as in ``x / sqrt(abs(x))``; None: there is
    none."""
    paths = []
    for tensor in tensors:
        path = [tensor]
        while True:
            _, before, plain = _made_by(path[-1])
            if not plain or len(before) != 1:
                break
            path.append(before[0])
        paths.append(path)
    shared = (one for one in paths[0] if all(any(one is other for other in path) for path in paths[1:]))
    return next(shared, None)


def mean_error(
    exact: Callable[[np.ndarray], np.ndarray],
    quantized: Callable[[np.ndarray], np.ndarray],
    calibration: Calibration,
) -> np.ndarray:
    """What to add to a quantized feature map so that its mean is right: float32 ``(D,)``, one number per channel.

    The mean of ``exact(x) - quantized(x)`` over the calibration images and all positions; only a batch is held.
    Raises ``UsageError`` when there are no images.
    """
    total: np.ndarray | float = 0.0
    count = 0
    for batch in calibration():
        error = exact(batch).astype(np.float64) - quantized(batch)
        error = error.reshape(-1, error.shape[-1])
        total, count = total + error.sum(axis=0), count + len(error)
    if not count:
        raise UsageError("int8 needs calibration images; there were none.")
    return np.asarray(total / count, np.float32)


def quantize(
    model: keras.Model,
    calibration: Calibration,
    before: Callable[[np.ndarray], np.ndarray],
    activations: int,
    integer_edges: bool = False,
) -> bytes:
    """Convert a model to integers, calibrated on what ``before`` makes of the images, one by one."""
    failure: list[Exception] = []
    tools = converter_tools()

    def prepared() -> tf.lite.TFLiteConverter:
        converter = converter_for(model)
        converter.optimizations = [tools.Optimize.DEFAULT]
        converter.representative_dataset = lambda: one_by_one(calibration, before, failure)
        if activations == 16:
            converter.target_spec.supported_ops = [
                tools.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tools.OpsSet.TFLITE_BUILTINS,
            ]
        if integer_edges:
            converter.target_spec.supported_ops = [tools.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        return converter

    try:
        return run_converter(prepared, f"model {model.name!r} to int{activations}")
    except ExportError:
        if failure:
            raise failure[0] from None
        raise


def one_by_one(
    images: Calibration, before: Callable[[np.ndarray], np.ndarray], failure: list[Exception]
) -> Iterator[list[np.ndarray]]:
    """What a converter asks of a data set: inputs of one image each. An error is kept: converters hide it."""
    try:
        empty = True
        for batch in images():
            for start in range(len(batch)):
                empty = False
                yield [before(batch[start : start + 1])]
        if empty:
            raise UsageError("int8 needs calibration images; there were none.")
    except Exception as error:
        failure.append(error)
        raise


def _check_edges(content: bytes) -> None:
    """The promise of :func:`convert_integer` about types, checked on the result."""
    model = LiteRTModel(content)
    source, target = model.inputs[0], model.outputs[0]
    if source.dtype != np.uint8 or source.quantized:
        raise ExportError(
            f"The int8 model's input is {source.dtype} with scale {source.scale} and zero point {source.zero_point}; "
            "uint8 pixels without quantization parameters are expected. Please report this with the model."
        )
    if target.dtype != np.float32:
        raise ExportError(f"The int8 model's output is {target.dtype}; float32 probabilities are expected.")


def _magnitudes(values: np.ndarray) -> tuple[float, float]:
    return float(np.abs(values).mean()), float(np.abs(values).max())
