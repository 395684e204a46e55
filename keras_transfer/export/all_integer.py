"""A whole classifier in int8, first layers, head and edges included: for microcontrollers and NPUs without float.

What it loses is lost in the backbone, not in the head: a probe's weights, bounded by
:mod:`keras_transfer.training.standardising`, stand eight bits, and so do the pooled features. Rounding shifts the means
of channels from layer to layer; :mod:`keras_transfer.export.bias_correction` takes that away. ``docs/targets.md`` has
what it costs with and without, and what else was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from keras_transfer.errors import ExportError
from keras_transfer.export.bias_correction import correct_biases
from keras_transfer.export.quantization import Calibration, quantize
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.normalization import PLAIN, Normalization

IMAGES = 32
"""Calibration images that the means of layers are taken over: every so-manyth."""


@dataclass(frozen=True)
class AllInteger:
    """An all-integer model.

    Attributes:
        content: a ``.tflite``.
        note: what was done to it, and what that gained: one sentence.
    """

    content: bytes
    note: str


def convert_all_integer(
    model: keras.Model, calibration: Calibration, normalization: Normalization = PLAIN
) -> AllInteger:
    """Convert a whole classifier to int8, edges in uint8, and correct its biases where that brings it closer to float.

    Input: uint8 pixels ``(B, H, W, 3)`` as they are (scale 1, zero point 0). Output: uint8 ``(B, C)`` with its
    quantization parameters.

    Args:
        model: Functional or Sequential, float32 pixels in [0, 255] to probabilities.
        calibration: representative images.
        normalization: what the input's numbers are, by its scale: with a mean of 0, ``1 / std``. The bytes are pixels
            all the same.

    Raises:
        UsageError: no calibration images.
        ExportError: the converter failed, or the model has an operator without integers.
    """

    def full_range() -> Iterator[np.ndarray]:
        """The first image gets a black and a white corner, so that the input's range is 0 to 255 exactly."""
        for place, batch in enumerate(calibration()):
            images = np.array(batch, np.float32)
            if not place and len(images):
                images[0, 0, 0], images[0, -1, -1] = 0.0, 255.0
            yield images

    (std,) = normalization.std
    if not normalization.plain:
        scaled = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)
        inner = keras.Model(model.inputs[0], model.outputs[0], name="layers")
        model = keras.Model(scaled, inner(scaled * std), name=model.name)
    content = quantize(model, full_range, normalization.apply, 8, integer_edges=True)
    source = LiteRTModel(content).inputs[0]
    # A few kinds of rounding away from 1 / std the scale still takes every byte to itself.
    right = abs(source.scale * std - 1) < 1e-5 and source.zero_point == 0
    if source.dtype != np.uint8 or not right:
        raise ExportError(
            f"The all-integer model's input is {source.dtype} with scale {source.scale} and zero point "
            f"{source.zero_point}; uint8 with {1 / std:g} and 0 is expected. Please report this with the model."
        )
    images = normalization.apply(np.concatenate([np.asarray(batch) for batch in calibration()]))
    return better_of(content, convert(model), images)


def better_of(content: bytes, exact: bytes, images: np.ndarray) -> AllInteger:
    """The model with its biases corrected, or as it is, whichever is closer to float on the images.

    Args:
        content: the all-integer model.
        exact: the same in float32.
        images: calibration images, ``(N, H, W, 3)``, as the files take them.
    """
    some = images[np.unique(np.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().astype(int))]
    corrected = correct_biases(content, exact, some)
    if not corrected.layers:
        return AllInteger(
            content, "No bias was corrected: the integer and the float graph have not the same layers."
        )
    wanted = LiteRTModel(exact).predict(images)
    before, after = (
        float(np.abs(LiteRTModel(one).predict(images) - wanted).mean())
        for one in (content, corrected.content)
    )
    told = f"on {len(images)} calibration images the mean difference of an output from float"
    if after >= before:
        return AllInteger(
            content, f"No bias was corrected: {told} is {before:.2g} so, and {after:.2g} otherwise."
        )
    return AllInteger(
        corrected.content,
        f"The biases of {corrected.layers} layers were corrected on {len(some)} images: {told} falls from {before:.2g} "
        f"to {after:.2g}.",
    )
