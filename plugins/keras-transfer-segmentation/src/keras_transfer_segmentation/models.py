"""Segmentation networks: from pixels to a probability for every class in every pixel.

All are flat Functional models of Keras's own layers: input float32 ``(B, H, W, 3)``, RGB in [0, 255]; output float32
``(B, H, W, C)``, probabilities. Layers ``logits`` and ``probabilities`` come last, as in the core's heads; names of
what is added to a backbone begin with ``decoder_`` or ``head_``. Any size will do: where height and width do not
divide, the image is padded inside the model and the result cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.heads import LOGITS
from keras_transfer_segmentation.decoders import (
    UPSAMPLING,
    classify_pixels,
    conv_block,
    glorot_uniform,
    resize_to,
    upsample,
)
from keras_transfer_segmentation.encoders import encode, pad, padded_size

_SKIPS = (16, 8, 4)


def unet(
    backbone: keras.Model,
    num_classes: int,
    *,
    widths: Sequence[int] = (256, 128, 64, 32),
    upsampling: str = "bilinear",
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """A U-Net with a backbone as its contracting path.

    Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv:1505.04597, with
    padded convolutions and batch normalization.

    Args:
        backbone: a model of ``load_backbone``, whose layers and weights become part of the result (a copy of them for
            sizes that 32 does not divide).
        num_classes: ``C``, at least 2.
        widths: channels of the expanding path at strides 16, 8 and 4, whose skips are the backbone's maps, and where a
            fourth is given at full size.
        upsampling: ``bilinear``, or ``transposed``: convolutions of 2x2 with stride 2, as in the paper.
        dropout: share of channels dropped before the classification in training, in [0, 1).
        seed: fixes the initial weights and the dropout.

    Raises:
        UsageError: an impossible argument, or a model that is no backbone of the catalog.
    """
    _check(num_classes, widths, dropout)
    if not 3 <= len(widths) <= 4:
        raise UsageError(
            f"widths has {len(widths)} numbers; 3 or 4 are expected, for strides 16, 8 and 4, and full size."
        )
    if upsampling not in UPSAMPLING:
        raise unknown_name("upsampling", str(upsampling), UPSAMPLING)
    encoder = encode(backbone)
    x = encoder.levels[32]
    for stride, width in zip((*_SKIPS, 1), widths, strict=False):
        name, skip = f"decoder_{stride}", encoder.levels.get(stride)
        size = encoder.padded_size if skip is None else skip.shape[1:3]
        x = upsample(x, size, width, upsampling, name, seed)
        if skip is not None:
            x = keras.layers.Concatenate(name=f"{name}_skip")([x, skip])
        x = conv_block(x, width, f"{name}_a", seed)
        x = conv_block(x, width, f"{name}_b", seed)
    outputs = classify_pixels(x, num_classes, encoder.padded_size, encoder.size, dropout=dropout, seed=seed)
    return keras.Model(encoder.image, outputs, name=f"{encoder.name}_unet")


def unet_from_scratch(
    image_size: tuple[int, int],
    num_classes: int,
    *,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    normalize: bool = True,
    dropout: float = 0.5,
    seed: int = 0,
) -> keras.Model:
    """The U-Net of the paper, to be trained from random weights.

    Ronneberger et al. 2015, arXiv:1505.04597: two 3x3 convolutions a step, 2x2 max pooling, 2x2 up-convolutions that
    halve the channels, skips by concatenation, dropout at the end of the contracting path. Unlike there the
    convolutions are padded, so that the result has the size of the image, and by default batch-normalised.

    Args:
        image_size: (height, width) in pixels.
        num_classes: ``C``, at least 2.
        widths: channels of each step of the contracting path, at least two; sides are padded to multiples of
            ``2 ** (len(widths) - 1)``.
        normalize: batch normalization after each convolution; False is the paper's network.
        dropout: share of features dropped at the deepest step in training, in [0, 1).
        seed: fixes the initial weights and the dropout.

    Raises:
        UsageError: an impossible argument.
    """
    _check(num_classes, widths, dropout)
    if len(widths) < 2:
        raise UsageError(f"widths is {tuple(widths)}; expected at least two numbers, one for each step.")
    if len(image_size) != 2 or not all(isinstance(side, int) and side >= 1 for side in image_size):
        raise UsageError(f"image_size is {image_size!r}; expected (height, width) in pixels.")
    size = (image_size[0], image_size[1])
    padded = padded_size(size, 2 ** (len(widths) - 1))
    image = keras.Input((*size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="scaling")(pad(image, padded))
    skips = []
    for depth, width in enumerate(widths):
        if depth:
            skips.append(x)
            x = keras.layers.MaxPooling2D(name=f"encoder_{depth}_pool")(x)
        for part in "ab":
            x = conv_block(x, width, f"encoder_{depth}_{part}", seed, normalize=normalize)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seed, name="encoder_dropout")(x)
    for depth in reversed(range(len(widths) - 1)):
        name, skip = f"decoder_{depth}", skips[depth]
        x = upsample(x, skip.shape[1:3], widths[depth], "transposed", name, seed)
        x = keras.layers.Concatenate(name=f"{name}_skip")([skip, x])
        for part in "ab":
            x = conv_block(x, widths[depth], f"{name}_{part}", seed, normalize=normalize)
    return keras.Model(image, classify_pixels(x, num_classes, padded, size, seed=seed), name="unet")


def fpn(
    backbone: keras.Model,
    num_classes: int,
    *,
    width: int = 128,
    head_width: int = 64,
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """A feature pyramid network with a semantic head.

    Lin et al. 2017, Feature Pyramid Networks for Object Detection, arXiv:1612.03144; the head is that of Kirillov et
    al. 2019, Panoptic Feature Pyramid Networks, arXiv:1901.02446: each level is convolved and doubled until stride 4,
    where all are added. Batch instead of group normalization, which TFLite folds into the convolutions; half the
    paper's widths by default; sizes grow by bilinear resizing.

    Args:
        backbone, classes, dropout, seed: as in :func:`unet`.
        width: channels of the pyramid. head_width: channels of the head.
    """
    _check(num_classes, (width, head_width), dropout)
    encoder = encode(backbone)
    above, summed = None, []
    for stride in (32, *_SKIPS):
        name = f"decoder_{stride}"
        level = encoder.levels[stride]
        x = keras.layers.Conv2D(
            width, 1, kernel_initializer=glorot_uniform(name, seed), name=f"{name}_lateral"
        )(level)
        if above is not None:
            above = resize_to(above, level.shape[1:3], f"{name}_resize")
            x = keras.layers.Add(name=f"{name}_add")([x, above])
        above = x
        x = keras.layers.Conv2D(
            width,
            3,
            padding="same",
            kernel_initializer=glorot_uniform(f"{name}_smooth", seed),
            name=f"{name}_smooth",
        )(x)
        finer = [s for s in _SKIPS if s < stride]
        for step, target in enumerate(finer or [stride]):
            x = conv_block(x, head_width, f"{name}_head_{step}", seed)
            x = resize_to(x, encoder.levels[target].shape[1:3], f"{name}_head_{step}_resize")
        summed.append(x)
    x = keras.layers.Add(name="decoder_sum")(summed)
    outputs = classify_pixels(x, num_classes, encoder.padded_size, encoder.size, dropout=dropout, seed=seed)
    return keras.Model(encoder.image, outputs, name=f"{encoder.name}_fpn")


def deeplab_v3_plus(
    backbone: keras.Model,
    num_classes: int,
    *,
    width: int = 128,
    low_level_width: int = 48,
    rates: Sequence[int] = (3, 6, 9),
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """DeepLabv3+: atrous spatial pyramid pooling over the deepest map, refined with a low-level one.

    Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation,
    arXiv:1802.02611. The paper removes the last stride of its backbone; a backbone of the catalog keeps its own, so
    the pyramid works at stride 32 and its rates are half the paper's (6, 12, 18 at stride 16): the same field of view.

    Args:
        backbone, classes, dropout, seed: as in :func:`unet`.
        width: channels of each branch and of the decoder (256 in the paper).
        low_level_width: channels the map at stride 4 is reduced to.
        rates: of dilation, one for each atrous branch.
    """
    _check(num_classes, (width, low_level_width, *rates), dropout)
    encoder = encode(backbone)
    deep, low = encoder.levels[32], encoder.levels[4]
    branches = [conv_block(deep, width, "decoder_aspp_0", seed, kernel=1)]
    for index, rate in enumerate(rates, 1):
        branches.append(conv_block(deep, width, f"decoder_aspp_{index}", seed, rate=rate, separable=True))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="decoder_aspp_pool")(deep)
    pooled = conv_block(pooled, width, "decoder_aspp_image", seed, kernel=1)
    branches.append(resize_to(pooled, deep.shape[1:3], "decoder_aspp_image_resize"))
    x = keras.layers.Concatenate(name="decoder_aspp")(branches)
    x = conv_block(x, width, "decoder_aspp_project", seed, kernel=1)
    x = resize_to(x, low.shape[1:3], "decoder_resize")
    low = conv_block(low, low_level_width, "decoder_low", seed, kernel=1)
    x = keras.layers.Concatenate(name="decoder_skip")([x, low])
    for part in "ab":
        x = conv_block(x, width, f"decoder_{part}", seed, separable=True)
    outputs = classify_pixels(x, num_classes, encoder.padded_size, encoder.size, dropout=dropout, seed=seed)
    return keras.Model(encoder.image, outputs, name=f"{encoder.name}_deeplab_v3_plus")


def logits_model(model: keras.Model) -> keras.Model:
    """The same network up to its logits ``(B, H, W, C)``, for a loss with ``from_logits=True`` (numerically safer)."""
    return keras.Model(model.input, model.get_layer(LOGITS).output, name=model.name)


def _check(num_classes: int, widths: Sequence[int], dropout: float) -> None:
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UsageError(f"A network for {num_classes!r} classes was asked for; at least 2 are expected.")
    if not all(isinstance(width, int) and width >= 1 for width in widths):
        raise UsageError(f"Widths and rates are {tuple(widths)}; expected whole numbers of at least 1.")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout is {dropout!r}; expected a share of at least 0 and below 1.")
