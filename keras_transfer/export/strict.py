"""The last touch on every ``.tflite``: what runtimes stricter than LiteRT ask of a graph.

LiteRT's interpreter works all shapes out anew when an input is resized, whatever the file says, and knows tensors by
their numbers. Others believe the file. LiteRT.js refuses an input whose batch is open (``shape_signature``
``[-1, H, W, 3]``). TFLite Micro and the compilers of NPUs plan memory by the shapes of the tensors inside, which the
converter leaves at 1 wherever they depend on an open batch (a dilated convolution folds nine places into it). tf2onnx
knows tensors by their names. So a file is written for one image, with shapes that are true for it, and with names that
are distinct. It computes any batch all the same, because no number in it fixes the batch; a mark
(:data:`keras_transfer.litert.FREE_BATCH`) tells our own reader so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.export.metadata import add_metadata
from keras_transfer.export.stitching import distinguish
from keras_transfer.litert import FREE_BATCH, shapes_for_one

_Kind = schema.BuiltinOperator


def for_strict_runtimes(content: bytes) -> bytes:
    """The same model, written for a batch of one; LiteRT can still resize it to any batch.

    Args:
        content: a ``.tflite``. Its tensors' names are made distinct. Its shapes are changed where the batch, and
            nothing else, of every input is open.

    Returns:
        A file without ``shape_signature`` in which every shape is that of a batch of one, marked
        :data:`keras_transfer.litert.FREE_BATCH`. For other batches: ``resize_tensor_input(index, (N, ...))``, in the
        way that is not strict: the interpreters' default (``CompiledModel`` wants ``strict=False``).

    Raises:
        ExportError: the LiteRT runtime is missing.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    if len(model.subgraphs) == 1 and all(_open_batch(graph.tensors[index]) for index in graph.inputs):
        for index, shape in shapes_for_one(content).items():
            if index < len(graph.tensors):  # those beyond are the runtime's own
                graph.tensors[index].shape = np.array(shape, np.int32)
        for tensor in graph.tensors:
            tensor.shapeSignature = None
        _fix_reshapes(model)
        add_metadata(model, FREE_BATCH, b"1")
    for graph in model.subgraphs:
        distinguish(graph.tensors)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _open_batch(tensor: Any) -> bool:
    signature = [] if tensor.shapeSignature is None else list(tensor.shapeSignature)
    return signature[:1] == [-1] and -1 not in signature[1:]


def _fix_reshapes(model: Any) -> None:
    """Write the shapes of reshapes as constants ``[-1, h, w, c]``, and drop the operators that computed them.

    Keras's ``Reshape`` asks for the batch while the model runs (SHAPE, STRIDED_SLICE, PACK), which accelerators leave
    to the CPU. The batch follows from the other sizes, whatever it is.
    """
    graph = model.subgraphs[0]
    maker = {int(index): operator for operator in graph.operators for index in operator.outputs}
    for operator in graph.operators:
        if _kind(model, operator) != _Kind.RESHAPE or len(operator.inputs) < 2:
            continue
        packed = maker.get(int(operator.inputs[1]))
        if packed is None or _kind(model, packed) != _Kind.PACK:
            continue
        sizes = [_constant(model, graph.tensors[index]) for index in packed.inputs[1:]]
        if all(size is not None and size > 0 for size in sizes):
            operator.inputs = [operator.inputs[0], _add_constant(model, [-1, *sizes])]
    _drop_unused(model, (_Kind.PACK, _Kind.STRIDED_SLICE, _Kind.SHAPE))


def _drop_unused(model: Any, kinds: tuple[int, ...]) -> None:
    """Remove operators of these kinds whose results nobody reads, and kinds that are left without one.

    ``kinds`` go from those that read to those that are read.
    """
    graph = model.subgraphs[0]
    for kind in kinds:
        read = {int(index) for operator in graph.operators for index in operator.inputs}
        read |= {int(index) for index in graph.outputs}
        graph.operators = [
            operator
            for operator in graph.operators
            if _kind(model, operator) != kind or read & {int(index) for index in operator.outputs}
        ]
    left = sorted({operator.opcodeIndex for operator in graph.operators})
    for operator in graph.operators:
        operator.opcodeIndex = left.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in left]


def _kind(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _constant(model: Any, tensor: Any) -> int | None:
    """The number in an int32 tensor that holds one constant; else None."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.INT32 or data is None or len(data) != 4:
        return None
    return int(np.frombuffer(bytes(bytearray(data)), "<i4")[0])


def _add_constant(model: Any, values: list[int | None]) -> int:
    """Add an int32 constant of one dimension to the graph; its index."""
    graph = model.subgraphs[0]
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(np.array(values, "<i4").tobytes(), np.uint8)
    tensor.buffer, tensor.type = len(model.buffers), schema.TensorType.INT32
    tensor.shape = np.array([len(values)], np.int32)
    tensor.name = b"shape_%d" % len(graph.tensors)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
