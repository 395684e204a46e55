"""LiteRT: one interpreter on all cores, or one for each core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from keras_transfer.data.threads import default_threads
from keras_transfer.errors import UsageError
from keras_transfer.litert import LiteRTModel, best_batch

_COPIES_BYTES = 400_000_000  # of weights, in all interpreters together


class LiteRTRunner:
    """A ``.tflite`` model of one input and one output, on all cores or ``threads`` of them.

    Args:
        content: the file's path, or its bytes.
        threads: cores to use.

    Raises:
        UsageError: missing, or not one image input (or vector) and one output.
        ExportError: damaged.
    """

    name = "litert"

    def __init__(self, content: bytes | Path, threads: int | None = None) -> None:
        self._model = LiteRTModel(content, threads=threads)
        ranks = [len(info.shape) for info in self._model.inputs]
        if ranks not in ([4], [2]) or len(self._model.outputs) != 1:  # 2: a vector that an image is made from
            shapes = [info.shape for info in self._model.inputs]
            what = content if isinstance(content, Path) else "The model"
            raise UsageError(
                f"{what} takes {shapes} and gives {len(self._model.outputs)} outputs; one input (B, H, W, 3) and one "
                "output are expected."
            )
        size = self._model.input_size if ranks == [4] else (-1, -1)
        self.input_size: tuple[int, int] | None = None if -1 in size else size
        self.inputs, self.outputs = self._model.inputs, self._model.outputs

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, C)``, dequantised."""
        return self._model.predict(batch)

    def close(self) -> None:
        """Let go of the interpreter."""
        del self._model


class ParallelLiteRTRunner:
    """A ``.tflite`` model on all CPU cores: one single-threaded interpreter a core, fed a few images at a time.

    For many images. Against one interpreter with all threads and batches of 8 this needs a tenth less processor time
    (an image's activations stay in the core's own cache) and does not wait for the slowest thread of every layer. A
    model too large for a copy a core gets fewer interpreters with more threads each.

    Attributes:
        content: the file's bytes.
        copies: interpreters, each for a thread of the caller's.
        step: images that one of them computes together.
    """

    name = "litert"

    def __init__(self, content: bytes) -> None:
        self.content = content
        cores = default_threads()
        self.copies = max(1, min(cores, _COPIES_BYTES // len(content)))
        runners = [LiteRTRunner(content, threads=cores // self.copies) for _ in range(self.copies)]
        self.input_size = runners[0].input_size
        self.inputs, self.outputs = runners[0].inputs, runners[0].outputs
        self.step = best_batch(*(self.input_size or (0, 0)))
        self._free: SimpleQueue[LiteRTRunner] = SimpleQueue()
        for runner in runners:
            self._free.put(runner)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """As :meth:`LiteRTRunner.predict`, in the calling thread, by an interpreter that is free."""
        return np.concatenate([self.step_of(chunk) for chunk in chunks(batch, self.step)])

    def step_of(self, chunk: np.ndarray) -> np.ndarray:
        """The same for at most :attr:`step` images."""
        runner = self._free.get()
        try:
            return runner.predict(chunk)
        finally:
            self._free.put(runner)

    def close(self) -> None:
        """Let go of the interpreters."""
        while not self._free.empty():
            self._free.get().close()


def chunks(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """``items`` in pieces of at most ``size``, in order."""
    return (items[start : start + size] for start in range(0, len(items), size))
