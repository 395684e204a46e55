"""A network of seven convolutions, and weights for it that are drawn from one seed.

It has what a mobile network has: a stem, a depthwise block with a linear end, a residual, and batch normalization
after every convolution, whose statistics are not those of a fresh layer, so that answers depend on the image and a
statistic that moves is seen. It says nothing about how good features are: where that matters, take
``efficientnet_lite0``.
"""

from __future__ import annotations

import keras
import numpy as np

STEM, NARROW, MIDDLE, WIDE, FEATURES = 16, 24, 32, 48, 64
"""Channels of the parts, bottom to top."""


def tiny(*, input_tensor):
    """Put the layers on ``input_tensor`` ``(B, H, W, 3)`` in [-1, 1]; returns the map ``(B, H/32, W/32, 64)``."""
    layers = keras.layers
    same = {"padding": "same", "use_bias": False}

    def normalized(x, name, active=True):
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_activation")(x) if active else x

    x = layers.Conv2D(STEM, 5, strides=4, name="stem_conv", **same)(input_tensor)
    x = normalized(x, "stem")
    x = layers.DepthwiseConv2D(3, strides=2, name="block3a_dwconv", **same)(x)
    x = normalized(x, "block3a_dw")
    x = layers.Conv2D(NARROW, 1, name="block3a_project_conv", **same)(x)
    x = normalized(x, "block3a_project", active=False)
    x = layers.Conv2D(MIDDLE, 3, strides=2, name="block4a_conv", **same)(x)
    x = normalized(x, "block4a")
    x = layers.Conv2D(WIDE, 3, strides=2, name="block5a_conv", **same)(x)
    skip = normalized(x, "block5a")
    x = layers.Conv2D(WIDE, 1, name="block5b_conv", **same)(skip)
    x = normalized(x, "block5b", active=False)
    x = layers.Add(name="block5b_add")([skip, x])
    x = layers.Conv2D(FEATURES, 1, name="top_conv", **same)(x)
    return normalized(x, "top")


_KERNELS = {
    "stem": ("stem_conv", (5, 5, 3, STEM)),
    "block3a_dw": ("block3a_dwconv", (3, 3, STEM, 1)),
    "block3a_project": ("block3a_project_conv", (1, 1, STEM, NARROW)),
    "block4a": ("block4a_conv", (3, 3, NARROW, MIDDLE)),
    "block5a": ("block5a_conv", (3, 3, MIDDLE, WIDE)),
    "block5b": ("block5b_conv", (1, 1, WIDE, WIDE)),
    "top": ("top_conv", (1, 1, WIDE, FEATURES)),
}
"""Normalization -> the convolution before it and its kernel's shape."""


def weights():
    """Layer name to arrays, in the order of ``layer.weights``; the same in every process."""
    rng = np.random.default_rng(11)
    found = {}
    for name, (convolution, shape) in _KERNELS.items():
        depthwise = shape[-1] == 1
        fan_in = np.prod(shape[:2]) * (1 if depthwise else shape[2])
        kernel = rng.normal(0, np.sqrt(1 / fan_in), shape)
        channels = shape[2] if depthwise else shape[3]
        statistics = {
            "gamma": rng.uniform(0.7, 1.3, channels),
            "beta": rng.normal(0.3, 0.3, channels),
            "mean": rng.normal(0, 0.2, channels),
            "variance": rng.uniform(0.5, 1.5, channels),
        }
        found[convolution] = [kernel.astype(np.float32)]
        found[f"{name}_bn"] = [value.astype(np.float32) for value in statistics.values()]
    return found
