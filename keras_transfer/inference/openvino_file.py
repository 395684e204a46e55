"""OpenVINO on the CPU with a file as it is: an IR, or a ``.tflite`` in any precision."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from keras_transfer.errors import ExportError
from keras_transfer.inference.edges import KEY, edges_text, in_steps, is_apart, require_one_image, with_edges
from keras_transfer.inference.openvino_runner import FIRST, import_openvino, words
from keras_transfer.litert import LiteRTModel, TensorInfo

APART = {"LP_TRANSFORMS_MODE": False}
"""The setting for files whose layers must not be fused with their quantizations."""


class OpenVINOFileRunner:
    """A model of one input ``(B, H, W, 3)`` (or a vector) and one output, as its file says: number types, batch.

    Safe to share between threads: calls are serialised, each on all cores. It computes in float32 where the file does:
    by itself OpenVINO takes bfloat16 where the processor has AMX.

    Args:
        path: an ``.xml`` with its ``.bin``, or a ``.tflite``.
        threads: cores to use; all of them when not given.

    Raises:
        UsageError: other inputs or outputs.
        ExportError: openvino is missing, or refuses the file.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        openvino = import_openvino()
        self._path = path
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
        }
        try:
            core = openvino.Core()
            model = read_file(core, path)
            if is_apart(edges_in(model)):
                settings |= APART
            inputs = [_info(one, "image") for one in model.inputs]
            outputs = [_info(one, "output") for one in model.outputs]
            self.input_size = require_one_image(path, inputs, outputs)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExportError(
                f"OpenVINO {openvino.__version__} refuses {path.name}: {words(error)}"
            ) from error
        source, target = with_edges(edges_in(model), inputs[0], outputs[0])
        self.inputs, self.outputs = (source,), (target,)
        self._lock = Lock()
        with FIRST:
            self.predict(np.zeros((1, *(max(size, 1) for size in source.shape[1:])), source.dtype))

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, ...)``, dequantized."""
        return in_steps(batch, self.inputs[0], self.outputs[0], self._run, str(self._path))

    def close(self) -> None:
        """Let go of the request and with it of the network."""
        del self._request

    def _run(self, chunk: np.ndarray) -> np.ndarray:
        with self._lock:
            return np.array(self._request.infer([chunk])[0])


def read_file(core: Any, path: Path, *, apart: bool = False) -> Any:
    """A file as OpenVINO's model, which knows the quantization of a ``.tflite``'s edges (:data:`KEY`).

    ``apart``: of a ``.tflite``, see :func:`keras_transfer.inference.edges.is_apart`.
    """
    model = core.read_model(path, config={"ENABLE_MMAP": False})
    if path.suffix == ".tflite":
        edges = LiteRTModel(path)
        model.set_rt_info(edges_text(edges.inputs, edges.outputs, apart=apart), [KEY])
    return model


def edges_in(model: Any) -> str:
    """What the model says of its edges' quantization; empty where it says nothing."""
    return str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""


def _info(edge: Any, name: str) -> TensorInfo:
    shape = [size.get_length() if size.is_static else None for size in edge.partial_shape]
    return TensorInfo.plain(name, shape, edge.element_type.to_dtype())
