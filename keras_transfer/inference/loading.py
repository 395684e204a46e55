"""Every kind of model file behind one call: ``load_runner(path).predict(pixels)``.

Each kind runs in its own runtime (Keras, TensorFlow's SavedModel loader, LiteRT, ONNX Runtime, OpenVINO): what export
proves, and what ``evaluate`` and ``predict`` use, is what the artefact does where it is deployed.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.inference.keras_runner import KerasRunner
from keras_transfer.inference.litert_runner import LiteRTRunner
from keras_transfer.inference.onnx_runner import ONNXRunner
from keras_transfer.inference.openvino_file import OpenVINOFileRunner
from keras_transfer.inference.runner import Runner
from keras_transfer.inference.saved_model_runner import SavedModelRunner
from keras_transfer.quiet import captured_output

EXPECTED = "a .keras or .h5 file, a SavedModel folder, a .tflite or .onnx file, or an OpenVINO .xml"


def load_runner(path: str | os.PathLike[str]) -> Runner:
    """Open a model file in the runtime it is made for.

    Args:
        path: a ``.keras`` or ``.h5`` file (loads with Keras's safe mode: no code inside is run), a SavedModel folder,
            a ``.tflite`` or ``.onnx`` file, or the ``.xml`` of an OpenVINO model.

    Raises:
        UsageError: nothing is there, it is another kind of file, or not a model of one image input and one output.
        ExportError: it is damaged, or its runtime is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"There is no model at {path}. Expected {EXPECTED}.")
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return SavedModelRunner(path)
        inside = sorted(
            p.name for p in path.iterdir() if p.suffix in (".keras", ".tflite") or p.name == "saved_model"
        )
        hint = f" Name one of the models inside: {', '.join(inside)}." if inside else ""
        raise UsageError(f"The folder {path} is not a SavedModel: it holds no saved_model.pb.{hint}")
    if path.suffix == ".tflite":
        return LiteRTRunner(path)
    if path.suffix == ".onnx":
        return ONNXRunner(path)
    if path.suffix == ".xml":
        return OpenVINOFileRunner(path)
    if path.suffix == ".keras":
        return KerasRunner(load_keras(path))
    if path.suffix in (".h5", ".hdf5"):
        from keras_transfer.backbones.own import read_model  # files of Keras 2 are translated there

        return KerasRunner(read_model(path))
    raise UsageError(f"{path} ends in {path.suffix or 'no suffix'!r}; expected {EXPECTED}.")


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
