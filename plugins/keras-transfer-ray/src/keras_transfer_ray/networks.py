"""A network for the workers: converted, believed after it answered like Keras on a few of the user's own images."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from keras_transfer.data.table import PathImages
from keras_transfer.decoding import ImageError
from keras_transfer.errors import DataError, ExportError
from keras_transfer.features import model_hash
from keras_transfer.features.cache import FeatureCache
from keras_transfer.features.choosing import Engine
from keras_transfer.inference import ParallelLiteRTRunner, engines
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings
from keras_transfer_ray.job import Model

ENGINE = EngineSettings("litert")


def converted(network: keras.Model, preprocessing: Preprocessing, images: PathImages) -> Model:
    """A Keras model of fixed image size as a ``.tflite``: the one that ``--engine litert`` runs, from the same cache.

    Raises:
        CacheError: the network holds code that nothing describes.
        DataError: no image can be read. ExportError: it cannot be converted, or does not answer like Keras.
    """
    identity = model_hash(network)
    engine = Engine(ENGINE, network, identity, len(images), FeatureCache())

    def sample() -> np.ndarray:
        some = list(_first(images, preprocessing, engines.CHECK_IMAGES))
        if not some:
            raise DataError(
                f"There is no usable image in {images.shown or images.root}. Nothing can be done with it."
            )
        return np.stack(some)

    runner = engine.runner(sample)
    if not isinstance(runner, ParallelLiteRTRunner):
        raise ExportError(
            f"LiteRT does not run {network.name} as Keras does, and the workers run nothing else. Use `keras-transfer "
            "features --engine keras` on one machine."
        )
    runner.close()
    return Model(runner.content, identity, preprocessing)


def _first(images: PathImages, preprocessing: Preprocessing, count: int) -> Iterator[np.ndarray]:
    for row in range(len(images)):
        if not count:
            return
        try:
            yield preprocessing.load(images.path(row))
        except ImageError:
            continue
        count -= 1
