"""Which number types does each operator of TFLite Micro take? Asked of the package, with models of one operator.

    python tests/export/micro_probe.py      # prints JSON: {operator: [types]}; needs tflite-micro and ai-edge-litert

Each question is a process of its own: a kernel may end it.
"""

from __future__ import annotations

import json
import os
import sys

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool", "float16")
SHAPE = (1, 4, 4, 8)
UNARY = (
    *(
        "ABS",
        "RELU",
        "RELU6",
        "LOGISTIC",
        "TANH",
        "HARD_SWISH",
        "ELU",
        "EXP",
        "LOG",
        "SQRT",
        "RSQRT",
        "SQUARE",
    ),
    *(
        "NEG",
        "LOG_SOFTMAX",
        "SIN",
        "COS",
        "CEIL",
        "FLOOR",
        "ROUND",
        "ZEROS_LIKE",
        "L2_NORMALIZATION",
        "LEAKY_RELU",
    ),
    "SOFTMAX",
)
BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU")
OPTIONS = {
    "L2_NORMALIZATION": "L2NormOptions", "LEAKY_RELU": "LeakyReluOptions", "SOFTMAX": "SoftmaxOptions",
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions", "REDUCE_MAX": "ReducerOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions", "CONCATENATION": "ConcatenationOptions", "PACK": "PackOptions",
    "UNPACK": "UnpackOptions", "STRIDED_SLICE": "StridedSliceOptions", "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions", "CONV_2D": "Conv2DOptions", "MIRROR_PAD": "MirrorPadOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "SPLIT": "SplitOptions", "RESHAPE": "ReshapeOptions",
    "SQUEEZE": "SqueezeOptions", "GATHER": "GatherOptions", "CAST": "CastOptions",
}  # fmt: skip
VALUES = {
    "beta": 1.0, "alpha": 0.1, "keepDims": True, "strideW": 1, "strideH": 1, "filterWidth": 2, "filterHeight": 2,
    "padding": 1, "axis": 3, "num": 8, "blockSize": 2, "dilationWFactor": 1, "dilationHFactor": 1,
    "depthMultiplier": 1, "numSplits": 2,
}  # fmt: skip
INTS = lambda *values: np.array(values, np.int32)  # noqa: E731
PADDING = INTS(0, 0, 1, 1, 1, 1, 0, 0).reshape(4, 2)
WITH_CONSTANTS = {
    "MEAN": ([INTS(1, 2)], (1, 1, 1, 8)),
    "SUM": ([INTS(1, 2)], (1, 1, 1, 8)),
    "REDUCE_MAX": ([INTS(1, 2)], (1, 1, 1, 8)),
    "AVERAGE_POOL_2D": ([], (1, 3, 3, 8)),
    "MAX_POOL_2D": ([], (1, 3, 3, 8)),
    "RESHAPE": ([INTS(1, 16, 8)], (1, 16, 8)),
    "SQUEEZE": ([], (4, 4, 8)),
    "EXPAND_DIMS": ([np.array(0, np.int32)], (1, 1, 4, 4, 8)),
    "TRANSPOSE": ([INTS(0, 2, 1, 3)], (1, 4, 4, 8)),
    "PAD": ([PADDING], (1, 6, 6, 8)),
    "MIRROR_PAD": ([PADDING], (1, 6, 6, 8)),
    "STRIDED_SLICE": ([INTS(0, 0, 0, 0), INTS(1, 2, 2, 8), INTS(1, 1, 1, 1)], (1, 2, 2, 8)),
    "SLICE": ([INTS(0, 0, 0, 0), INTS(1, 2, 2, 8)], (1, 2, 2, 8)),
    "GATHER": ([INTS(0, 1)], (1, 4, 4, 2)),
    "RESIZE_BILINEAR": ([INTS(8, 8)], (1, 8, 8, 8)),
    "RESIZE_NEAREST_NEIGHBOR": ([INTS(8, 8)], (1, 8, 8, 8)),
    "SPACE_TO_BATCH_ND": ([INTS(2, 2), np.zeros((2, 2), np.int32)], (4, 2, 2, 8)),
    "SPACE_TO_DEPTH": ([], (1, 2, 2, 32)),
    "DEPTH_TO_SPACE": ([], (1, 8, 8, 2)),
}
INPUT_SHAPE = {"BATCH_TO_SPACE_ND": (4, 2, 2, 8)}


def build(operator: str, inputs, output, options=None) -> bytes:
    """A model of one operator. ``inputs``: ``(shape, type)``, or an array for a constant; ``output``: ``(shape, type)``
    or a list of them."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    outputs = output if isinstance(output, list) else [output]

    def add(shape, kind, data=None, axis=None):
        tensor = schema.TensorT()
        tensor.name = b"t%d" % len(graph.tensors)
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(schema.TensorType, kind.upper())
        if kind in ("int8", "uint8", "int16") or (kind == "int32" and axis is not None):
            count = 1 if axis is None else shape[axis]
            how = schema.QuantizationParametersT()
            scale = 1 / 256 if operator in ("SOFTMAX", "LOGISTIC") and len(graph.tensors) else 1 / 128
            how.scale = np.full(count, scale if kind != "int16" else 1 / 32768, np.float32)
            point = (
                -128 if operator in ("SOFTMAX", "LOGISTIC") and kind == "int8" and len(graph.tensors) else 0
            )
            how.zeroPoint = np.full(count, point, np.int64)
            how.quantizedDimension = axis or 0
            tensor.quantization = how
        buffer = schema.BufferT()
        if data is not None:
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    made = [
        add(one.shape, one.dtype.name, one, 0 if one.dtype == np.int8 else None)
        if isinstance(one, np.ndarray)
        else add(*one)
        for one in inputs
    ]
    one = schema.OperatorT()
    one.opcodeIndex, one.inputs = 0, np.array(made, np.int32)
    one.outputs = np.array([add(*each) for each in outputs], np.int32)
    name = OPTIONS.get(operator)
    if name:
        one.builtinOptions = getattr(schema, name + "T")()
        one.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        for key, value in {**VALUES, **(options or {})}.items():
            if hasattr(one.builtinOptions, key):
                setattr(one.builtinOptions, key, value)
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    model.operatorCodes = [code]
    moving = [index for index, given in zip(made, inputs, strict=True) if not isinstance(given, np.ndarray)]
    graph.inputs, graph.outputs, graph.operators = np.array(moving, np.int32), one.outputs, [one]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def model_for(operator: str, kind: str) -> bytes:
    """One operator that computes on numbers of this type."""
    if operator in UNARY:
        return build(operator, [(SHAPE, kind)], (SHAPE, kind))
    if operator in BINARY:
        return build(operator, [(SHAPE, kind), (SHAPE, kind)], (SHAPE, kind))
    if operator == "CONCATENATION":
        return build(operator, [(SHAPE, kind)] * 2, ((1, 4, 4, 16), kind))
    if operator == "PACK":
        return build(operator, [(SHAPE, kind)] * 2, ((1, 4, 4, 2, 8), kind), {"valuesCount": 2})
    if operator == "SPLIT":
        return build(operator, [np.array(3, np.int32), (SHAPE, kind)], [((1, 4, 4, 4), kind)] * 2)
    if operator == "UNPACK":
        return build(operator, [(SHAPE, kind)], [((1, 4, 4), kind)] * 8)
    if operator == "BATCH_TO_SPACE_ND":
        given = [((4, 2, 2, 8), kind), INTS(2, 2), np.zeros((2, 2), np.int32)]
        return build(operator, given, (SHAPE, kind))
    if operator == "ARG_MAX":
        return build(operator, [(SHAPE, kind), np.array(3, np.int32)], ((1, 4, 4), "int32"))
    if operator == "DEQUANTIZE":
        return build(operator, [(SHAPE, kind)], (SHAPE, "float32"))
    if operator == "QUANTIZE":
        return build(operator, [(SHAPE, kind)], (SHAPE, "int8"))
    if operator == "CAST":
        return build(operator, [(SHAPE, kind)], (SHAPE, "float32" if kind != "float32" else "int8"))
    if operator in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"):
        weights = np.float32 if kind == "float32" else np.int8
        if operator == "FULLY_CONNECTED":
            return build(operator, [((1, 8), kind), np.ones((4, 8), weights)], ((1, 4), kind))
        if operator == "CONV_2D":
            return build(operator, [(SHAPE, kind), np.ones((4, 2, 2, 8), weights)], ((1, 3, 3, 4), kind))
        if operator == "DEPTHWISE_CONV_2D":
            return build(operator, [(SHAPE, kind), np.ones((1, 2, 2, 8), weights)], ((1, 3, 3, 8), kind))
        given = [INTS(1, 5, 5, 4), np.ones((4, 2, 2, 8), weights), (SHAPE, kind)]
        return build(operator, given, ((1, 5, 5, 4), kind))
    constants, shape = WITH_CONSTANTS[operator]
    return build(operator, [(SHAPE, kind), *constants], (shape, kind))


OPERATORS = (
    *UNARY, *BINARY, *WITH_CONSTANTS, "CONCATENATION", "PACK", "SPLIT", "UNPACK", "BATCH_TO_SPACE_ND", "ARG_MAX",
    "DEQUANTIZE", "QUANTIZE", "CAST", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED",
)  # fmt: skip


def takes(operator: str, kind: str) -> bool:
    """Whether TFLite Micro allocates the model and runs it once."""
    content = model_for(operator, kind)
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            from tflite_micro.python.tflite_micro import runtime

            model = runtime.Interpreter.from_bytes(content, arena_size=1 << 16)
            model.invoke()
        except BaseException:  # noqa: BLE001
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> int:
    chosen = sys.argv[1:] or OPERATORS
    from tflite_micro.python.tflite_micro import runtime  # noqa: F401  (once, for all children)

    print(json.dumps({one: [kind for kind in TYPES if takes(one, kind)] for one in chosen}, indent=1))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
