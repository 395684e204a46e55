"""Features of images in an array, through the core's extraction and its cache."""

from __future__ import annotations

from functools import lru_cache

import keras
import numpy as np

from keras_transfer.backbones import load_backbone
from keras_transfer.data.table import ArrayImages, ImageTable
from keras_transfer.features import extract
from keras_transfer.preprocessing import Preprocessing

BACKBONE = "efficientnet_lite0"
"""Of ``kid_lite0`` and ``fid_lite0``: its pooled features, 1,280 numbers, ImageNet weights, float32."""
SIDE = 96
"""Images are brought to this size first (bilinear): part of the metrics' definition, so that they can be compared."""


@lru_cache(maxsize=2)
def metric_backbone(name: str = BACKBONE) -> keras.Model:
    """A network the metrics look through: Lite0 at :data:`SIDE`, another of the catalog at its own size.

    Raises ``WeightsError`` where its ImageNet weights cannot be had.
    """
    return load_backbone(name, weights="imagenet", image_size=SIDE if name == BACKBONE else None)


def features_of(images: np.ndarray, name: str = BACKBONE, *, keep: bool = True) -> np.ndarray:
    """float32 ``(N, D)`` of images uint8 ``(N, H, W, 1 or 3)``; D is 1,280 for Lite0.

    ``keep``: in the user's cache, which is for images that will be seen again.
    """
    backbone = metric_backbone(name)
    contract = Preprocessing(size=backbone.input_shape[1:3])
    return extract(as_table(images), backbone, preprocessing=contract, cache=keep).values


def as_table(images: np.ndarray) -> ImageTable:
    """Images in an array as what the core extracts features from."""
    digests = ArrayImages(images, np.arange(len(images)))
    count = len(images)
    return ImageTable(
        source="arrays",
        images=digests,
        label_mode="classes",
        classes=("image",),
        labels=np.zeros(count, np.int32),
        splits=np.full(count, "test"),
        groups=None,
        weights=np.ones(count, np.float32),
        sha256=tuple(digests.digest(i) for i in range(count)),
    )
