"""What a layer costs: multiply-adds, counted from shapes."""

from __future__ import annotations

import math
from typing import Any


def layer_macs(layer: Any) -> float:
    """Multiply-adds of a layer for one image: its kernels once per output position. A nested model's are summed."""
    if hasattr(layer, "layers"):
        return macs(layer)
    kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) >= 2)
    shape = getattr(layer.output, "shape", ()) if kernels else ()
    return float(kernels * math.prod(side or 1 for side in shape[1:-1]))


def macs(model: Any) -> float:
    """Multiply-adds of a model for one image."""
    return sum(layer_macs(layer) for layer in model.layers)
