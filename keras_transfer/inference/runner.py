"""The protocol of everything that runs a model. A new runtime is one class that keeps it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from keras_transfer.litert import TensorInfo


class Runner(Protocol):
    """A model with one input and one output, in the runtime it is made for.

    Attributes:
        name: of the runtime: ``keras``, ``saved-model``, ``litert``, ``onnxruntime``,
            ``openvino`` ...
        input_size: height and width in pixels; None where they are free, or where it takes no image.
        inputs: what it takes: one tensor.
        outputs: what it gives: one tensor.
    """

    name: str

    @property
    def input_size(self) -> tuple[int, int] | None: ...

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, ...)``, for any B.

        Of a model that generates: its inputs float32 ``(B, ...)``. Raises ``UsageError`` for another shape.
        """

    def close(self) -> None:
        """Give back what it holds; it answers no more."""
