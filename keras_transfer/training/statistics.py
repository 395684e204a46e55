"""Batch normalization that is trained for few steps: its moving statistics must not be those of before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from keras_transfer.backbones.blocks import leaf_layers

SHORTEST = 0.9
"""Momentum below which one batch would weigh too much."""


@contextlib.contextmanager
def remembering_an_epoch(model: keras.Model, steps: int) -> Iterator[list[str]]:
    """Within this context, trained batch normalizations average over about one epoch, where theirs is a longer memory.

    With a momentum ``m`` the moving statistics are a mean over the last ``1 / (1 - m)`` steps. Pretrained networks come
    with 0.99 to 0.999, made for epochs of thousands of steps. Where an epoch has 13 they stay those of other images,
    and of weights that were long since changed: the network validates, and is exported, worse than it trained. Here
    ``m`` is at most ``1 - 1 / steps``, and for that never below :data:`SHORTEST`.

    Args:
        model: to be trained. Frozen layers, and layers with a shorter memory, stay as they are.
        steps: of an epoch.

    Yields:
        Names of the layers that are changed.
    """
    longest = max(SHORTEST, 1 - 1 / steps)
    layers = [
        layer
        for layer in leaf_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and layer.momentum > longest
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = longest
    try:
        yield [layer.name for layer in layers]
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
