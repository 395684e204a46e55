"""SavedModel: written with named signatures, and run the way someone without this package would run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export import encoded
from keras_transfer.export.parity import Judge
from keras_transfer.litert import TensorInfo
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.quiet import captured_output

SIGNATURE, PIXELS, BYTES = "serving_default", "classify_pixels", "classify_bytes"
INPUT, NUMBERS, ENCODED = "image", "inputs", "encoded"
OUTPUT, CLASSES = "probabilities", "classes"
BATCH = 32


def save(model: keras.Model, path: Path, judge: Judge, preprocessing: Preprocessing) -> None:
    """Write a SavedModel that ``tf.saved_model.load`` runs with no Python of ours or of Keras.

    Every signature gives ``probabilities`` float32 ``(B, C)`` and ``classes`` string ``(B,)``, the name of the most
    probable one; a model that is no classifier gives its outputs alone, named by their kind. Inference
    mode: dropout and augmentation layers do nothing.

    - ``serving_default``: ``image`` float32 ``(B, H, W, 3)``, RGB in [0, 255], at the model's size.
    - ``classify_pixels``: ``image`` uint8, otherwise the same.
    A model that generates has ``serving_default`` alone, which takes ``inputs``, float32 ``(B, ...)``.

    - ``classify_bytes``: ``encoded`` string ``(B,)``, JPEG, PNG, GIF or BMP files of any size; missing
      where the contract cannot be kept inside a graph (:func:`keras_transfer.export.encoded.supported`).

    Args:
        model: pixels to probabilities, one input and one output.
        path: the folder to make.
        judge: what the outputs are, and their names.
        preprocessing: what ``classify_bytes`` does to an image.

    Raises:
        ExportError: Keras or TensorFlow could not trace or write the model.
    """

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = infer(model, image)
        if not judge.classifies:
            return {judge.kind: outputs}
        return {
            OUTPUT: outputs,
            CLASSES: tf.gather(tf.constant(judge.names), tf.argmax(outputs, axis=-1)),
        }

    def from_pixels(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(tf.cast(image, tf.float32))

    def from_bytes(encoded_images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(encoded.pixels_of(encoded_images, preprocessing))

    shape = model.inputs[0].shape
    failure: Exception | None = None
    with captured_output():
        try:
            # keras.export.ExportArchive would do, but stores every variable twice (seen in Keras 3.15).
            module = tf.Module()
            module.weights = [variable.value for variable in model.variables]
            name = INPUT if judge.draw is None else NUMBERS
            module.serve = tf.function(answer, input_signature=[tf.TensorSpec(shape, tf.float32, name)])
            signatures = {SIGNATURE: module.serve}
            if judge.draw is None:
                pixels = tf.TensorSpec(shape, tf.uint8, INPUT)
                module.pixels = tf.function(from_pixels, input_signature=[pixels])
                signatures[PIXELS] = module.pixels
            if judge.draw is None and encoded.supported(preprocessing):
                files = tf.TensorSpec((None,), tf.string, ENCODED)
                module.bytes = tf.function(from_bytes, input_signature=[files])
                signatures[BYTES] = module.bytes
            tf.saved_model.save(module, str(path), signatures=signatures)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 (tracing runs any layer's code; all failures are reported)
            failure = error
    if failure is not None:
        raise ExportError(
            f"The model {model.name!r} cannot be written as a SavedModel: {failure}"
        ) from failure


class SavedModelPredictor:
    """A SavedModel folder, ready to run.

    Args:
        path: the folder that holds ``saved_model.pb``.

    Attributes:
        input_size: height and width in pixels; None when the signature leaves them free.

    Raises:
        UsageError: there is no SavedModel there, or no signature from one array to one array.
        ExportError: it is damaged.
    """

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


def infer(model: keras.Model, image: tf.Tensor) -> tf.Tensor:
    """Call a model of one input in inference mode, with the input packed as the model was built (list, dict, bare)."""
    if isinstance(model, keras.Sequential):
        return model(image, training=False)
    output = model(keras.tree.pack_sequence_as(model.input, [image]), training=False)
    return keras.tree.flatten(output)[0]


def check_shape(batch: np.ndarray, shape: tuple[int | None, ...], name: str) -> None:
    """Raise ``UsageError`` unless ``batch`` fits ``shape`` (None: any size; (): unknown)."""
    if shape and (
        batch.ndim != len(shape)
        or any(want not in (None, got) for want, got in zip(shape[1:], batch.shape[1:], strict=True))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UsageError(f"{name} takes arrays of shape ({wanted}), not {batch.shape}. Resize first.")
