"""ONNX: the ``.tflite`` converted by tf2onnx, proven in ONNX Runtime."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from keras_transfer.errors import ExportError
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.inference.edges import KEY, edges_text
from keras_transfer.inference.onnx_runner import ONNXRunner
from keras_transfer.litert import LiteRTModel
from keras_transfer.quiet import captured_output
from keras_transfer.records.layout import TARGETS

OPSET = 17
"""Of the operators; what :data:`keras_transfer.export.targets.rules.ONNX` was asked with."""


class ONNX(Target):
    """An ``.onnx`` file for each precision; it computes on the CPU with ONNX Runtime's own settings."""

    allowed = None
    compared = True

    def make(self, source: Source) -> Made:
        """Convert the file."""
        name = f"{TARGETS}/onnx/{source.path.stem}.onnx"
        content = convert(source.path)
        (source.own("onnx") / f"{source.path.stem}.onnx").write_bytes(content)
        return Made(
            files=(name,),
            model=name,
            measured={"file_bytes": len(content), "opset": OPSET},
            versions={package: version(package) for package in ("tf2onnx", "onnx", "onnxruntime")},
        )

    def open(self, path: Path) -> ONNXRunner:
        """ONNX Runtime on the CPU."""
        return ONNXRunner(path)


def convert(path: Path) -> bytes:
    """A ``.tflite`` as ONNX, which knows the quantization of its input and output.

    Raises ``ExportError`` when tf2onnx fails; its own words are in the message.
    """
    failure: Exception | None = None
    with captured_output() as captured:
        try:
            from tf2onnx.convert import from_tflite

            model, _ = from_tflite(str(path), opset=OPSET)
        except Exception as error:  # noqa: BLE001 (a converter raises anything)
            failure = error
    if failure is not None:
        said = " ".join(str(failure).split()) or type(failure).__name__
        last = captured.text.strip().splitlines()[-1:]
        raise ExportError(f"tf2onnx cannot convert {path.name}: {' '.join([said, *last])[:500]}") from failure
    edges = LiteRTModel(path)
    model.metadata_props.add(key=KEY, value=edges_text(edges.inputs, edges.outputs))
    return model.SerializeToString()
