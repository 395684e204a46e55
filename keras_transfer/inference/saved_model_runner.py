"""SavedModel, run the way someone without this package would run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.inference.keras_runner import BATCH, check_shape
from keras_transfer.litert import TensorInfo
from keras_transfer.quiet import captured_output

SIGNATURE, BYTES = "serving_default", "classify_bytes"
ENCODED, OUTPUT = "encoded", "probabilities"


class SavedModelRunner:
    """A SavedModel folder, ready to run.

    Args:
        path: the folder that holds ``saved_model.pb``.

    Attributes:
        input_size: height and width in pixels; None when the signature leaves them free.

    Raises:
        UsageError: there is no SavedModel there, or no signature from one array to one array.
        ExportError: it is damaged.
    """

    name = "saved-model"

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        if not (self._path / "saved_model.pb").is_file():
            raise UsageError(f"{self._path} is not a SavedModel: it holds no saved_model.pb.")
        failure: Exception | None = None
        with captured_output():
            try:
                self._loaded = tf.saved_model.load(
                    str(self._path)
                )  # its variables live as long as this object
            except Exception as error:  # noqa: BLE001 (a damaged file fails anywhere in TensorFlow)
                failure = error
        if failure is not None:
            reason = (str(failure).splitlines() or [type(failure).__name__])[0]
            raise ExportError(
                f"Cannot read the SavedModel {self._path}: {reason}. It is damaged or incomplete; export it again."
            ) from failure
        if SIGNATURE not in self._loaded.signatures:
            known = ", ".join(self._loaded.signatures) or "none"
            raise UsageError(f"{self._path} has no signature {SIGNATURE!r}; it has: {known}.")
        self._signature = self._loaded.signatures[SIGNATURE]
        inputs = self._signature.structured_input_signature[1]
        outputs = self._signature.structured_outputs
        if len(inputs) != 1 or (len(outputs) != 1 and OUTPUT not in outputs):
            raise UsageError(
                f"{self._path} takes {', '.join(inputs)} and gives {', '.join(outputs)}; one image input and one "
                f"output (or one named {OUTPUT!r}) are expected."
            )
        self._input, spec = next(iter(inputs.items()))
        self._output = OUTPUT if OUTPUT in outputs else next(iter(outputs))
        self._dtype = spec.dtype.as_numpy_dtype
        self._shape = tuple(spec.shape) if spec.shape.rank is not None else ()
        size = self._shape[1:3]
        self.input_size: tuple[int, int] | None = (
            None if len(size) != 2 or None in size else (size[0], size[1])
        )
        answer = outputs[self._output]
        self.inputs = (TensorInfo.plain(self._input, self._shape, spec.dtype.name),)
        self.outputs = (
            TensorInfo.plain(self._output, answer.shape if answer.shape.rank else (), answer.dtype.name),
        )

    def predict_encoded(self, images: Sequence[bytes]) -> list[list[float]] | None:
        """Probabilities for encoded images, from ``classify_bytes``; None when there is no such signature."""
        if BYTES not in self._loaded.signatures:
            return None
        answer = self._loaded.signatures[BYTES](**{ENCODED: tf.constant(list(images))})
        return answer[self._output].numpy().tolist()

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Run the model.

        Args:
            batch: ``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255].

        Returns:
            float32 ``(B, C)``.

        Raises:
            UsageError: the shape does not fit the signature.
        """
        check_shape(batch, self._shape, str(self._path))
        parts = []
        for start in range(0, len(batch), BATCH):
            pixels = tf.constant(batch[start : start + BATCH].astype(self._dtype, copy=False))
            parts.append(self._signature(**{self._input: pixels})[self._output].numpy())
        if not parts:
            shape = self._signature.structured_outputs[self._output].shape[1:]
            return np.zeros((0, *(int(size or 0) for size in shape)), np.float32)
        return np.concatenate(parts).astype(np.float32, copy=False)

    def close(self) -> None:
        """Let go of the loaded model."""
        del self._signature, self._loaded
