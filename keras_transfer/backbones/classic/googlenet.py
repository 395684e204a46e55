"""GoogLeNet (Inception v1): kernels of several sizes side by side, made affordable by 1x1 convolutions."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from ...errors import UsageError
from ._frame import HE, Shape, Weights, convolution, finished, image_tensor, pooled
from .local_response import LocalResponseNormalization

AUXILIARY = {"4a": "auxiliary_4a", "4d": "auxiliary_4d"}
AUXILIARY_WEIGHTS = {"predictions": 1.0, "auxiliary_4a": 0.3, "auxiliary_4d": 0.3}
"""``loss_weights`` of a training with the auxiliary classifiers (section 5 of the paper)."""
_SMALLEST, _SMALLEST_AUXILIARY = 32, 65  # 65 leaves 5x5 places for the auxiliary classifiers' pooling


class Inception(NamedTuple):
    """Filters of one module: directly by 1x1; 3x3 and 5x5 behind 1x1 reductions; 1x1 behind the pooling."""

    direct: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    projection: int

    @property
    def filters(self) -> int:
        """Channels that come out."""
        return self.direct + self.conv3 + self.conv5 + self.projection


MODULES = {
    "3a": Inception(64, 96, 128, 16, 32, 32),
    "3b": Inception(128, 128, 192, 32, 96, 64),
    "4a": Inception(192, 96, 208, 16, 48, 64),
    "4b": Inception(160, 112, 224, 24, 64, 64),
    "4c": Inception(128, 128, 256, 24, 64, 64),
    "4d": Inception(112, 144, 288, 32, 64, 64),
    "4e": Inception(256, 160, 320, 32, 128, 128),
    "5a": Inception(256, 160, 320, 32, 128, 128),
    "5b": Inception(384, 192, 384, 48, 128, 128),
}
"""Table 1 of the paper."""


def GoogLeNet(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    auxiliary: bool = False,
    batch_normalization: bool = False,
) -> keras.Model:
    """Nine inception modules, global average pooling instead of dense layers, and two classifiers on the way.

    From 224x224x3: ``conv1`` 112x112x64, ``conv1_pool`` 56x56x64, ``conv2`` 56x56x192, ``conv2_pool`` 28x28x192,
    ``inception_3a`` 28x28x256, ``3b`` 28x28x480, ``4a`` 14x14x512, ``4b`` and ``4c`` 512, ``4d`` 528, ``4e`` 832,
    ``5a`` 7x7x832, ``5b`` 7x7x1024, then the mean over places, dropout 0.4 and 1000. A module's output is the layer
    ``inception_3a_output``.

    The auxiliary classifiers bring gradient to the middle of the network and are needed in training alone::

        model = GoogLeNet(classes=10, auxiliary=True)
        targets = {name: labels for name in AUXILIARY_WEIGHTS}
        model.compile("adam", dict.fromkeys(targets, "sparse_categorical_crossentropy"), AUXILIARY_WEIGHTS)
        model.fit(images, targets)
        model = without_auxiliary(model)

    Source: Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842; batch normalization: Ioffe and Szegedy
    2015, arXiv:1502.03167.

    Args:
        include_top: end with the classifier; without it with the feature map ``(B, H/32, W/32, 1024)``.
        weights: None (random) or the path of a ``.weights.h5`` file.
        input_tensor: put the network on this tensor ``(B, H, W, C)``, of about mean 0 and deviation 1.
        input_shape: (height, width, channels), at least 32 pixels per side (65 with ``auxiliary``); default
            (224, 224, 3).
        pooling: without the classifier: ``"avg"`` or ``"max"`` gives features ``(B, 1024)``.
        classes, classifier_activation: of the classifiers.
        auxiliary: outputs ``{"predictions", "auxiliary_4a", "auxiliary_4d"}``, each ``(B, classes)``.
        batch_normalization: behind every convolution (which then needs no bias), instead of the two local response
            normalizations.

    Raises:
        UsageError: an impossible shape or pooling, auxiliary classifiers without the classifier, a missing file.
        WeightsError: weights that do not fit.
    """
    name = "googlenet_bn" if batch_normalization else "googlenet"
    if auxiliary and not include_top:
        raise UsageError(
            "auxiliary=True was given with include_top=False; auxiliary classifiers go with the top."
        )
    smallest = _SMALLEST_AUXILIARY if auxiliary else _SMALLEST
    image = image_tensor(
        name, input_tensor, input_shape, default=224, smallest=smallest, include_top=include_top
    )
    network = _Builder(batch_normalization)
    x = network.stem(image)
    outputs: dict[str, keras.KerasTensor] = {}
    for module, filters in MODULES.items():
        if module in ("4a", "5a"):
            x = _halve(x, f"inception_{module}_downsample")
        x = network.inception(x, filters, f"inception_{module}")
        if auxiliary and module in AUXILIARY:
            outputs[AUXILIARY[module]] = network.auxiliary(
                x, AUXILIARY[module], classes, classifier_activation
            )
    if not include_top:
        return finished(name, image, pooled(x, pooling), weights)
    layers = keras.layers
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return finished(name, image, {"predictions": x, **outputs} if auxiliary else x, weights)


def GoogLeNetBN(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    auxiliary: bool = False,
) -> keras.Model:
    """:func:`GoogLeNet` with batch normalization (arXiv:1409.4842, arXiv:1502.03167); the same arguments and errors."""
    return GoogLeNet(**locals(), batch_normalization=True)


def without_auxiliary(model: keras.Model) -> keras.Model:
    """The network for use: images to ``(B, classes)``, sharing the trained layers, auxiliary classifiers left out.

    Raises ``UsageError`` for a model without auxiliary classifiers.
    """
    if not isinstance(model.output, dict) or "predictions" not in model.output:
        raise UsageError(
            f"The model {model.name!r} has no auxiliary classifiers. Expected one of GoogLeNet(auxiliary=True)."
        )
    return keras.Model(model.input, model.output["predictions"], name=model.name)


def _halve(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Max pooling 3x3/2 that keeps the part of a window at the edge: half as many places, rounded up."""
    return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


class _Builder:
    """The parts of the network, with or without batch normalization."""

    def __init__(self, batch_normalization: bool) -> None:
        self.batch_normalization = batch_normalization

    def convolution(
        self,
        x: keras.KerasTensor,
        filters: int,
        kernel: int,
        name: str,
        *,
        strides: int = 1,
        padding: str = "same",
    ) -> keras.KerasTensor:
        return convolution(
            x,
            filters,
            kernel,
            name,
            strides=strides,
            padding=padding,
            batch_normalization=self.batch_normalization,
            use_bias=not self.batch_normalization,
        )

    def normalized(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return x if self.batch_normalization else LocalResponseNormalization(name=name)(x)

    def stem(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """``(B, H, W, C)`` to ``(B, H/8, W/8, 192)``."""
        x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(x)
        x = self.convolution(x, 64, 7, "conv1", strides=2, padding="valid")
        x = self.normalized(_halve(x, "conv1_pool"), "conv1_norm")
        x = self.convolution(x, 64, 1, "conv2_reduce")
        x = self.normalized(self.convolution(x, 192, 3, "conv2"), "conv2_norm")
        return _halve(x, "conv2_pool")

    def inception(self, x: keras.KerasTensor, filters: Inception, name: str) -> keras.KerasTensor:
        direct = self.convolution(x, filters.direct, 1, f"{name}_1x1")
        medium = self.convolution(x, filters.reduce3, 1, f"{name}_3x3_reduce")
        medium = self.convolution(medium, filters.conv3, 3, f"{name}_3x3")
        large = self.convolution(x, filters.reduce5, 1, f"{name}_5x5_reduce")
        large = self.convolution(large, filters.conv5, 5, f"{name}_5x5")
        surroundings = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
        surroundings = self.convolution(surroundings, filters.projection, 1, f"{name}_pool_projection")
        return keras.layers.Concatenate(name=f"{name}_output")([direct, medium, large, surroundings])

    def auxiliary(
        self, x: keras.KerasTensor, name: str, classes: int, activation: str | None
    ) -> keras.KerasTensor:
        layers = keras.layers
        x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
        x = self.convolution(x, 128, 1, f"{name}_conv")
        x = layers.Flatten(name=f"{name}_flatten")(x)
        x = layers.Dense(1024, activation="relu", kernel_initializer=HE, name=f"{name}_dense")(x)
        x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
        return layers.Dense(classes, activation=activation, name=name)(x)
