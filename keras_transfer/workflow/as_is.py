"""A pretrained network used as it is: its own 1,000 classes, no training."""

from __future__ import annotations

import os

from keras_transfer.backbones import class_names, load_classifier
from keras_transfer.inference import KerasRunner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.loaded_model import UNKNOWN, LoadedModel

RESIZE = "crop"
"""The networks were measured on the centre square of each image, so that is what they are shown."""
DECODE = "full"
"""And of photographs that were decoded in full."""


def as_is(
    backbone: str,
    weights: str | os.PathLike[str] = "auto",
    image_size: int | None = None,
    *,
    resize: str = RESIZE,
    interpolation: str = "bilinear",
    antialias: bool = True,
    decode: str = DECODE,
    offline: bool | None = None,
) -> LoadedModel:
    """A pretrained classifier with the names of its classes, ready for ``predict`` and ``evaluate``.

    Args:
        backbone, weights, image_size, offline: as for :func:`keras_transfer.backbones.load_classifier`.
        resize, interpolation, antialias, decode: as in :class:`~keras_transfer.preprocessing.Preprocessing`.

    Raises:
        UsageError, WeightsError: as :func:`keras_transfer.backbones.load_classifier`.
    """
    model = load_classifier(backbone, weights, image_size, offline=offline)
    height, width = model.input_shape[1:3]
    preprocessing = Preprocessing(
        size=(height, width),
        resize=resize,
        interpolation=interpolation,
        antialias=antialias,
        decode=decode,
    )
    runtime = KerasRunner(model)
    return LoadedModel(model.name, runtime.predict, preprocessing, class_names(), UNKNOWN, runtime=runtime)
