"""SavedModel: written with named signatures. Run: :mod:`keras_transfer.inference.saved_model_runner`."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from keras_transfer.errors import ExportError
from keras_transfer.export import encoded
from keras_transfer.export.parity import Judge
from keras_transfer.inference.keras_runner import infer
from keras_transfer.inference.saved_model_runner import BYTES, ENCODED, OUTPUT, SIGNATURE
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.quiet import captured_output

PIXELS = "classify_pixels"
INPUT, NUMBERS, CLASSES = "image", "inputs", "classes"


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
