"""The building blocks of a network, read from its layer names: what freezing and partial training are aligned to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import keras

from .building import automatic_prefix

# The first pattern that matches the beginning of a layer's name decides; the template makes the block's name from it.
_PATTERNS = tuple(
    (re.compile(pattern), template)
    for pattern, template in (
        (r"block\d+_\d+(?=_)", r"\g<0>"),  # Inception-ResNet: block35_4_conv
        (r"block\d+[^\d_](?=_)", r"\g<0>"),  # EfficientNet: block6a_dwconv
        (r"conv\d+_block\d+(?=_)", r"\g<0>"),  # ResNet, DenseNet: conv4_block6_out
        (r"block_?\d+(?=_)", r"\g<0>"),  # VGG, Xception: block3_conv1; MobileNetV2: block_12_add
        (r"conv_(?:dw|pw|pad)_(\d+)", r"block_\1"),  # MobileNet: conv_dw_1 and conv_pw_1
        (r"expanded_conv(?:_\d+)?(?=_[a-z])", r"\g<0>"),  # MobileNetV3, and the first block of V2
        (r"convnext_.*(stage_\d+_block_\d+)(?=_)", r"\1"),
        (r"convnext_.*downsampling_[a-z]+_(\d+)", r"downsampling_\1"),
        (r"convnext_[a-z]+_(stem)(?=_)", r"\1"),
        (r"(?:normal|reduction|adjust|separable)_.*?((?:stem|reduce)_\d+|\d+)$", r"cell_\1"),  # NASNet
        (r"mixed_?\d+[a-z]?$", r"\g<0>"),  # Inception
        (r"inception_\d[a-e](?=_)", r"\g<0>"),  # GoogLeNet
    )
)
# Inception names only the last layers of a block: those before them belong to it, the stem to the first block.
_NAMED_AT_THE_END = re.compile(r"mixed|block\d+_\d+")
_PREPARATION = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
_NORMALIZATION = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)


def blocks(model: keras.Model) -> list[tuple[str, list[str]]]:
    """The blocks of a model, bottom to top, as ``(block name, names of its layers)``. Every layer is in exactly one.

    Works on any Keras model. Names in the style of the catalog's networks are understood (``block6a_dwconv`` is
    in ``block6a``, ``conv4_block6_out`` in ``conv4_block6``). Other neighbours whose names begin alike are together
    (``stem_conv``, ``stem_bn``). A layer that Keras named itself belongs to the block before it; if Keras named all
    of them, each layer with weights but normalization begins a block. Inputs and scaling are the block ``input``.
    Nested models are opened: a backbone inside a ``Sequential`` has the blocks it has alone.
    """
    layers = list(leaf_layers(model))
    bottom = next((i for i, layer in enumerate(layers) if not _prepares_pixels(layer)), len(layers))
    labels = ["input"] * bottom + _labels(layers[bottom:])
    groups: dict[str, list[str]] = {}
    for layer, label in zip(layers, labels, strict=True):
        groups.setdefault(label, []).append(layer.name)
    return list(groups.items())


def leaf_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Every layer that is not itself a model, through nested models, bottom to top."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def _prepares_pixels(layer: Any) -> bool:
    """Whether a layer at the bottom comes before the network proper."""
    return isinstance(layer, _PREPARATION) or (_is_automatic(layer) and not layer.weights)


def _is_automatic(layer: Any) -> bool:
    return automatic_prefix(type(layer).__name__, layer.name) is not None


def _labels(layers: list[Any]) -> list[str]:
    """The block name of each layer."""
    automatic = [_is_automatic(layer) for layer in layers]
    known = [None if auto else _known(layer.name) for layer, auto in zip(layers, automatic, strict=True)]
    labels: list[str] = []
    taken = {label for label in known if label}
    start, current = "", "input"  # the beginning of the names in the current block, and its name
    for i, layer in enumerate(layers):
        following = next((label for label in known[i:] if label), "")
        if known[i] or _NAMED_AT_THE_END.match(following):
            start, current = "", following
        elif automatic[i]:
            begins = bool(layer.weights) and not isinstance(layer, _NORMALIZATION)
            if current == "input" or (all(automatic) and begins):
                start, current = "", layer.name
        elif _beginning(layer.name) != start:
            start = _beginning(layer.name)
            current = _unused(start, taken)
            taken.add(current)
        labels.append(current)
    return labels


def _known(name: str) -> str | None:
    for pattern, template in _PATTERNS:
        match = pattern.match(name)
        if match:
            return match.expand(template)
    return None


def _beginning(name: str) -> str:
    """``stem`` of ``stem_conv``, ``conv1`` of ``conv1_bn``, ``Conv_1`` of ``Conv_1_bn``, ``Conv1`` of ``bn_Conv1``."""
    match = re.match(r"(?:bn_)?([^_]+(?:_\d+)?)", name)
    return match.group(1) if match else name


def _unused(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
