"""ZFNet: AlexNet looked into, and repaired where the pictures showed what was wrong."""

from __future__ import annotations

from typing import Any

import keras

from ...errors import UsageError
from ._frame import Shape, Weights, convolution, finished, fully_connected, image_tensor, pooled
from .local_response import LocalResponseNormalization

_SMALLEST = 53  # leaves one place after the last pooling


def ZFNet(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    conv1_padding: int = 1,
) -> keras.Model:
    """AlexNet with a finer first layer (7x7/2 instead of 11x11/4) and wider upper ones (512, 1024, 512).

    From 224x224x3: ``conv1`` 110x110x96, ``conv1_pool`` 55x55x96, ``conv2`` (5x5/2) 26x26x256, ``conv2_pool``
    13x13x256, ``conv3`` 13x13x512, ``conv4`` 13x13x1024, ``conv5`` 13x13x512, ``conv5_pool`` 6x6x512, then 4096, 4096,
    1000. The first two poolings keep the part of a window at the edge, as the paper's figure 3 has it.

    Source: Zeiler and Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901 (the widths:
    table 2, "adjust layers 3, 4, 5").

    Args:
        include_top: end with the classifier; without it with the feature map ``(B, 6, 6, 512)``.
        weights: None (random) or the path of a ``.weights.h5`` file.
        input_tensor: put the network on this tensor ``(B, H, W, C)``, of about mean 0 and deviation 1.
        input_shape: (height, width, channels), at least 53 pixels per side; default (224, 224, 3).
        pooling: without the classifier: ``"avg"`` or ``"max"`` gives features ``(B, 512)``.
        classes, classifier_activation: of the classifier.
        conv1_padding: 1 gives the paper's 110x110 after ``conv1``; 3, as later descriptions have it, 112x112. From
            ``conv2`` on both are the same.

    Raises:
        UsageError: an impossible shape, pooling or padding, or a missing file.
        WeightsError: weights that do not fit.
    """
    if conv1_padding not in (1, 3):
        raise UsageError(f"conv1_padding={conv1_padding!r} was given; 1 or 3 is expected.")
    image = image_tensor(
        "ZFNet", input_tensor, input_shape, default=224, smallest=_SMALLEST, include_top=include_top
    )
    layers = keras.layers
    x = layers.ZeroPadding2D(conv1_padding, name="conv1_pad")(image)
    x = convolution(x, 96, 7, "conv1", strides=2, padding="valid")
    x = layers.MaxPooling2D(3, 2, padding="same", name="conv1_pool")(x)
    x = LocalResponseNormalization(name="conv1_norm")(x)
    x = convolution(x, 256, 5, "conv2", strides=2, padding="valid")
    x = layers.MaxPooling2D(3, 2, padding="same", name="conv2_pool")(x)
    x = LocalResponseNormalization(name="conv2_norm")(x)
    for name, filters in (("conv3", 512), ("conv4", 1024), ("conv5", 512)):
        x = convolution(x, filters, 3, name)
    x = layers.MaxPooling2D(3, 2, name="conv5_pool")(x)
    if include_top:
        x = fully_connected(x, ("fc6", "fc7"), classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished("zfnet", image, x, weights)
