"""What every constructor here shares: the conventions of ``keras.applications`` for input, top, pooling and weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from ...errors import UsageError, WeightsError, unknown_name

POOLINGS = ("avg", "max")
Weights = str | os.PathLike[str] | None
Shape = Sequence[int | None] | None
HE = "he_normal"
"""Random weights that keep the scale of what passes through a ReLU (He et al. 2015, arXiv:1502.01852)."""
BN_MOMENTUM = 0.9
"""Of the moving statistics: with Keras's 0.99 they lag behind a short training from random weights."""


def image_tensor(
    name: str, input_tensor: Any, input_shape: Shape, *, default: int, smallest: int, include_top: bool
) -> keras.KerasTensor:
    """Where the images come in: ``input_tensor``, or a new input of ``input_shape`` (height, width, channels).

    Raises ``UsageError`` for a shape that is none, is smaller than ``smallest`` pixels per side, or, with the
    classifier, leaves a side open.
    """
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    else:
        shape = tuple(input_shape) if input_shape is not None else (default, default, 3)
    if len(shape) != 3 or not all(side is None or (isinstance(side, int) and side > 0) for side in shape):
        raise UsageError(f"{name} was given the input shape {shape}; (height, width, channels) is expected.")
    known = [side for side in shape[:2] if side is not None]
    if any(side < smallest for side in known):
        raise UsageError(
            f"{name} needs images of at least {smallest} pixels per side; the input shape is {shape}. "
            "Choose a larger size."
        )
    if include_top and len(known) < 2:
        raise UsageError(
            f"{name} with its classifier needs images of one size; the input shape is {shape}. "
            "Give height and width, or include_top=False."
        )
    return input_tensor if input_tensor is not None else keras.Input(shape)


def convolution(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    name: str,
    *,
    strides: int = 1,
    padding: str = "same",
    batch_normalization: bool = False,
    use_bias: bool = True,
) -> keras.KerasTensor:
    """Convolution ``name``, batch normalization ``name_bn`` where asked for, and ReLU ``name_relu``."""
    layers = keras.layers
    x = layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=HE,
        name=name,
    )(x)
    if batch_normalization:
        x = layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def fully_connected(
    x: keras.KerasTensor, names: tuple[str, str], classes: int, activation: str | None
) -> keras.KerasTensor:
    """The classifier of AlexNet, ZFNet and VGG: two layers of 4096 with dropout 0.5, then one of ``classes``."""
    layers = keras.layers
    x = layers.Flatten(name="flatten")(x)
    for name in names:
        x = layers.Dense(4096, activation="relu", kernel_initializer=HE, name=name)(x)
        x = layers.Dropout(0.5, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def pooled(x: keras.KerasTensor, pooling: str | None) -> keras.KerasTensor:
    """The feature map ``(B, h, w, D)``, or with ``"avg"`` or ``"max"`` one vector ``(B, D)`` an image."""
    if pooling is None:
        return x
    if pooling not in POOLINGS:
        raise unknown_name("pooling", str(pooling), POOLINGS)
    kinds = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    return kinds[pooling](name=f"{pooling}_pool")(x)


def finished(name: str, image: keras.KerasTensor, output: Any, weights: Weights) -> keras.Model:
    """The model from the source of ``image`` to ``output``, with the weights of a file unless ``weights`` is None.

    Raises ``WeightsError`` for ``"imagenet"``: nobody ships ImageNet weights for these networks with Keras;
    ``UsageError`` for a file that is not there.
    """
    model = keras.Model(keras.utils.get_source_inputs(image), output, name=name)
    if weights is None:
        return model
    if str(weights) == "imagenet":
        raise WeightsError(
            f"There are no ImageNet weights for {name} in Keras's format; give weights=None (random) or the path of a "
            ".weights.h5 file."
        )
    if not Path(weights).is_file():
        raise UsageError(
            f"weights={str(weights)!r} for {name} is neither None nor an existing file. "
            "Expected the path of a .weights.h5 file."
        )
    try:
        model.load_weights(weights)
    except (ValueError, OSError) as error:
        raise WeightsError(f"The weights in {weights} do not fit {name}: {error}") from error
    return model
