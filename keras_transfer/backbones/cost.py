"""What a layer costs: the arithmetic of convolutions, and multiply-adds counted from shapes.

For a square input of side W, a kernel of side F, stride S and P pixels of padding on either side (Dumoulin and Visin
2016, arXiv:1603.07285):

    output side     (W - F + 2P) / S + 1, rounded down
    parameters      F * F * channels in * channels out, and a bias per channel out
    multiply-adds   F * F * channels in * channels out, at every position of the output

A 5x5 convolution from 480 to 48 channels on 14x14 costs 112.9 M multiply-adds; through 16 channels (a 1x1 bottleneck
first) it costs 1.5 M + 3.8 M = 5.3 M.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Shape = Sequence[int | None]

_KERNELS = ("Conv", "DepthwiseConv", "SeparableConv")
_COUNTED = {"Dense", *(f"{kind}{n}D" for kind in _KERNELS for n in (1, 2, 3))} | {
    f"Conv{n}DTranspose" for n in (1, 2, 3)
}
_NOT_COUNTED = {
    *(
        "Attention",
        "AdditiveAttention",
        "Dot",
        "Lambda",
        "TFSMLayer",
        "Matmul",
        "Einsum",
        "Tensordot",
        "Inner",
    ),
    *("Outer", "Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"),
}
"""Layers and operations that multiply without holding a kernel."""


def same_padding(side: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """The pixels ``padding="same"`` puts (before, after), so that the output has ``ceil(W / S)``: the odd one after."""
    total = max((-(-side // stride) - 1) * stride + reach(kernel, dilation) - side, 0)
    return total // 2, total - total // 2


def reach(kernel: int, dilation: int = 1) -> int:
    """How many pixels a kernel spans: ``(kernel - 1) * dilation + 1``."""
    return (kernel - 1) * dilation + 1


def is_counted(layer: Any) -> bool:
    """Whether :func:`call_macs` tells all multiply-adds of a layer of this kind.

    Layers without weights of two or more dimensions are taken to multiply nothing: activations, sums and pooling are
    not counted, and batch normalization is folded into the convolution before it.
    """
    kind = type(layer).__name__
    return kind in _COUNTED or (kind not in _NOT_COUNTED and not _kernels(layer))


def call_macs(layer: Any, inputs: Shape, outputs: Shape) -> float:
    """Multiply-adds of one call of a layer, for one image: its kernels at every position.

    Args:
        layer: with its weights made.
        inputs, outputs: the shapes of this call, batch first, channels last. A transposed convolution multiplies once
            per position of its input, every other layer per position of its output. Free sizes count as 1.
    """
    kernels = _kernels(layer)
    shape = inputs if type(layer).__name__.endswith("Transpose") else outputs
    return float(kernels * math.prod(side or 1 for side in shape[1:-1])) if kernels else 0.0


def layer_macs(layer: Any) -> float:
    """Multiply-adds of a layer for one image. A nested model's are summed."""
    if hasattr(layer, "layers"):
        return macs(layer)
    if not _kernels(layer):
        return 0.0
    return call_macs(layer, getattr(layer.input, "shape", ()), getattr(layer.output, "shape", ()))


def macs(model: Any) -> float:
    """Multiply-adds of a model for one image."""
    return sum(layer_macs(layer) for layer in model.layers)


def _kernels(layer: Any) -> int:
    """Numbers in the layer's kernels: weights of two or more dimensions. Operations have none."""
    return sum(math.prod(weight.shape) for weight in getattr(layer, "weights", ()) if len(weight.shape) >= 2)
