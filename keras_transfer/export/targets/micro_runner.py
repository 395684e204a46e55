"""TFLite Micro's reference kernels as a runner."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_transfer.errors import ExportError
from keras_transfer.export.targets import micro_process
from keras_transfer.litert import LiteRTModel, restore, store

AMPLE = 64 << 20
"""Bytes of an arena in which any model for a microcontroller runs."""
PATIENCE = 600
"""Seconds after which a run is given up."""


@dataclass(frozen=True)
class Arena:
    """Memory that TFLite Micro took, in bytes, on this machine.

    Attributes:
        total: the least arena the model runs in.
        activations: of it, what the layers' results need (the "head").
        kept: of it, what is kept from the start: tensors' and operators' records (the "tail"). Pointers have 8 bytes
            here and 4 on a microcontroller.
    """

    total: int
    activations: int
    kept: int


class MicroRunner:
    """A ``.tflite`` in TFLite Micro (reference kernels), each call a process of its own.

    ``arena`` is what the last call took.

    Raises ``ExportError`` when TFLite Micro refuses the model; its own words are in the message.
    """

    name = "tflite-micro"

    def __init__(self, path: Path) -> None:
        model = LiteRTModel(path)
        self._path = path
        self.inputs, self.outputs = model.inputs, model.outputs
        self.input_size: tuple[int, int] | None = model.input_size if len(self.inputs[0].shape) == 4 else None
        self.arena: Arena | None = None

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, ...)``, dequantized."""
        if not len(batch):
            return np.zeros((0, *self.outputs[0].shape[1:]), np.float32)
        return restore(self.raw(batch), self.outputs[0])

    def raw(self, batch: np.ndarray) -> np.ndarray:
        """As :meth:`predict`, in the number type of the model's output."""
        with tempfile.TemporaryDirectory() as folder:
            pixels, answers = Path(folder) / "pixels.npy", Path(folder) / "answers.npy"
            np.save(pixels, store(batch, self.inputs[0]))
            command = [
                sys.executable,
                micro_process.__file__,
                str(self._path),
                str(pixels),
                str(answers),
                str(AMPLE),
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
            except subprocess.TimeoutExpired as late:
                raise ExportError(
                    f"TFLite Micro did not answer for {self._path.name} in {PATIENCE} s. Try a smaller model."
                ) from late
            if done.returncode or not answers.is_file():
                raise ExportError(f"TFLite Micro refuses {self._path.name}: {_words(done)}")
            self.arena = _arena(done.stderr)
            return np.load(answers)

    def close(self) -> None:
        """It holds nothing between two calls."""


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """What TFLite Micro said before Python did."""
    lines = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "Traceback"))
    ]
    return " ".join(lines[:2]) or f"it ended without a word (exit code {done.returncode})."


def _arena(said: str) -> Arena:
    found = {
        kind: int(size) for kind, size in re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", said)
    }
    if set(found) != {"total", "head", "tail"}:
        raise ExportError(f"This version of tflite-micro does not tell its memory: {said.strip()[:200]}")
    return Arena(found["total"], found["head"], found["tail"])
