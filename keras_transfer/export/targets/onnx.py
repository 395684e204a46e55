"""ONNX: the ``.tflite`` converted by tf2onnx, proven in ONNX Runtime."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from keras_transfer.errors import ExportError
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.inference.edges import KEY, edges_text
from keras_transfer.inference.onnx_runner import APART, ONNXRunner
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
        """Convert the file; it says so where ONNX Runtime is far off unless it leaves integers unfused."""
        name = f"{source.path.stem}.onnx"
        model, path = convert(source.path), source.own("onnx") / name
        off = {False: self._asked(model, path, source, apart=False)}
        if not source.near(off[False]):
            off[True] = self._asked(model, path, source, apart=True)
        apart = min(off, key=lambda one: off[one])
        size = path.write_bytes(with_edges(model, source.path, apart=apart))
        settings = {"session_config": "=".join(APART)} if apart else {}
        return Made(
            files=(f"{TARGETS}/onnx/{name}",),
            model=f"{TARGETS}/onnx/{name}",
            measured={"file_bytes": size, "opset": OPSET, **settings},
            versions={package: version(package) for package in ("tf2onnx", "onnx", "onnxruntime")},
        )

    def _asked(self, model: Any, path: Path, source: Source, apart: bool) -> float:
        path.write_bytes(with_edges(model, source.path, apart=apart))
        runner = self.open(path)
        off = source.distance(runner.predict(source.pixels))
        runner.close()
        return off

    def open(self, path: Path) -> ONNXRunner:
        """ONNX Runtime on the CPU."""
        return ONNXRunner(path)


def convert(path: Path) -> Any:
    """A ``.tflite`` as ONNX's model.

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
    return model


def with_edges(model: Any, path: Path, *, apart: bool) -> bytes:
    """The content of an ``.onnx`` file that knows the quantization of the edges of the ``.tflite`` at ``path``."""
    edges = LiteRTModel(path)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=edges_text(edges.inputs, edges.outputs, apart=apart))
    return model.SerializeToString()
