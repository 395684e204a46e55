"""ResNet-18 and ResNet-34: blocks of two 3x3 convolutions that learn what to add to their input.

Source: He et al. 2016, Deep Residual Learning for Image Recognition, arXiv:1512.03385 (table 1; section 3.3 and
table 3 for the shortcuts).
"""

from __future__ import annotations

from typing import Any

import keras

from ...errors import unknown_name
from ._frame import BN_MOMENTUM, HE, Shape, Weights, finished, image_tensor, pooled

FILTERS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""How many blocks each of the four stages has, by the number of layers with weights."""
SHORTCUTS = ("identity", "projection", "all_projections")
MERGES = ("sum", "concatenate")

_ARGUMENTS = """

    From 224x224x3: ``conv1`` 112x112x64, ``pool1`` 56x56x64, then stages of 56x56x64, 28x28x128, 14x14x256, 7x7x512;
    the mean over places and 1000. Layers are named as in ``keras.applications.ResNet50``; a block's output is
    ``conv2_block1_out``. Convolutions have no bias, batch normalization follows them.

    Args:
        include_top: end with the classifier; without it with the feature map ``(B, H/32, W/32, 512)``.
        weights: None (random) or the path of a ``.weights.h5`` file.
        input_tensor: put the network on this tensor ``(B, H, W, C)``, of about mean 0 and deviation 1.
        input_shape: (height, width, channels), at least 32 pixels per side; default (224, 224, 3).
        pooling: without the classifier: ``"avg"`` or ``"max"`` gives features ``(B, 512)``.
        classes, classifier_activation: of the classifier.
        shortcut: what reaches the end of a block that halves the places and doubles the channels: ``"identity"``, every
            second place and zeros for the new channels, without weights (the paper's option A); ``"projection"``, a
            1x1/2 convolution (B). ``"all_projections"``: a convolution in every block (C).
        merge: ``"sum"``, or ``"concatenate"``: input and change are put side by side, so that a block's output has the
            channels of both (no zeros are added to an identity then). Channels grow within a stage; a projection brings
            them back to the stage's.

    Raises:
        UsageError: an impossible shape or pooling, an unknown shortcut or merge, or a missing file.
        WeightsError: weights that do not fit.
    """


def ResNet18(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    shortcut: str = "projection",
    merge: str = "sum",
) -> keras.Model:
    """ResNet with 17 convolutions and a dense layer (arXiv:1512.03385)."""
    return _resnet(18, **locals())


def ResNet34(
    include_top: bool = True,
    weights: Weights = None,
    input_tensor: Any = None,
    input_shape: Shape = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    shortcut: str = "projection",
    merge: str = "sum",
) -> keras.Model:
    """ResNet with 33 convolutions and a dense layer (arXiv:1512.03385)."""
    return _resnet(34, **locals())


for _constructor in (ResNet18, ResNet34):
    _constructor.__doc__ = f"{_constructor.__doc__}{_ARGUMENTS}"


def _resnet(
    depth: int,
    include_top: bool,
    weights: Weights,
    input_tensor: Any,
    input_shape: Shape,
    pooling: str | None,
    classes: int,
    classifier_activation: str | None,
    shortcut: str,
    merge: str,
) -> keras.Model:
    if shortcut not in SHORTCUTS:
        raise unknown_name("shortcut", str(shortcut), SHORTCUTS)
    if merge not in MERGES:
        raise unknown_name("merge", str(merge), MERGES)
    name, layers = f"resnet{depth}", keras.layers
    image = image_tensor(name, input_tensor, input_shape, default=224, smallest=32, include_top=include_top)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = _normalized(x, 64, 7, 2, "conv1", padding="valid")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # behind a ReLU zeros never win
    x = layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    for stage, (count, filters) in enumerate(zip(BLOCKS[depth], FILTERS, strict=True), 2):
        for number in range(1, count + 1):
            strides = 2 if number == 1 and stage > 2 else 1
            x = _block(x, filters, strides, f"conv{stage}_block{number}", shortcut, merge)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    else:
        x = pooled(x, pooling)
    return finished(name, image, x, weights)


def _block(
    x: keras.KerasTensor, filters: int, strides: int, name: str, shortcut: str, merge: str
) -> keras.KerasTensor:
    """Two convolutions beside a shortcut, merged, then ReLU."""
    layers = keras.layers
    change = x
    if strides > 1:  # padding on both sides, as the paper's framework does
        change = layers.ZeroPadding2D(1, name=f"{name}_1_pad")(x)
    change = _normalized(change, filters, 3, strides, f"{name}_1", padding="valid" if strides > 1 else "same")
    change = layers.ReLU(name=f"{name}_1_relu")(change)
    change = _normalized(change, filters, 3, 1, f"{name}_2")
    kept = _shortcut(x, filters, strides, name, shortcut, merge)
    if merge == "sum":
        x = layers.Add(name=f"{name}_add")([kept, change])
    else:
        x = layers.Concatenate(name=f"{name}_concatenate")([kept, change])
    return layers.ReLU(name=f"{name}_out")(x)


def _shortcut(
    x: keras.KerasTensor, filters: int, strides: int, name: str, shortcut: str, merge: str
) -> keras.KerasTensor:
    if shortcut == "all_projections" or (shortcut == "projection" and strides > 1):
        return _normalized(x, filters, 1, strides, f"{name}_0")
    if strides > 1:
        x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_0_subsample")(x)
    missing = filters - x.shape[-1]
    if merge == "sum" and missing > 0:
        x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
    return x


def _normalized(
    x: keras.KerasTensor, filters: int, kernel: int, strides: int, name: str, padding: str = "same"
) -> keras.KerasTensor:
    """Convolution ``name_conv`` and batch normalization ``name_bn``."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=HE,
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=1e-5, name=f"{name}_bn")(x)
