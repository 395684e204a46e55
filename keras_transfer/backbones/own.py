"""A model of the user's own as a backbone: ``path:FILE``, its head dropped, its preprocessing stated or found."""

from __future__ import annotations

import difflib
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from ..errors import UsageError, WeightsError
from ..quiet import captured_output
from .building import applied, separate_names
from .ending import last_map, output_of
from .scaling import INPUT_MODES, scale_pixels

_log = logging.getLogger("keras_transfer")

FILES = (".keras", ".h5", ".hdf5")
_SCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add")
"""Layers and operations that bring pixels to another range (the operations: ``preprocess_input`` in the graph)."""
_GROUPLESS = re.compile(r"DepthwiseConv\dD|SeparableConv\dD|Conv\dDTranspose")
"""Layers in whose configuration Keras 2 wrote ``groups``, which those of Keras 3 do not take."""


def load_own(
    path: Path,
    *,
    cut: str | None = None,
    input_mode: str | None = None,
    image_size: tuple[int, int] | None = None,
    random: bool = False,
) -> keras.Model:
    """A classifier from a file, without its head, as a backbone.

    Args:
        path: a ``.keras`` or ``.h5`` file, or a SavedModel folder written by Keras 2 (which needs ``tf_keras``).
        cut: the layer whose output the backbone gives; None: the map that the last global pooling or flattening takes.
        input_mode: what the model wants pixels in [0, 255] to become, as in :mod:`keras_transfer.backbones.scaling`;
            None: found where the model begins with a scaling layer of its own.
        image_size: (height, width) in pixels; None: the model's own.
        random: new random weights instead of the file's.

    Returns:
        One flat Functional model: ``image`` float32 ``(B, H, W, 3)`` in [0, 255] to a map or features, every layer
        trainable.

    Raises:
        UsageError: no such file or layer, layers that are not Keras's, preprocessing neither stated nor found.
        WeightsError: a damaged file.
    """
    model = in_float32(read_model(path))
    if random:
        model = keras.models.clone_model(model)
    inputs: Any = getattr(model, "inputs", None) or ()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        shapes = [tuple(each.shape) for each in inputs]
        raise UsageError(f"{path} takes {shapes}; one input of images (B, H, W, 3) is expected.")
    size = image_size or inputs[0].shape[1:3]
    if None in tuple(size):
        raise UsageError(
            f"{path} takes images of any size: say with --image-size for which it is to be built."
        )
    scales = scales_itself(model)
    if input_mode is None and not scales:
        raise UsageError(
            f"Nothing in {path} tells what its pixels should be. Say it with --input-mode: "
            f"{', '.join(INPUT_MODES)} (none: it takes [0, 255])."
        )
    if scales and input_mode not in (None, "none"):
        _log.warning(
            "%s scales its pixels itself (%s), and --input-mode %s scales them before that: they are scaled twice. "
            "Leave --input-mode out.",
            path,
            scales,
            input_mode,
        )
    image = keras.Input((*size, 3), name="image")
    separate_names(model, taken=("image", "scaling"))
    try:
        output = applied(model, scale_pixels(image, input_mode or "none"))
    except ValueError as error:  # a flattening or dense layer that another size does not fit
        raise UsageError(f"{path} cannot be built for images of {size[0]}x{size[1]}: {error}.") from error
    whole = keras.Model(image, output, name=_name(path))
    backbone = keras.Model(image, _backbone_output(whole, cut, path), name=whole.name)
    for layer in backbone.layers:
        layer.trainable = True
    return backbone


def read_model(path: Path) -> Any:
    """The Keras model in a ``.keras`` or ``.h5`` file or in a SavedModel that Keras 2 has written.

    Raises ``UsageError`` without such a file or for layers that are not Keras's, ``WeightsError`` for a damaged file.
    """
    if not path.exists():
        raise UsageError(
            f"There is no file {path}. A .keras or .h5 file or the folder of a SavedModel is expected."
        )
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _from_saved_model(path)
    if path.suffix not in FILES:
        raise UsageError(f"{path}: a .keras or .h5 file or the folder of a SavedModel is expected.")
    if path.suffix != ".keras":
        with tempfile.TemporaryDirectory() as folder:
            return _load(_translated(path, Path(folder) / "model.h5"), str(path))
    return _load(path, str(path))


def in_float32(model: Any) -> Any:
    """The model, or one with its weights that computes in float32 where it computes in half precision.

    Converters and processors without half precision want that; its answers differ by the rounding of float16.
    """
    policies = {layer.dtype_policy.name for layer in model._flatten_layers(include_self=False)}
    half = sorted(name for name in policies if "float16" in name)
    if not half:
        return model
    _log.info("%s computes in half precision (%s); it is taken in float32", model.name, ", ".join(half))
    text = json.dumps(keras.saving.serialize_keras_object(model))
    for name in half:
        text = text.replace(json.dumps(name), '"float32"')
    same = keras.saving.deserialize_keras_object(json.loads(text))
    same.set_weights(model.get_weights())
    return same


def _translated(path: Path, copy: Path) -> Path:
    """A copy of a file that Keras 2 wrote whose configuration Keras 3 takes; the file itself where it takes that.

    Keras 2 wrote ``groups`` for layers that have none (every MobileNet), and the axis of a batch normalization as a
    list.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            config = json.loads(text) if text is not None else None
    except (OSError, ValueError, KeyError):
        return path  # damaged, or no HDF5: whoever reads it says so
    before = json.dumps(config)
    _translate(config)
    if json.dumps(config) == before:
        return path
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return copy


def _translate(node: Any) -> None:
    if isinstance(node, list):
        for value in node:
            _translate(value)
    if not isinstance(node, dict):
        return
    config = node.get("config")
    if isinstance(config, dict):
        if _GROUPLESS.fullmatch(str(node.get("class_name"))) and config.get("groups") == 1:
            del config["groups"]
            if "pointwise_initializer" in config:  # a separable convolution has two kernels, and no other
                for name in ("initializer", "regularizer", "constraint"):
                    config.pop(f"kernel_{name}", None)
        axis = config.get("axis")
        if node.get("class_name") == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
            config["axis"] = axis[0]
    for value in node.values():
        _translate(value)


def _load(path: Path, called: str) -> Any:
    failure: Exception | None = None
    with captured_output():
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001 (Keras raises many types for what it cannot read)
            failure = error
    reason = " ".join(str(failure).split())
    if any(word in reason for word in ("Unknown layer", "Could not locate", "Lambda", "lambda", "custom")):
        named = re.search(r"class '(\w+)'|[Uu]nknown layer:? '?(\w+)", reason)
        what = f"the layer {named[1] or named[2]}" if named else "a Lambda layer or other code"
        raise UsageError(
            f"{called} holds {what}, which is not Keras's own, and its code is not run. Save the model with Keras's "
            "layers only."
        ) from failure
    raise WeightsError(
        f"{called} cannot be read as a Keras model: {reason[:200]}. Is it damaged, or weights without the model?"
    ) from failure


def _from_saved_model(path: Path) -> Any:
    """Keras 3 sees no layers in a SavedModel; Keras 2 does in those it has written itself."""
    try:
        with captured_output():
            import tf_keras
    except ImportError:
        raise UsageError(
            f"{path} is a SavedModel, whose layers Keras 3 does not read. Install Keras 2 beside it "
            "(pip install tf_keras), or save the model as .keras."
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.h5"
        failure: Exception | None = None
        with captured_output():
            try:
                tf_keras.models.load_model(path, compile=False).save(file)
            except Exception as error:  # noqa: BLE001 (whatever an old format and foreign code raise)
                failure = error
        if failure is not None:
            raise UsageError(
                f"{path} is a SavedModel without Keras layers in it (an export for serving): "
                f"{' '.join(str(failure).split())[:200]}. Give the .keras file it was made from."
            ) from failure
        return _load(file, str(path))


def scales_itself(model: Any) -> str:
    """The name of what scales or normalizes the pixels before the first layer with weights; "" where nothing does.

    Augmentation, resizing and padding may come before it, and it may be an operation or inside a model.
    """
    for operation in getattr(model, "operations", None) or model.layers:
        if isinstance(operation, keras.Model):
            inner = scales_itself(operation)
            if inner or operation.weights:
                return inner
        elif type(operation).__name__ in _SCALING:
            return operation.name
        elif isinstance(operation, keras.layers.Layer) and operation.trainable_weights:
            return ""
    return ""


def _backbone_output(model: keras.Model, name: str | None, path: Path) -> Any:
    """The tensor the backbone ends in."""
    if name is not None:
        output = output_of(model, name)
        if output is None:
            close = difflib.get_close_matches(name, [each.name for each in model.operations], n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(
                f"{path} has no layer {name!r} to cut at.{hint} `keras-transfer describe {path} --layers` lists them."
            )
        return output
    tensor = last_map(model)
    if tensor is None:
        raise UsageError(
            f"{path} has no pooling or flattening behind which its head would begin: say with --cut LAYER where the "
            "backbone ends."
        )
    _log.info("%s: cut behind %s", path.name, tensor._keras_history.operation.name)
    return tensor


def _name(path: Path) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in path.stem) or "own"
