"""How far a position of a feature map sees: windows, strides and receptive fields along a network's graph.

A window of F pixels (with its dilation) on a map whose positions lie J pixels of the image apart widens the receptive
field by (F - 1) * J; a stride S makes the positions lie J * S apart (Araujo et al. 2019, Computing Receptive Fields of
Convolutional Neural Networks, Distill).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .cost import reach, same_padding

Pair = tuple[int, int]

_OWN = ("keras", "keras_cv", "keras_transfer")
_POINTWISE = {
    *("InputLayer", "Identity", "Rescaling", "Normalization", "Cast"),
    *(
        "Activation",
        "ReLU",
        "LeakyReLU",
        "PReLU",
        "ELU",
        "Softmax",
        "Relu",
        "Relu6",
        "Sigmoid",
        "HardSigmoid",
    ),
    *(
        "Silu",
        "HardSilu",
        "Tanh",
        "Gelu",
        "Softplus",
        "Clip",
        "Square",
        "Sqrt",
        "Absolute",
        "Power",
        "Negative",
    ),
    *(
        "BatchNormalization",
        "LayerNormalization",
        "UnitNormalization",
        "LocalResponseNormalization",
        "LayerScale",
    ),
    "CustomScaleLayer",  # of Inception-ResNet
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "StochasticDepth"),
    *(
        "ActivityRegularization",
        "Add",
        "Subtract",
        "Multiply",
        "Average",
        "Maximum",
        "Minimum",
        "Concatenate",
    ),
    *("Divide", "TrueDivide", "Flip", "Dense", "ZeroPadding2D", "Cropping2D"),
}
"""Layers and operations whose output at a position depends on their inputs at that position alone. (A channel flip;
a mirrored image is the same network.)"""
_WHOLE = {"GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten", "GroupNormalization"}
_WINDOWS = {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D"}


@dataclass(frozen=True)
class Window:
    """What a layer looks at for one position of its output; every pair is (height, width)."""

    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    """Pixels (top, bottom) and (left, right)."""
    dilation: Pair = (1, 1)


@dataclass(frozen=True)
class Field:
    """The receptive field of a map's position.

    Attributes:
        size: (height, width) in pixels of the image; meaningless when ``whole`` or not ``known``.
        step: how many pixels of the image lie between two positions, (height, width).
        whole: each position depends on the whole image.
        known: False behind a layer whose window is not known.
        gated: below it maps are scaled by a summary of the whole image (squeeze-and-excitation), which ``size`` leaves
            out.
    """

    size: tuple[float, float] = (1.0, 1.0)
    step: tuple[float, float] = (1.0, 1.0)
    whole: bool = False
    known: bool = True
    gated: bool = False


def window_of(layer: Any, inputs: Sequence[int | None]) -> Window | None:
    """The window of a convolution, pooling or padding layer on an input ``(B, H, W, C)``; None: it has none."""
    kind = type(layer).__name__
    if kind == "ZeroPadding2D":
        (top, bottom), (left, right) = layer.padding
        return Window((1, 1), (1, 1), ((top, bottom), (left, right)))
    if kind == "Conv2DTranspose":
        return Window(_pair(layer.kernel_size), _pair(layer.strides), ((0, 0), (0, 0)))
    if kind not in _WINDOWS or len(inputs) != 4 or None in inputs[1:3]:
        return None
    kernel = _pair(getattr(layer, "pool_size", None) or layer.kernel_size)
    stride, dilation = _pair(layer.strides), _pair(getattr(layer, "dilation_rate", 1))
    sides = [same_padding(int(inputs[i + 1] or 0), kernel[i], stride[i], dilation[i]) for i in (0, 1)]
    same = str(layer.padding).lower() == "same"
    return Window(kernel, stride, (sides[0], sides[1]) if same else ((0, 0), (0, 0)), dilation)


def field_after(
    layer: Any, fields: Sequence[Field], inputs: Sequence[Sequence[int | None]], output: Sequence[int | None]
) -> Field:
    """The receptive field of a layer's output.

    Args:
        layer: a layer or operation.
        fields: those of its inputs.
        inputs: their shapes, batch first, channels last.
        output: the output's shape.
    """
    kind = type(layer).__name__
    if kind == "InputLayer":
        return Field()
    before = _merged(fields, inputs, output)
    if not _is_own(layer):
        return replace(before, known=False)
    if kind in _WHOLE or (len(output) == 2 and len(inputs[0]) > 2):
        return replace(before, whole=True)
    if (
        before.whole
        or kind in _POINTWISE
        or len(output) == 2
        or (kind == "Reshape" and _is_vector(inputs[0]))
    ):
        return before
    window = window_of(layer, inputs[0])
    if kind == "Conv2DTranspose" and window is not None:
        step = _each(lambda i: before.step[i] / window.stride[i])
        # A position of the output lies under at most this many positions of the input.
        under = _each(lambda i: math.ceil(window.kernel[i] / window.stride[i]))
        return replace(
            before, size=_each(lambda i: before.size[i] + (under[i] - 1) * before.step[i]), step=step
        )
    if kind == "UpSampling2D":
        size = _pair(layer.size)
        taps = 1 if layer.interpolation == "nearest" else 2
        grown = _each(lambda i: before.size[i] + (taps - 1) * before.step[i])
        return replace(before, size=grown, step=_each(lambda i: before.step[i] / size[i]))
    if window is None:
        return replace(before, known=False)
    grown = _each(
        lambda i: before.size[i] + (reach(window.kernel[i], window.dilation[i]) - 1) * before.step[i]
    )
    return replace(before, size=grown, step=_each(lambda i: before.step[i] * window.stride[i]))


def _merged(
    fields: Sequence[Field], inputs: Sequence[Sequence[int | None]], output: Sequence[int | None]
) -> Field:
    """The union of what the inputs see. One position that scales a whole map is a gate, and left out."""
    if not fields:
        return Field()
    gates = [_is_vector(shape) and not _is_vector(output) and len(fields) > 1 for shape in inputs]
    maps = [field for field, gate in zip(fields, gates, strict=True) if not gate] or list(fields)
    return Field(
        size=_each(lambda i: max(field.size[i] for field in maps)),
        step=_each(lambda i: max(field.step[i] for field in maps)),
        whole=any(field.whole for field in maps),
        known=all(field.known for field in maps),
        gated=any(gates) or any(field.gated for field in maps),
    )


def _is_vector(shape: Sequence[int | None]) -> bool:
    return all(side == 1 for side in shape[1:-1])


def _is_own(layer: Any) -> bool:
    """Whether the layer's code is one of those whose classes are known here."""
    return type(layer).__module__.partition(".")[0] in _OWN


def _pair(value: Any) -> Pair:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _each(function: Any) -> Any:
    return function(0), function(1)
