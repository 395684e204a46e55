"""OpenVINO on the CPU: a converted network, one stream of work for each core."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from keras_transfer.data.threads import default_threads
from keras_transfer.errors import ExportError, UsageError
from keras_transfer.inference.keras_runner import check_shape
from keras_transfer.inference.litert_runner import chunks
from keras_transfer.litert import TensorInfo, best_batch

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
FIRST = Lock()
"""Held while a compiled network is asked for the first time. openvino 2026.4 fills tables of its Python binding in the
first calls of a process; two threads that do so at once wait for each other for ever."""


class OpenVINORunner:
    """A float32 ``.tflite`` network of one image input and one output, for many images.

    Safe to share between threads: each call takes a request that is free.

    Args:
        content: the file's bytes.
        precision: ``float32`` or ``bfloat16``. It is always told to OpenVINO, which by itself computes in bfloat16
            where the processor has AMX.

    Attributes:
        copies: requests that are computed side by side, each for a thread of the caller's.
        step: images that one of them computes together.
        precision: as given.

    Raises:
        UsageError: bfloat16, and the processor does not have it.
        ExportError: OpenVINO cannot be imported, or cannot read or compile the network.
    """

    name = "openvino"

    def __init__(self, content: bytes, precision: str = "float32") -> None:
        openvino = import_openvino()
        if precision == "bfloat16":
            require_bfloat16()
        self.precision = precision
        self.copies = default_threads()
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": self.copies,
            "INFERENCE_NUM_THREADS": self.copies,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "ENABLE_CPU_PINNING": False,  # the threads that decode images need the cores, too
        }
        try:
            core = openvino.Core()
            model = _read(core, content)
            (source,), (target,) = model.inputs, model.outputs
            height, width, channels = (side.get_length() for side in list(source.partial_shape)[1:])
            self.step = best_batch(height, width)
            model.reshape([self.step, height, width, channels])
            answer = list(target.shape)[1:]
            compiled = core.compile_model(model, "CPU", settings)
            requests = [compiled.create_infer_request() for _ in range(self.copies)]
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExportError(
                f"OpenVINO {openvino.__version__} cannot run the network: {words(error)}"
            ) from error
        self.input_size: tuple[int, int] | None = (height, width)
        self.inputs = (TensorInfo.plain("image", (None, height, width, channels), "float32"),)
        self.outputs = (TensorInfo.plain("output", (None, *answer), "float32"),)
        self._free: SimpleQueue[Any] = SimpleQueue()
        for request in requests:
            self._free.put(request)
        with FIRST:
            self.step_of(np.zeros((1, height, width, channels), np.float32))

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, ...)``, in the calling thread.

        Raises ``UsageError`` when the shape does not fit.
        """
        check_shape(batch, (None, *self.inputs[0].shape[1:]), "The network")
        nothing = np.zeros((0, *self.outputs[0].shape[1:]), np.float32)
        return np.concatenate([nothing, *(self.step_of(chunk) for chunk in chunks(batch, self.step))])

    def step_of(self, chunk: np.ndarray) -> np.ndarray:
        """The same for 1 to :attr:`step` images."""
        pixels = np.zeros((self.step, *chunk.shape[1:]), np.float32)  # the network is compiled for so many
        pixels[: len(chunk)] = chunk
        request = self._free.get()
        try:
            return request.infer([pixels], share_inputs=True)[0][: len(chunk)]
        finally:
            self._free.put(request)

    def close(self) -> None:
        """Let go of the requests and with them of the network."""
        while not self._free.empty():
            self._free.get()


def require_bfloat16() -> None:
    """Raise ``UsageError`` where the processor does not compute in bfloat16: OpenVINO would take float32 in silence."""
    core = import_openvino().Core()
    capabilities: Sequence[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        raise UsageError(
            f"--engine-precision bfloat16: this processor ({core.get_property('CPU', 'FULL_DEVICE_NAME')}) does not "
            f"compute in bfloat16 (OpenVINO names {', '.join(capabilities)}). Leave the precision out."
        )


def import_openvino() -> Any:
    """The package. Raises ``ExportError`` where it cannot be imported."""
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise ExportError(
            f"openvino cannot be imported ({words(error)}): pip install 'keras-transfer[openvino]'"
        ) from error
    return openvino


def _read(core: Any, content: bytes) -> Any:
    """The network; OpenVINO reads a ``.tflite`` from a file alone, and keeps nothing of it here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(content)
        return core.read_model(path, config={"ENABLE_MMAP": False})


def words(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
