"""The first layers of a quantized model, which stay in float.

What eight bits lose at the entrance goes through the whole network. Measured on ELPV with Lite0 at 300 px, as the root
mean square error of the difference of the two logits (whose deviation is 4.3): everything but the head in int8 1.15;
the scaling layer in float 1.01; the stem too 0.93; the first block too 0.57. These layers are a twentieth of the work.
"""

from __future__ import annotations

import keras
import numpy as np

from keras_transfer.backbones.cost import layer_macs
from keras_transfer.export.stitching import stitch
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.normalization import Normalization

SHARE = 0.1
"""The front is at most this share of a model's multiply-adds."""


def front_output(model: keras.Model, end: keras.KerasTensor) -> keras.KerasTensor:
    """Where the float front ends: the last tensor within :data:`SHARE` through which everything passes.

    Args:
        model: pixels to anything, Functional.
        end: where the part to be quantized ends.

    Returns:
        A tensor from which ``end`` can be computed alone; the model's input when there is none.
    """
    budget = SHARE * sum(layer_macs(layer) for layer in model.layers)
    candidates = []
    for layer in model.layers:
        budget -= layer_macs(layer)
        if budget < 0:
            break
        if layer.output is not end and not isinstance(layer, keras.layers.InputLayer):
            candidates.append(layer.output)
    for tensor in reversed(candidates):
        try:
            keras.Model(tensor, end)
        except ValueError:  # something else leads to the end, too
            continue
        return tensor
    return model.inputs[0]


def convert_front(model: keras.Model, end: keras.KerasTensor) -> bytes:
    """The front as a ``.tflite``: uint8 pixels ``(B, H, W, 3)`` as they are, to float32 ``end``."""
    source = model.inputs[0]
    if end is not source:
        return convert(with_uint8_input(keras.Model(source, end, name="layers")))
    pixels = keras.Input(source.shape[1:], dtype="uint8", name=source.name)
    return convert(keras.Model(pixels, keras.ops.cast(pixels, "float32"), name="front"))


def with_uint8_input(model: keras.Model) -> keras.Model:
    """The same model, taking uint8 pixels."""
    source = model.inputs[0]
    pixels = keras.Input(source.shape[1:], dtype="uint8", name=source.name)
    inner = keras.Model(source, model.outputs[0], name="layers")
    return keras.Model(pixels, inner(keras.ops.cast(pixels, "float32")), name=model.name)


def take_scaled(content: bytes, name: str, normalization: Normalization) -> bytes:
    """A ``.tflite`` of pixels in [0, 255] as one whose first step makes them of scaled pixels.

    Args:
        content: takes float32 ``(B, H, W, 3)``, or uint8 without quantization parameters.
        name: of the new file's input.
        normalization: how pixels are scaled by whoever feeds the file.

    Returns:
        A file that takes float32 ``(B, H, W, 3)``. Where ``content`` takes bytes, they are rounded: pixels that were
        whole numbers before they were scaled become the very same bytes.
    """
    source = LiteRTModel(content).inputs[0]
    scaled = keras.Input(source.shape[1:], name=name)
    (low, _), (std,) = normalization.range, normalization.std
    pixels = (scaled - low) * std if low else scaled * std
    if source.dtype == np.uint8:
        pixels = keras.ops.cast(keras.ops.clip(keras.ops.round(pixels), 0, 255), "uint8")
    return stitch(convert(keras.Model(scaled, pixels, name="unscaled")), content)
