"""A ``.tflite`` for a fixed number of images, and one whose edges are int8: what NPUs and their drivers ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.errors import ExportError
from keras_transfer.litert import FREE_BATCH, LiteRTModel, shapes_of

_Kind = schema.BuiltinOperator


def for_batch(content: bytes, batch: int) -> bytes:
    """The same model with every shape stated for ``batch`` images; it takes no other number.

    Args:
        content: a ``.tflite`` of an export, which LiteRT can resize.
        batch: images at a time, 1 and more.

    Raises ``ExportError`` where LiteRT cannot resize the model to it.
    """
    model = _read(content)
    (graph,) = model.subgraphs
    for index, shape in shapes_of(content, batch).items():
        if index < len(graph.tensors):  # those beyond are the runtime's own
            graph.tensors[index].shape = np.array(shape, np.int32)
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    model.metadata = [one for one in model.metadata or [] if one.name != FREE_BATCH]
    fixed = _written(model)
    found = LiteRTModel(fixed)
    shapes = [info.shape[0] for info in (*found.inputs, *found.outputs)]
    if set(shapes) != {batch}:
        raise ExportError(
            f"The model cannot be fixed to a batch of {batch}: its input and output have {shapes}."
        )
    return fixed


def with_int8_edges(content: bytes) -> bytes:
    """An all-integer model without the two operators that turn uint8 pixels to int8, and int8 answers to uint8.

    Args:
        content: all-integer, uint8 at both ends, the pixels as they are (scale 1, zero point 0).

    Returns:
        The model with int8 at both ends: the input holds pixel - 128.

    Raises ``ExportError`` where the model has no such operators at its ends.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    graph.inputs = [_beyond(model, index, into=True) for index in graph.inputs]
    graph.outputs = [_beyond(model, index, into=False) for index in graph.outputs]
    for signature in model.signatureDefs or []:
        for maps, indices in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
            for one, index in zip(maps, indices, strict=True):
                one.tensorIndex = index
    return _written(model)


def _beyond(model: Any, index: int, *, into: bool) -> int:
    """The int8 tensor on the other side of the QUANTIZE at an edge; the operator is taken out, the names exchanged."""
    graph = model.subgraphs[0]
    ends = [one for one in graph.operators if index in (one.inputs if into else one.outputs)]
    kinds = [max(model.operatorCodes[one.opcodeIndex].builtinCode, 0) for one in ends]
    if kinds != [_Kind.QUANTIZE] or graph.tensors[index].type != schema.TensorType.UINT8:
        raise ExportError("The model's edges cannot be int8: no QUANTIZE stands between them and the layers.")
    other = int((ends[0].outputs if into else ends[0].inputs)[0])
    edge, inner = graph.tensors[index], graph.tensors[other]
    if inner.type != schema.TensorType.INT8:
        raise ExportError("The model's edges cannot be int8: its layers compute on another number type.")
    edge.name, inner.name = inner.name, edge.name
    graph.operators = [one for one in graph.operators if one is not ends[0]]
    return other


def _read(content: bytes) -> Any:
    return flatbuffer_utils.convert_bytearray_to_object(bytearray(content))


def _written(model: Any) -> bytes:
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
