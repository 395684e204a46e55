"""Two ``.tflite`` files joined end to end into one.

The converter quantizes a graph as a whole. Where one part must stay in float, the two parts
are converted on their own and joined here: the output tensor of the first becomes the input
of the second. Only the flatbuffer's published schema is relied on (tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.errors import ExportError

_RUNTIME_VERSION = b"min_runtime_version"


def stitch(first: bytes, second: bytes) -> bytes:
    """Join two models: the result computes ``second(first(x))``.

    Args:
        first: a ``.tflite`` file with one output.
        second: one with one input of the same type, the same shape and not quantized.

    Returns:
        A ``.tflite`` file with the inputs of ``first`` and the outputs (and their signature names) of ``second``.

    Raises:
        ExportError: several subgraphs, or an output and an input that do not fit.
    """
    base = flatbuffer_utils.convert_bytearray_to_object(bytearray(first))
    tail = flatbuffer_utils.convert_bytearray_to_object(bytearray(second))
    if len(base.subgraphs) != 1 or len(tail.subgraphs) != 1:
        raise ExportError("A model with control flow (several subgraphs) cannot be joined with another.")
    body, head = base.subgraphs[0], tail.subgraphs[0]
    _check_joint(body, head)

    joint, entry, offset = int(body.outputs[0]), int(head.inputs[0]), len(body.tensors)

    def tensor(index: int) -> int:
        """A tensor of ``second`` in the joined graph; -1 stands for an optional input that is left out."""
        return -1 if index == -1 else joint if index == entry else offset + index

    buffers = _append_buffers(base, tail, head)
    for each in head.tensors:
        each.buffer = buffers[each.buffer]
    body.tensors = [
        *body.tensors,
        *head.tensors,
    ]  # the entry's tensor stays behind, unused: indices remain simple
    distinguish(body.tensors)
    codes = _append_operator_codes(base, tail)
    for operator in head.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
        operator.inputs = [tensor(int(i)) for i in operator.inputs]
        operator.outputs = [tensor(int(i)) for i in operator.outputs]
    body.operators = [*body.operators, *head.operators]
    body.outputs = np.array([tensor(int(i)) for i in head.outputs], np.int32)
    for signature in base.signatureDefs or []:
        signature.outputs = tail.signatureDefs[0].outputs
        for output in signature.outputs:
            output.tensorIndex = tensor(output.tensorIndex)
    _raise_runtime_version(base, tail)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(base))


def _check_joint(body: Any, head: Any) -> None:
    if len(body.outputs) != 1 or len(head.inputs) != 1:
        raise ExportError(f"{len(body.outputs)} outputs cannot be joined to {len(head.inputs)} inputs.")
    given, wanted = body.tensors[body.outputs[0]], head.tensors[head.inputs[0]]
    same = given.type == wanted.type and list(given.shape) == list(wanted.shape)
    if not same or any(
        t.quantization is not None and t.quantization.scale is not None for t in (given, wanted)
    ):
        raise ExportError(
            f"An output of type {given.type} and shape {list(given.shape)} cannot be joined to an input of type "
            f"{wanted.type} and shape {list(wanted.shape)}."
        )


def distinguish(tensors: list[Any]) -> None:
    """Give every tensor a name of its own: other converters (tf2onnx) know tensors by their names alone."""
    taken: set[bytes] = set()
    for tensor in tensors:
        name, number = bytes(tensor.name or b"tensor"), 1
        while name in taken:
            number += 1
            name = bytes(tensor.name or b"tensor") + b"_%d" % number
        taken.add(name)
        tensor.name = name


def _append_buffers(base: Any, tail: Any, head: Any) -> dict[int, int]:
    """Add the buffers that the tail's tensors use. Buffer 0 is the empty one, in every file."""
    places = {0: 0}
    for index in sorted({each.buffer for each in head.tensors} - {0}):
        places[index] = len(base.buffers)
        base.buffers.append(tail.buffers[index])
    return places


def _append_operator_codes(base: Any, tail: Any) -> list[int]:
    def key(code: Any) -> tuple[Any, ...]:
        return code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version

    known = {key(code): index for index, code in enumerate(base.operatorCodes)}
    for code in tail.operatorCodes:
        if key(code) not in known:
            known[key(code)] = len(base.operatorCodes)
            base.operatorCodes.append(code)
    return [known[key(code)] for code in tail.operatorCodes]


def _raise_runtime_version(base: Any, tail: Any) -> None:
    """The joined model needs the newer of the two runtimes."""
    ours, theirs = (_runtime_version(model) for model in (base, tail))
    if ours is not None and theirs is not None and _numbers(theirs.data) > _numbers(ours.data):
        ours.data = theirs.data


def _runtime_version(model: Any) -> Any:
    for entry in model.metadata or []:
        if entry.name == _RUNTIME_VERSION:
            return model.buffers[entry.buffer]
    return None


def _numbers(data: Any) -> tuple[int, ...]:
    text = bytes(bytearray(data)).rstrip(b"\0").decode("ascii", "replace")
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))
