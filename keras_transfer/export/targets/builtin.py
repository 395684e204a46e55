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
    sources="all",
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
    precisions=("int8", "int16x8", "all-integer"),
    rules=rules.ETHOS_U,
    package="ethos-u-vela",
    oldest="5.0",
    extra="ethos-u",
    factory="keras_transfer.export.targets.ethos_u:EthosU",
)
OPENVINO = TargetSpec(
    name="openvino",
    summary="Intel processors, by OpenVINO.",
    precisions=PRECISIONS,
    rules=rules.OPENVINO,
    sources="agreeing",
    package="openvino",
    oldest="2026.0",
    extra="openvino",
    factory="keras_transfer.export.targets.openvino:OpenVINO",
)
ONNX = TargetSpec(
    name="onnx",
    summary="ONNX Runtime, converted by tf2onnx.",
    precisions=("float32", "float16", "dynamic", "int8", "all-integer"),
    rules=rules.ONNX,
    sources="agreeing",
    package="tf2onnx",
    oldest="1.17",
    beside=(("onnxruntime", "1.20"),),
    extra="onnx",
    factory="keras_transfer.export.targets.onnx:ONNX",
)
EDGETPU = TargetSpec(
    name="edgetpu",
    summary="Coral's Edge TPU, by the published rules of its compiler.",
    precisions=("int8",),
    rules=rules.EDGETPU,
    all_integer=True,
    factory="keras_transfer.export.targets.edgetpu:EdgeTPU",
)
