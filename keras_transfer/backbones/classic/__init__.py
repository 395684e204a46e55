"""The networks the history of image recognition went through, where Keras does not have them.

Each constructor takes what those of ``keras.applications`` take and gives a plain Functional model.

>>> from keras_transfer.backbones.classic import ResNet18
>>> ResNet18(include_top=False, input_shape=(64, 64, 3)).output_shape
(None, 2, 2, 512)
"""

from __future__ import annotations

from .alexnet import AlexNet
from .googlenet import AUXILIARY_WEIGHTS, GoogLeNet, GoogLeNetBN, without_auxiliary
from .local_response import LocalResponseNormalization
from .resnet import ResNet18, ResNet34
from .vgg import VGG11, VGG13, VGG16, VGG19
from .zfnet import ZFNet

__all__ = [
    "AUXILIARY_WEIGHTS",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "AlexNet",
    "GoogLeNet",
    "GoogLeNetBN",
    "LocalResponseNormalization",
    "ResNet18",
    "ResNet34",
    "ZFNet",
    "without_auxiliary",
]
