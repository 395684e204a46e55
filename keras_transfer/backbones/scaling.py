"""From RGB pixels in [0, 255] to what a network was trained on: a part of the model, so that callers never scale.

The modes carry the names of ``keras.applications.imagenet_utils.preprocess_input``:

========  ==========================================================================
tf        ``x / 127.5 - 1``, so [-1, 1]
caffe     BGR instead of RGB, minus the ImageNet mean (103.939, 116.779, 123.68)
torch     ``(x / 255 - mean) / std`` with the ImageNet mean and deviation in RGB order
unit      ``x / 255``, so [0, 1]
lite      ``(x - 127) / 128`` (EfficientNet-Lite)
none      nothing: the network holds its own scaling layers
========  ==========================================================================
"""

from __future__ import annotations

import keras

from ..errors import unknown_name
from ..settings import INPUT_MODES

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def scale_pixels(image: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Add the scaling of ``mode`` to a functional graph.

    ``image``: float32 ``(B, H, W, 3)``, RGB in [0, 255]. Returns the same shape in the network's range.
    Only built-in layers (named ``scaling``, and ``rgb_to_bgr`` for ``caffe``) are used.
    Raises :class:`UsageError` for an unknown mode.
    """
    rescaling = keras.layers.Rescaling
    if mode == "none":
        return image
    if mode == "tf":
        return rescaling(1 / 127.5, -1.0, name="scaling")(image)
    if mode == "unit":
        return rescaling(1 / 255, name="scaling")(image)
    if mode == "lite":
        return rescaling(1 / 128, -127 / 128, name="scaling")(image)
    if mode == "torch":
        scale = [1 / (255 * std) for std in IMAGENET_STD_RGB]
        offset = [-mean / std for mean, std in zip(IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, strict=True)]
        return rescaling(scale, offset, name="scaling")(image)
    if mode == "caffe":
        bgr = keras.ops.flip(image, axis=-1)
        return rescaling(1.0, [-mean for mean in _CAFFE_MEAN_BGR], name="scaling")(bgr)
    raise unknown_name("input mode", mode, INPUT_MODES)
