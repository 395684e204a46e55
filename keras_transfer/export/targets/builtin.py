"""The targets of this package. Facts only."""

from __future__ import annotations

from keras_transfer.export.targets import rules
from keras_transfer.export.targets.specs import TargetSpec
from keras_transfer.records.export_options import PRECISIONS

LITERT = TargetSpec(
    name="litert",
    summary="Phones and boards with an operating system: the .tflite itself.",
    precisions=PRECISIONS,
    rules=rules.LITERT,
    package="ai-edge-litert",
    factory="keras_transfer.export.targets.litert:LiteRT",
)
MICROCONTROLLER = TargetSpec(
    name="microcontroller",
    summary="TFLite Micro: C++ sources of an all-integer model, with a program that replays the golden images.",
    precisions=("int8",),
    rules=rules.MICRO,
    all_integer=True,
    package="tflite-micro",
    extra="micro",
    factory="keras_transfer.export.targets.microcontroller:Microcontroller",
)
ETHOS_U = TargetSpec(
    name="ethos-u",
    summary="Arm's Ethos-U NPUs beside a microcontroller, compiled by Vela.",
    precisions=("int8", "int16x8"),
    rules=rules.ETHOS_U,
    package="ethos-u-vela",
    extra="ethos-u",
)
OPENVINO = TargetSpec(
    name="openvino",
    summary="Intel processors, by OpenVINO.",
    precisions=PRECISIONS,
    rules=rules.OPENVINO,
    package="openvino",
    extra="openvino",
)
ONNX = TargetSpec(
    name="onnx",
    summary="ONNX Runtime, converted by tf2onnx.",
    precisions=("float32", "float16", "dynamic", "int8"),
    rules=rules.ONNX,
    package="tf2onnx",
    extra="onnx",
)
EDGETPU = TargetSpec(
    name="edgetpu",
    summary="Coral's Edge TPU, by the published rules of its compiler.",
    precisions=("int8",),
    rules=rules.EDGETPU,
    all_integer=True,
)
