"""From any layer of a network to one vector per image: which map, and how its positions become one.

The layer and the pooling become layers of the model that is run, so they are in the model's hash and thereby in the
key of what the cache holds: features of another layer or pooling are never mistaken for these.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import keras

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.settings import POOLINGS

GEM_POWER = 3.0
GEM_SMALLEST = 1e-6


def feature_model(
    backbone: keras.Model, *, layer: str | None = None, pooling: str = "avg", pyramid: Sequence[str] = ()
) -> keras.Model:
    """The part of a backbone that gives features, ending in one vector per image.

    Args:
        backbone: pixels ``(B, H, W, 3)`` to a feature map ``(B, h, w, D)`` or features ``(B, D)``.
        layer: the name of a layer whose output is taken, or a pyramid level, ``P2`` to ``P5``; None: the backbone's
            output.
        pooling: how a map becomes a vector: ``avg`` or ``max`` over the positions; ``gem``, the generalised mean
            ``mean(x^3)^(1/3)`` of what is above 1e-6, between the two (Radenovic et al. 2018, arXiv:1711.02512);
            ``flatten``, every position after the other, ``h * w * D`` numbers. A vector stays as it is.
        pyramid: names of the layers that are the levels P2 to P5.

    Returns:
        A model that shares the backbone's layers and weights, pixels to float32 ``(B, D)``.

    Raises:
        UsageError: no such layer, level or pooling, or an output that is neither a map nor a vector.
    """
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    output = backbone.output if layer is None else _output(backbone, layer, pyramid)
    shape = tuple(output.shape)
    if len(shape) == 4:
        output = pooled(output, pooling)
    elif len(shape) != 2:
        raise UsageError(
            f"The layer {layer or backbone.name!r} gives {shape}; a map (B, h, w, D) or a vector (B, D) is expected."
        )
    return keras.Model(backbone.inputs, output, name=backbone.name)


def pooled(features: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    """One vector ``(B, D)`` (``flatten``: ``(B, h * w * D)``) from a map; see :func:`feature_model`."""
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D()(features)
    if pooling == "flatten":
        return keras.layers.Flatten()(features)
    if pooling == "gem":
        powers = keras.ops.power(keras.ops.maximum(features, GEM_SMALLEST), GEM_POWER)
        return keras.ops.power(keras.layers.GlobalAveragePooling2D()(powers), 1 / GEM_POWER)
    return keras.layers.GlobalAveragePooling2D()(features)


def _output(backbone: keras.Model, layer: str, pyramid: Sequence[str]) -> keras.KerasTensor:
    levels = {f"P{level}": name for level, name in enumerate(pyramid, 2)}
    outputs = {operation.name: operation.output for operation in backbone.operations}
    name = levels.get(layer.upper(), layer)
    if name in outputs:
        return outputs[name]
    close = difflib.get_close_matches(layer, [*levels, *outputs], n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    known = f"a pyramid level ({', '.join(levels)}) or " if levels else ""
    raise UsageError(
        f"{backbone.name} has no layer {layer!r}.{hint} Expected {known}a layer's name; `keras-transfer describe "
        "NETWORK --layers` lists them."
    )
