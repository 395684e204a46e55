"""What turns pixels into an embedding: a backbone with a small head, or a network of a paper from scratch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_transfer.heads import POOLING

PROJECTION, UNIT = "head_projection", "head_unit"
SIZES = {"koch": 105, "conv4": 28}
"""Sides of the images in the papers, in pixels: what is taken where none is given."""


def pooled(backbone: keras.Model) -> keras.Model:
    """Pixels ``(B, H, W, 3)`` to the backbone's features averaged over the image, ``(B, D)``."""
    x = backbone.output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name=POOLING)(x)
    return keras.Model(backbone.inputs, x, name=backbone.name)


def with_head(extractor: keras.Model, head: Callable[[Any], Any], *, unit: bool = True) -> keras.Model:
    """An embedding model: an extractor, a head, and division by the length.

    Args:
        extractor: pixels to features ``(B, D)``.
        head: from the features to ``(B, d)``; layers are named ``head_...``.
        unit: whether embeddings get the length 1.

    Returns:
        A flat Functional model of built-in layers that shares the extractor's.
    """
    x = head(extractor.output)
    if unit:
        x = keras.layers.UnitNormalization(name=UNIT)(x)
    above = () if x is extractor.output else keras.Model(extractor.output, x).operations
    for operation in above:
        # Keras numbers plain operations anew in every process: a backbone from a file may hold the same names.
        if not isinstance(operation, keras.layers.Layer):
            operation.name = f"head_{operation.name}"
    return keras.Model(extractor.inputs, x, name=f"{extractor.name}_embedding")


def koch(size: tuple[int, int], dim: int = 4096, seed: int = 0) -> keras.Model:
    """The twin of Koch, Zemel & Salakhutdinov 2015 ("Siamese Neural Networks for One-shot Image Recognition", fig. 4).

    Convolutions 64@10x10, 128@7x7, 128@4x4, 256@4x4 with ReLU, pooling after the first three, Dense with sigmoid.
    Pixels ``(B, H, W, 3)`` in [0, 255], made grey and ink 1 on 0, to ``(B, dim)`` in (0, 1); 4096 in the paper.
    """
    inputs, x = _ink(size)
    for place, (filters, side) in enumerate([(64, 10), (128, 7), (128, 4), (256, 4)]):
        if place:
            x = keras.layers.MaxPooling2D(name=f"pool_{place}")(x)
        x = keras.layers.Conv2D(
            filters,
            side,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed=seed + place),
            name=f"conv_{place + 1}",
        )(x)
    x = keras.layers.Flatten(name="flat")(x)
    first = keras.initializers.GlorotUniform(seed=seed + 10)
    x = keras.layers.Dense(dim, activation="sigmoid", kernel_initializer=first, name=PROJECTION)(x)
    return keras.Model(inputs, x, name="koch")


def conv4(size: tuple[int, int], seed: int = 0) -> keras.Model:
    """The embedding of Snell, Swersky & Zemel 2017 (arXiv:1703.05175, section 3.1), of Vinyals et al. 2016.

    Four blocks of 64 convolutions 3x3, batch normalization, ReLU and 2x2 pooling; what is left is the embedding.
    Pixels ``(B, H, W, 3)`` in [0, 255], made grey and ink 1 on 0, to ``(B, 64 h w)``: 64 numbers for 28 px.
    """
    inputs, x = _ink(size)
    for place in range(1, 5):
        x = keras.layers.Conv2D(
            64,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seed=seed + place),
            name=f"conv_{place}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"bn_{place}")(x)
        x = keras.layers.ReLU(name=f"relu_{place}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{place}")(x)
    return keras.Model(inputs, keras.layers.Flatten(name="flat")(x), name="conv4")


def _ink(size: tuple[int, int]) -> tuple[Any, Any]:
    """Pixels in, dark ink as 1 and white paper as 0 out: ``(B, H, W, 1)``."""
    inputs = keras.Input((*size, 3), name="pixels")
    x = keras.layers.Rescaling(-1 / 255, offset=1.0, name="ink")(inputs)
    return inputs, ops.mean(x, axis=-1, keepdims=True)
