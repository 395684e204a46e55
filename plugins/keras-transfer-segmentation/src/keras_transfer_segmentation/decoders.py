"""The parts segmentation networks are put together from, in plain Keras layers that TFLite has as builtin operators.

Every initial weight comes from the seed and the layer's name, so two models of one seed begin alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_transfer.heads import LOGITS, PROBABILITIES

UPSAMPLING = ("bilinear", "transposed")
# Keras's default of 0.99 needs some 500 steps to forget its start; small data sets have fewer.
_MOMENTUM = 0.9


def he_normal(name: str, seed: int) -> Any:
    """Initial weights of the layer ``name`` that a ReLU follows."""
    return keras.initializers.HeNormal(seed=zlib.crc32(f"{seed} {name}".encode()))


def glorot_uniform(name: str, seed: int) -> Any:
    """Initial weights of the layer ``name`` that no ReLU follows."""
    return keras.initializers.GlorotUniform(seed=zlib.crc32(f"{seed} {name}".encode()))


def conv_block(
    x: Any,
    width: int,
    name: str,
    seed: int,
    *,
    kernel: int = 3,
    rate: int = 1,
    separable: bool = False,
    normalize: bool = True,
) -> Any:
    """Convolution, batch normalization, ReLU: ``(B, h, w, c)`` to ``(B, h, w, width)``.

    ``separable``: a depthwise convolution followed by a pointwise one. ``rate``: of dilation.
    """
    shared = {
        "padding": "same",
        "dilation_rate": rate,
        "use_bias": not normalize,
        "name": f"{name}_conv",
    }
    if separable:
        depthwise, pointwise = (he_normal(f"{name}_{part}", seed) for part in ("depthwise", "pointwise"))
        x = keras.layers.SeparableConv2D(
            width, kernel, depthwise_initializer=depthwise, pointwise_initializer=pointwise, **shared
        )(x)
    else:
        x = keras.layers.Conv2D(width, kernel, kernel_initializer=he_normal(name, seed), **shared)(x)
    if normalize:
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def resize_to(x: Any, size: Sequence[int], name: str) -> Any:
    """``(B, h, w, c)`` to ``(B, *size, c)``, bilinear; the same tensor where the size is right."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return keras.layers.Resizing(size[0], size[1], interpolation="bilinear", name=name)(x)


def upsample(x: Any, size: Sequence[int], width: int, how: str, name: str, seed: int) -> Any:
    """``(B, h, w, c)`` to ``size``, twice ``(h, w)`` or more: bilinear (c channels) or transposed (``width`` channels).

    A transposed convolution of 2x2 doubles; where the finer map is not exactly double, the rest is bilinear.
    """
    if how == "transposed":
        x = keras.layers.Conv2DTranspose(
            width, 2, strides=2, kernel_initializer=he_normal(f"{name}_up", seed), name=f"{name}_up"
        )(x)
    return resize_to(x, size, f"{name}_resize")


def classify_pixels(
    x: Any,
    num_classes: int,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    """From the last features to probabilities ``(B, H, W, C)``, float32, that sum to 1 in each pixel.

    A 1x1 convolution gives scores, which are scaled to the padded image's size and cut to the image's. The layer
    ``logits`` holds what goes into the softmax ``probabilities``.
    """
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, seed=seed, name="head_dropout")(x)
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=glorot_uniform("head_scores", seed),
        name="head_scores",
    )(x)
    x = resize_to(x, padded_size, "head_resize")
    surplus = padded_size[0] - size[0], padded_size[1] - size[1]
    if surplus != (0, 0):
        x = keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name="crop_to_image")(x)
    x = keras.layers.Activation("linear", dtype="float32", name=LOGITS)(x)
    return keras.layers.Softmax(dtype="float32", name=PROBABILITIES)(x)
