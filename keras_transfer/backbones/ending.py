"""Where a network's head begins: the last map that still knows where things are."""

from __future__ import annotations

from typing import Any

import keras

HEADS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.Flatten)
"""What the last map of a classifier goes through on its way to the answer."""


def last_map(model: keras.Model) -> Any | None:
    """The map ``(B, h, w, D)`` that the last global pooling or flattening of a flat model takes; None without one."""
    heads = [operation for operation in model.operations if isinstance(operation, HEADS)]
    return node_of(model, heads[-1]).input_tensors[0] if heads else None


def output_of(model: keras.Model, name: str) -> Any | None:
    """The output of the layer or operation of this name in this model's own graph; None where there is none."""
    for operation in model.operations:
        if operation.name == name:
            return node_of(model, operation).output_tensors[0]
    return None


def node_of(model: keras.Model, operation: Any) -> Any:
    """The call of an operation in this model's graph: its layers may have been called in others before."""
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if node.operation is operation:
                return node
    raise KeyError(operation.name)
