"""A backbone as an encoder: its image input and its feature maps, for images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import load_backbone, pyramid_model

STRIDE = 32
"""What a backbone's deepest map is reduced by; images are padded to multiples of it."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """The beginning of a segmentation model.

    Attributes:
        name: of the backbone.
        image: the model's input ``(B, H, W, 3)``, RGB in [0, 255].
        size: (H, W) in pixels.
        padded_size: the same, rounded up to what the maps divide; the difference is black, at the bottom and right.
        levels: {4, 8, 16, 32: deepest map} by stride, ``(B, about H/stride, about W/stride, c)``.
    """

    name: str
    image: Any
    size: tuple[int, int]
    padded_size: tuple[int, int]
    levels: dict[int, Any]


def encode(backbone: keras.Model) -> Encoder:
    """The maps of a backbone of the catalog, at the strides it declares.

    Where height and width are multiples of 32 the encoder *is* the backbone: layers and weights are shared. For other
    sizes it is a copy with the same layer names and weights behind a padding layer, and the backbone stays as it is.

    Raises:
        UsageError: a model that is not one of ``load_backbone``, or has already lost its feature map.
    """
    spec = get_spec(backbone.name)
    pyramid_model(backbone, spec)  # refuses what is not the network of the name
    height, width = backbone.input.shape[1:3]
    padded = padded_size((height, width), STRIDE)
    if padded != (height, width):
        wide = load_backbone(spec.name, weights="none", image_size=padded)
        _copy_weights(backbone, wide)
        for layer in wide.layers:
            layer.trainable = backbone.get_layer(layer.name).trainable
        backbone = _behind_padding(wide, (height, width), padded)
    maps = pyramid_model(backbone, spec).output
    levels = {2**level: maps[f"P{level}"] for level in range(2, 6)}
    return Encoder(spec.name, backbone.input, (height, width), padded, levels)


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """(height, width), each rounded up to a multiple."""
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def pad(image: Any, padded: tuple[int, int]) -> Any:
    """Black pixels at the bottom and right of ``(B, H, W, 3)``, where any are missing."""
    missing = padded[0] - image.shape[1], padded[1] - image.shape[2]
    if missing == (0, 0):
        return image
    return keras.layers.ZeroPadding2D(((0, missing[0]), (0, missing[1])), name="pad_image")(image)


def _behind_padding(model: keras.Model, size: tuple[int, int], padded: tuple[int, int]) -> keras.Model:
    """A copy of ``model`` (built for ``padded``) that takes images of ``size``."""
    image = keras.Input((*size, 3), name=model.input.name)
    filled = pad(image, padded)

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        arguments = tuple(filled if argument is image else argument for argument in arguments)
        return operation(*arguments, **options)

    copy = keras.models.clone_model(model, input_tensors=image, clone_function=_fresh, call_function=call)
    _copy_weights(model, copy)
    return copy


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    for layer in source.layers:
        other = target.get_layer(layer.name)
        other.set_weights(layer.get_weights())
        if isinstance(other, keras.layers.Normalization):
            other.finalize_state()  # what it computes with is derived from its weights, here only


def _fresh(operation: Any) -> Any:
    return operation.__class__.from_config(operation.get_config())
