"""Every kind of model file behind one call: ``load_runtime(path).predict(pixels)``.

Each kind runs in its own runtime (Keras, TensorFlow's SavedModel loader, LiteRT): what export
proves, and what ``evaluate`` and ``predict`` use, is what the artefact does where it is deployed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export.saved_model import BATCH, SavedModelPredictor, check_shape, infer
from keras_transfer.litert import LiteRTModel, TensorInfo
from keras_transfer.quiet import captured_output


class Runtime(Protocol):
    """A model that can be asked. ``input_size``: height and width in pixels, None when they are free."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, None when they are free."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What it takes: one tensor."""

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What it gives: one tensor."""

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, C)``."""


class KerasRuntime:
    """A Keras model in inference mode, traced once.

    Twice as fast as ``keras.Model.predict`` on a CPU, and memory does not grow from call to call (keras#13118).

    Attributes:
        model: the Keras model.

    Raises:
        UsageError: the model has several inputs or outputs, or was never built.
    """

    def __init__(self, model: keras.Model) -> None:
        inputs: list = getattr(model, "inputs", None) or []
        outputs: list = getattr(model, "outputs", None) or []
        if len(inputs) != 1 or len(outputs) != 1:
            raise UsageError(
                f"The Keras model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is "
                "expected (a Functional or a built Sequential model)."
            )
        self.model = model
        self._shape = tuple(inputs[0].shape)
        self._columns = outputs[0].shape[-1]
        size = self._shape[1:3]
        self.input_size: tuple[int, int] | None = None if len(size) != 2 or None in size else size
        self.inputs = (TensorInfo.plain(inputs[0].name, inputs[0].shape, "float32"),)
        self.outputs = (TensorInfo.plain(outputs[0].name, outputs[0].shape, "float32"),)
        signature = tf.TensorSpec(self._shape, tf.float32)
        self._call = tf.function(lambda image: infer(model, image), input_signature=[signature])

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, C)``.

        Raises ``UsageError`` when the shape does not fit.
        """
        check_shape(batch, self._shape, f"The Keras model {self.model.name!r}")
        parts = [
            self._call(tf.constant(batch[start : start + BATCH].astype(np.float32, copy=False))).numpy()
            for start in range(0, len(batch), BATCH)
        ]
        if not parts:
            return np.zeros((0, self._columns or 0), np.float32)
        return np.concatenate(parts).astype(np.float32, copy=False)


class LiteRTRuntime:
    """A ``.tflite`` file of one image input and one output, on all cores or ``threads`` of them.

    Raises:
        UsageError: missing, or not one image input and one output.
        ExportError: damaged.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._model = LiteRTModel(path, threads)
        ranks = [len(info.shape) for info in self._model.inputs]
        if ranks not in ([4], [2]) or len(self._model.outputs) != 1:  # 2: a vector that an image is made from
            shapes = [info.shape for info in self._model.inputs]
            raise UsageError(
                f"{path} takes {shapes} and gives {len(self._model.outputs)} outputs; one input (B, H, W, 3) and one "
                "output are expected."
            )
        size = self._model.input_size if ranks == [4] else (-1, -1)
        self.input_size: tuple[int, int] | None = None if -1 in size else size
        self.inputs, self.outputs = self._model.inputs, self._model.outputs

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """``(B, H, W, 3)`` uint8 or float32, RGB in [0, 255] -> float32 ``(B, C)``, dequantised."""
        return self._model.predict(batch)


def load_runtime(path: str | os.PathLike[str]) -> Runtime:
    """Open a model file in the runtime it is made for.

    Args:
        path: a ``.keras`` or ``.h5`` file (loads with Keras's safe mode: no code inside is run), a SavedModel folder,
            or a ``.tflite`` file.

    Raises:
        UsageError: nothing is there, it is another kind of file, or not a model of one image input and one output.
        ExportError: it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(
            f"There is no model at {path}. Expected a .keras or .h5 file, a SavedModel folder or a .tflite file."
        )
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return SavedModelPredictor(path)
        inside = sorted(
            p.name for p in path.iterdir() if p.suffix in (".keras", ".tflite") or p.name == "saved_model"
        )
        hint = f" Name one of the models inside: {', '.join(inside)}." if inside else ""
        raise UsageError(f"The folder {path} is not a SavedModel: it holds no saved_model.pb.{hint}")
    if path.suffix == ".tflite":
        return LiteRTRuntime(path)
    if path.suffix == ".keras":
        return KerasRuntime(load_keras(path))
    if path.suffix in (".h5", ".hdf5"):
        from keras_transfer.backbones.own import read_model  # files of Keras 2 are translated there

        return KerasRuntime(read_model(path))
    raise UsageError(
        f"{path} ends in {path.suffix or 'no suffix'!r}; expected a .keras or .h5 file, a SavedModel folder or a "
        ".tflite file."
    )


def save_keras(model: keras.Model, path: Path) -> None:
    """Write a ``.keras`` file of the model alone, without an optimizer's state.

    Raises ``ExportError`` when Keras cannot write it, or could not read it again without code that is not Keras's.
    """
    failure: Exception | None = None
    with captured_output():
        try:
            keras.Model(model.inputs, model.outputs, name=model.name).save(path)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 (custom layers raise anything)
            failure = error
    if failure is not None:
        raise ExportError(
            f"The model {model.name!r} cannot be written as a .keras file: {failure}. Give its custom layers a "
            "get_config(), or leave that format out."
        ) from failure


def load_keras(path: Path) -> keras.Model:
    """The Keras model in a ``.keras`` file, without running code that is in it; ``ExportError`` where it cannot."""
    failure: Exception | None = None
    with captured_output():
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001 (Keras raises many types for a damaged file)
            failure = error
    reason = " ".join(str(failure).split())[:300] or type(failure).__name__
    raise ExportError(
        f"Cannot load the Keras model {path}: {reason}. It is damaged, or holds custom layers or code. "
        "(Exporting your own layers? Leave out the format 'keras'.)"
    ) from failure
