"""ONNX Runtime on the CPU, with its own settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import ExportError
from keras_transfer.inference.edges import KEY, in_steps, is_apart, require_one_image, with_edges
from keras_transfer.litert import TensorInfo

TYPES = {"float": "float32", "uint8": "uint8", "int8": "int8", "int16": "int16", "float16": "float16"}
APART = ("session.disable_quant_qdq", "1")
"""The session's entry for files whose layers must not be fused with their quantizations."""
INSTALL = "pip install 'keras-transfer[onnx]'"


class ONNXRunner:
    """An ``.onnx`` model of one input ``(B, H, W, 3)`` (or a vector) and one output.

    Args:
        path: the file.
        threads: cores to use; all of them when not given.

    Raises:
        UsageError: other inputs or outputs.
        ExportError: onnxruntime is missing, or refuses the file.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._path, self._threads = path, threads or os.cpu_count() or 1
        self._session = self._opened(apart=False)
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY, "")
        if is_apart(text):
            self._session = self._opened(apart=True)
        inputs = [_info(one) for one in self._session.get_inputs()]
        outputs = [_info(one) for one in self._session.get_outputs()]
        self.input_size = require_one_image(path, inputs, outputs)
        source, target = with_edges(text, inputs[0], outputs[0])
        self.inputs, self.outputs = (source,), (target,)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, ...)``, dequantized."""
        return in_steps(batch, self.inputs[0], self.outputs[0], self._run, str(self._path))

    def close(self) -> None:
        """Let go of the session."""
        del self._session

    def _opened(self, apart: bool) -> Any:
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4  # what is wrong comes as an exception
        if apart:
            options.add_session_config_entry(*APART)
        try:
            return runtime.InferenceSession(self._path.read_bytes(), options, ["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(
                f"ONNX Runtime {runtime.__version__} refuses {self._path.name}: {_words(error)}"
            ) from error

    def _run(self, chunk: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(None, {self.inputs[0].name: chunk})[0]
        except Exception as error:
            raise ExportError(f"{self._path.name} failed while running: {_words(error)}") from error


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            f"onnxruntime is missing or does not fit this Python ({error}): {INSTALL}"
        ) from error
    return onnxruntime


def _info(edge: Any) -> TensorInfo:
    kind = edge.type.removeprefix("tensor(").removesuffix(")")
    if kind not in TYPES:
        raise ExportError(f"{edge.name} is {edge.type}; one of {', '.join(TYPES)} is expected.")
    shape = [size if isinstance(size, int) else None for size in edge.shape]
    return TensorInfo.plain(edge.name, shape, TYPES[kind])


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
