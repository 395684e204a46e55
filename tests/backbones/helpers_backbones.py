"""Shared by the tests of backbones: networks with weights that make answers differ."""

from __future__ import annotations

import keras
import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def keras_constructor(spec):
    return getattr(keras.applications, spec.constructor.removeprefix("keras.applications:"))


def random_images(count: int, size: int, seed: int) -> np.ndarray:
    """Float32 ``(count, size, size, 3)`` of whole numbers in [0, 255], of different brightness and contrast."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(0, 256, (2, count, 1, 1, 3)), axis=0)
    return rng.integers(low, high + 1, (count, size, size, 3)).astype("float32")


def randomise(model: keras.Model, inputs: np.ndarray, seed: int = 0) -> None:
    """Make the answers of a fresh network depend on the image.

    Batch normalizations get a random scale and offset and the statistics of ``inputs``, layer scales random values,
    an EfficientNet's own normalization the ImageNet statistics. In place.
    """
    rng = np.random.default_rng(seed)
    normalizations = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
            normalizations.append((layer, layer.momentum))
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_STD) ** 2, np.array(0)])
            layer.finalize_state()
        elif type(layer).__name__ == "LayerScale":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    if normalizations:
        model(inputs, training=True)
    for layer, momentum in normalizations:
        layer.momentum = momentum
