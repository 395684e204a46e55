"""VGG with batch normalization, and VGG-11 and VGG-13: stacks of 3x3 convolutions instead of large kernels.

Three 3x3 convolutions see as far as one of 7x7 and need 27 C**2 weights instead of 49 C**2.

Source: Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition,
arXiv:1409.1556 (table 1, columns A, B, D, E); batch normalization: Ioffe and Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

from typing import Any

import keras

from ._frame import Shape, Weights, convolution, finished, fully_connected, image_tensor, pooled

FILTERS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""How many convolutions each of the five blocks has, by the number of layers with weights."""

_ARGUMENTS = """

    From 224x224x3 five blocks that end in 2x2 max pooling: 112x112x64, 56x56x128, 28x28x256, 14x14x512, 7x7x512; then
    4096, 4096, 1000 with dropout 0.5. Layers are named as in ``keras.applications.VGG16``
    (``block1_conv1``, ``block1_conv1_bn``, ``block1_conv1_relu``, ``block1_pool``).

    Args:
        include_top: end with the classifier; without it with the feature map ``(B, H/32, W/32, 512)``.
        weights: None (random) or the path of a ``.weights.h5`` file.
        input_tensor: put the network on this tensor ``(B, H, W, C)``, of about mean 0 and deviation 1.
        input_shape: (height, width, channels), at least 32 pixels per side; default (224, 224, 3).
        pooling: without the classifier: ``"avg"`` or ``"max"`` gives features ``(B, 512)``.
        classes, classifier_activation: of the classifier.
        batch_normalization: behind every convolution; False gives the plain network of the paper.

    Raises:
        UsageError: an impossible shape or pooling, or a missing file.
        WeightsError: weights that do not fit.
    """


def VGG11(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    batch_normalization: bool = True,
) -> keras.Model:
    """VGG with 8 convolutions and 3 dense layers (configuration A of arXiv:1409.1556)."""
    return _vgg(11, **locals())


def VGG13(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    batch_normalization: bool = True,
) -> keras.Model:
    """VGG with 10 convolutions and 3 dense layers (configuration B of arXiv:1409.1556)."""
    return _vgg(13, **locals())


def VGG16(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    batch_normalization: bool = True,
) -> keras.Model:
    """VGG with 13 convolutions and 3 dense layers (configuration D of arXiv:1409.1556)."""
    return _vgg(16, **locals())


def VGG19(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    batch_normalization: bool = True,
) -> keras.Model:
    """VGG with 16 convolutions and 3 dense layers (configuration E of arXiv:1409.1556)."""
    return _vgg(19, **locals())


for _constructor in (VGG11, VGG13, VGG16, VGG19):
    _constructor.__doc__ = f"{_constructor.__doc__}{_ARGUMENTS}"


def _vgg(
    depth: int,
    include_top: bool,
    weights: Weights,
    input_tensor: Any,
    input_shape: Shape,
    pooling: str | None,
    classes: int,
    classifier_activation: str | None,
    batch_normalization: bool,
) -> keras.Model:
    name = f"vgg{depth}_bn" if batch_normalization else f"vgg{depth}"
    image = image_tensor(name, input_tensor, input_shape, default=224, smallest=32, include_top=include_top)
    x = image
    for block, (count, filters) in enumerate(zip(CONVOLUTIONS[depth], FILTERS, strict=True), 1):
        for number in range(1, count + 1):
            x = convolution(
                x, filters, 3, f"block{block}_conv{number}", batch_normalization=batch_normalization
            )
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    if include_top:
        x = fully_connected(x, ("fc1", "fc2"), classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished(name, image, x, weights)
