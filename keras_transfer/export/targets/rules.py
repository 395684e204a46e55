"""What each runtime takes: facts, with their source. They come from the runtimes themselves where these can be asked.

Operators and number types decide here. A compiler looks at more (sizes of kernels, strides, the memory): it has the
last word, and a target runs it. ``tests/export/micro_probe.py`` asks TFLite Micro again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Types = frozenset[str]

FLOAT: Types = frozenset({"float32"})
BYTES: Types = frozenset({"int8", "uint8"})


@dataclass(frozen=True)
class Rules:
    """What a runtime takes of a ``.tflite``.

    Attributes:
        operators: those it has, each with the number types of the data it computes on; None: any.
        others: operators that are not listed are taken, too.
        free_size: what becomes of a size that the file leaves open: ``taken``, ``refused``, or ``one`` (it counts as 1,
            and memory is planned by shapes that may be untrue).
        hybrid: whether float data may meet integer weights (``dynamic``).
        edges: the number types that inputs and outputs may have; empty: any.
        distinct_names: no two tensors of one name.
        elsewhere: where operators run that the runtime itself lacks; empty: the file is refused.
        one_part: after the first operator that it lacks all others run elsewhere, too.
    """

    operators: Mapping[str, Types | None]
    others: bool = False
    free_size: str = "taken"
    hybrid: bool = True
    edges: Types = frozenset()
    distinct_names: bool = False
    elsewhere: str = ""
    one_part: bool = False


def _table(*rows: tuple[str, Iterable[str] | None]) -> dict[str, Types | None]:
    """From ``("ADD SUB", types)``."""
    return {
        name: None if kinds is None else frozenset(kinds) for names, kinds in rows for name in names.split()
    }


# The interpreter of ai-edge-litert has every builtin operator; what it lacks are custom ones, which have other names.
LITERT = Rules(operators={}, others=True)

# Asked of the PyPI package tflite-micro 0.dev20261023182759 (reference kernels): a model of one operator for each type,
# run once. Not asked: ARG_MIN, PADV2 and SPLIT_V, which are as their kin, and the last two rows, which stand in the
# package's python_ops_resolver.cc with the types its messages tell.
MICRO = Rules(
    operators=_table(
        ("ABS RELU RELU6 LOGISTIC TANH LEAKY_RELU SOFTMAX MEAN SUM AVERAGE_POOL_2D MAX_POOL_2D EXPAND_DIMS",
         ("float32", "int8", "int16")),
        ("TRANSPOSE RESIZE_NEAREST_NEIGHBOR CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED",
         ("float32", "int8", "int16")),
        ("HARD_SWISH ELU L2_NORMALIZATION DIV PRELU REDUCE_MAX MIRROR_PAD GATHER RESIZE_BILINEAR",
         ("float32", "int8")),
        ("SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND SPACE_TO_DEPTH DEPTH_TO_SPACE",
         ("float32", "int8")),
        ("EXP LOG SQRT RSQRT SQUARE NEG LOG_SOFTMAX SIN COS CEIL FLOOR ROUND",
         FLOAT),
        ("ADD SUB MUL SQUARED_DIFFERENCE PAD PADV2 SPLIT SPLIT_V UNPACK",
         ("float32", "int8", "int16", "int32")),
        ("MAXIMUM MINIMUM PACK",
         ("float32", "int8", "int16", "int32", "int64")),
        ("ZEROS_LIKE",
         ("float32", "int8", "int32", "int64")),
        ("STRIDED_SLICE SLICE",
         ("float32", "int8", "int16", "int32", "bool")),
        ("CONCATENATION",
         ("float32", "int8", "int16", "int32", "int64", "bool")),
        ("RESHAPE SQUEEZE",
         None),
        ("ARG_MAX ARG_MIN",
         ("float32", "int8", "int32")),
        ("DEQUANTIZE",
         ("float32", "int8", "uint8", "int16")),
        ("QUANTIZE",
         ("float32", "int8", "uint8", "int16", "int32")),
        ("CAST",
         ("float32", "int8", "int16", "int32", "bool")),
        ("ADD_N CUMSUM",
         ("float32", "int8")),
        ("""BROADCAST_TO EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND LOGICAL_OR
         LOGICAL_NOT FILL SHAPE SELECT_V2 GATHER_ND FLOOR_DIV FLOOR_MOD SVDF""",
         None),
    ),
    free_size="one",
    hybrid=False,  # "Hybrid models are not supported on TFLite Micro"
)  # fmt: skip

# `vela --supported-ops-report` of ethos-u-vela 5.2.0, Ethos-U55 and U65 (U85 has more). General: feature maps of 8, 16
# or 32 bits; most operators exclude 32.
_NPU = ("int8", "uint8", "int16")
ETHOS_U = Rules(
    operators=_table(
        ("""ABS AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXP HARD_SWISH LEAKY_RELU LOGISTIC
         MAXIMUM""",
         _NPU),
        ("MAX_POOL_2D MEAN MINIMUM MIRROR_PAD PACK PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6",
         _NPU),
        ("""RELU_0_TO_1 RELU_N1_TO_1 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SLICE SOFTMAX SPLIT
         SPLIT_V""",
         _NPU),
        ("SQUARED_DIFFERENCE STRIDED_SLICE TANH TILE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK NEG",
         _NPU),
        ("ADD SUB MUL ARG_MAX BATCH_MATMUL EXPAND_DIMS FULLY_CONNECTED RESHAPE SQUEEZE SUM TRANSPOSE",
         (*_NPU, "int32")),
        ("ELU",
         ("int8",)),
        ("GELU",
         BYTES),
        ("LOG RSQRT",
         ("int8", "int16")),
        # Not in the report: around a convolution it makes a dilated one of them (seen with segmentation's heads).
        ("SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND",
         _NPU),
    ),
    free_size="one",
    hybrid=False,
    elsewhere="the CPU",
)  # fmt: skip

# Asked of openvino 2026.4.1 (read_model, a model of one operator for float32, int8 and int16): all of these. ARG_MAX to
# int32 is refused ("Inconsistent type inference").
OPENVINO = Rules(
    operators=_table(
        ("""ABS RELU RELU6 LOGISTIC TANH HARD_SWISH ELU EXP LOG SQRT RSQRT SQUARE NEG LOG_SOFTMAX SIN COS CEIL
         FLOOR ROUND ZEROS_LIKE L2_NORMALIZATION LEAKY_RELU SOFTMAX ADD SUB MUL DIV MAXIMUM MINIMUM
         SQUARED_DIFFERENCE PRELU MEAN SUM REDUCE_MAX AVERAGE_POOL_2D MAX_POOL_2D RESHAPE SQUEEZE EXPAND_DIMS
         TRANSPOSE PAD MIRROR_PAD STRIDED_SLICE SLICE GATHER RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
         SPACE_TO_BATCH_ND SPACE_TO_DEPTH DEPTH_TO_SPACE CONCATENATION PACK SPLIT UNPACK BATCH_TO_SPACE_ND
         DEQUANTIZE QUANTIZE CAST CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED""",
         None),
        # Its list of operators, src/frontends/tensorflow_lite/src/op_table.cpp.
        ("""ADD_N BATCH_MATMUL BROADCAST_ARGS BROADCAST_TO EQUAL FILL FLOOR_DIV FLOOR_MOD GATHER_ND GREATER
         GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR MATRIX_DIAG NOT_EQUAL ONE_HOT PADV2
         POW RANGE RANK REDUCE_ALL REDUCE_ANY REDUCE_MIN REDUCE_PROD REVERSE_SEQUENCE REVERSE_V2 SCATTER_ND
         SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SPLIT_V TILE TOPK_V2 UNIQUE WHERE""",
         None),
    ),
)  # fmt: skip

# Asked of tf2onnx 1.17.0 and onnxruntime 1.32.0 (opset 17, a model of one operator for each type, run once): 16-bit
# data cannot be dequantized ("Type 'tensor(int16)' ... is invalid"), but may be moved.
_ONNX = ("float32", "int8", "uint8")
_MOVED = (*_ONNX, "int16", "int32", "int64", "bool")
ONNX = Rules(
    operators=_table(
        ("""ABS RELU RELU6 LOGISTIC TANH HARD_SWISH ELU EXP LOG SQRT RSQRT SQUARE NEG LOG_SOFTMAX SIN COS CEIL
         FLOOR ROUND ZEROS_LIKE L2_NORMALIZATION LEAKY_RELU SOFTMAX DIV SQUARED_DIFFERENCE PRELU MEAN
         REDUCE_MAX AVERAGE_POOL_2D MAX_POOL_2D PAD MIRROR_PAD RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
         SPACE_TO_BATCH_ND SPACE_TO_DEPTH DEPTH_TO_SPACE BATCH_TO_SPACE_ND CONV_2D DEPTHWISE_CONV_2D
         TRANSPOSE_CONV FULLY_CONNECTED QUANTIZE""",
         _ONNX),
        ("DEQUANTIZE",
         (*_ONNX, "float16")),
        ("ADD SUB MUL MAXIMUM MINIMUM SUM",
         (*_ONNX, "int32", "int64")),
        ("""EXPAND_DIMS TRANSPOSE STRIDED_SLICE SLICE GATHER CONCATENATION PACK SPLIT SPLIT_V UNPACK RESHAPE
         SQUEEZE""",
         _MOVED),
        ("CAST",
         (*_ONNX, "int32", "int64", "bool")),
        # Its list of handlers, tf2onnx/tflite_handlers: not asked one by one.
        ("""ADD_N BATCH_MATMUL BROADCAST_TO EQUAL FILL FLOOR_DIV FLOOR_MOD GATHER_ND GREATER GREATER_EQUAL LESS
         LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOGICAL_AND LOGICAL_NOT LOGICAL_OR NOT_EQUAL ONE_HOT PADV2
         POW RANGE REDUCE_MIN REDUCE_PROD REVERSE_V2 SELECT SELECT_V2 SHAPE SIGN TILE TOPK_V2 WHERE""",
         None),
    ),
    distinct_names=True,  # else "Graph has cycles"
)  # fmt: skip

# Coral's page "TensorFlow models on the Edge TPU" (coral.ai/docs/edgetpu/models-intro), table of supported operations:
# 8-bit tensors of fixed sizes; the compiler makes one part of the graph, up to the first operator it lacks.
EDGETPU = Rules(
    operators=_table(
        ("""ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
         L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX
         REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE
         SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE
         TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM""",
         BYTES),
    ),
    free_size="refused",
    hybrid=False,
    elsewhere="the CPU",
    one_part=True,
)  # fmt: skip
