"""AlexNet: the network that won ImageNet in 2012 and began deep learning for images."""

from __future__ import annotations

from typing import Any

import keras

from ...errors import UsageError
from ._frame import Shape, Weights, convolution, finished, fully_connected, image_tensor, pooled
from .local_response import LocalResponseNormalization

_SMALLEST = 67  # leaves one place after the last pooling


def AlexNet(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    towers: int = 1,
) -> keras.Model:
    """Five convolutions with ReLU, overlapping max pooling, local response normalization, three dense layers.

    From 227x227x3: ``conv1`` 55x55x96, ``conv1_pool`` 27x27x96, ``conv2`` 27x27x256, ``conv2_pool`` 13x13x256,
    ``conv3`` and ``conv4`` 13x13x384, ``conv5`` 13x13x256, ``conv5_pool`` 6x6x256, then 9216, 4096, 4096, 1000.
    Pooling comes before the normalization, which costs four times less there. The paper trained on random crops of 227
    pixels from 256 and their mirror images: ``--augment alexnet``.

    Source: Krizhevsky, Sutskever and Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks,
    NIPS 25. (The paper writes 224; 55x55 needs 227.)

    Args:
        include_top: end with the classifier; without it with the feature map ``(B, 6, 6, 256)``.
        weights: None (random) or the path of a ``.weights.h5`` file.
        input_tensor: put the network on this tensor ``(B, H, W, C)``, of about mean 0 and deviation 1.
        input_shape: (height, width, channels), at least 67 pixels per side; default (227, 227, 3).
        pooling: without the classifier: ``"avg"`` or ``"max"`` gives features ``(B, 256)``.
        classes, classifier_activation: of the classifier.
        towers: 2 separates ``conv2``, ``conv4`` and ``conv5`` into halves that see half of the channels each, as on the
            paper's two GPUs (its 60 million parameters); 1 lets them see all (62 million).

    Raises:
        UsageError: an impossible shape, pooling or number of towers, or a missing file.
        WeightsError: weights that do not fit.
    """
    if towers not in (1, 2):
        raise UsageError(f"towers={towers!r} was given; 1 or 2 is expected.")
    image = image_tensor(
        "AlexNet", input_tensor, input_shape, default=227, smallest=_SMALLEST, include_top=include_top
    )
    x = convolution(image, 96, 11, "conv1", strides=4, padding="valid")
    x = _pool_and_normalize(x, "conv1")
    x = _in_towers(x, 256, 5, "conv2", towers)
    x = _pool_and_normalize(x, "conv2")
    x = convolution(x, 384, 3, "conv3")
    x = _in_towers(x, 384, 3, "conv4", towers)
    x = _in_towers(x, 256, 3, "conv5", towers)
    x = keras.layers.MaxPooling2D(3, 2, name="conv5_pool")(x)
    if include_top:
        x = fully_connected(x, ("fc6", "fc7"), classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished("alexnet", image, x, weights)


def _pool_and_normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return LocalResponseNormalization(name=f"{name}_norm")(x)


def _in_towers(x: keras.KerasTensor, filters: int, kernel: int, name: str, towers: int) -> keras.KerasTensor:
    """A convolution whose input and output channels are separated into ``towers`` parts."""
    if towers == 1:
        return convolution(x, filters, kernel, name)
    parts = keras.ops.split(x, towers, axis=-1)
    halves = [
        convolution(part, filters // towers, kernel, f"{name}_tower{number}")
        for number, part in enumerate(parts, 1)
    ]
    return keras.layers.Concatenate(name=f"{name}_relu")(halves)
