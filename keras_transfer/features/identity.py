"""What a network computes, as one number: the hash of its architecture and its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_transfer.errors import CacheError
from keras_transfer.hashing import sha256_of_parts

# None of these changes what `model(x, training=False)` gives.
_IRRELEVANT = ("trainable", "shared_object_id", "build_config", "compile_config")
# A formula, tested against TensorFlow's operator.
_FIXED = ("keras_transfer.backbones.classic.local_response",)
_IRRELEVANT_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def model_hash(model: keras.Model) -> str:
    """64 hex digits over the architecture and every weight's bytes; the same in every process.

    Layer names (``conv2d_7`` the second time a network is built), ``trainable`` flags, initializers and
    regularizers are left out: they do not change what the network computes in inference. Everything else
    of the configuration counts.

    Raises:
        CacheError: the network holds code that its configuration does not describe (a subclassed model, a
            layer or function that is not Keras's, a ``Lambda``), so no hash can promise that it is the same network.
    """
    for part in _parts(model):
        if not _is_fixed(type(part).__module__):
            raise _no_identity(f"{part.name!r} is a {type(part).__module__}.{type(part).__name__}")
    try:
        text = json.dumps(_canonical(_config(model)), sort_keys=True, default=_plain)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _no_identity(f"its configuration cannot be written ({error})") from error
    return sha256_of_parts(_told(text, model))


def _told(text: str, model: keras.Model) -> Iterator[bytes]:
    yield text.encode()
    for weight in model.weights:
        value = np.ascontiguousarray(np.asarray(weight))
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()


def _is_fixed(module: str) -> bool:
    """Whether the code of a module's layers is Keras's, or fixed by a paper."""
    return module.partition(".")[0] == "keras" or module in _FIXED


def _no_identity(why: str) -> CacheError:
    return CacheError(
        f"The model has no lasting identity: {why}, and its code may change without anyone noticing. Its "
        "features cannot be cached. Use a Functional or Sequential model of Keras's own layers "
        "(for a KerasCV or KerasHub backbone: keras.Model(backbone.inputs, backbone.outputs))."
    )


def _config(model: keras.Model) -> dict[str, Any]:
    return {"class_name": type(model).__name__, "config": model.get_config()}


def _parts(model: Any) -> list[Any]:
    """The model and all layers and operations in it, however nested."""
    parts = [model]
    for part in (*(getattr(model, "_layers", None) or ()), *(getattr(model, "operations", None) or ())):
        parts.extend(_parts(part) if part is not model else ())
    return parts


def _plain(value: Any) -> Any:
    """What JSON does not know. Anything but arrays and numbers has no certain text, and is refused."""
    if isinstance(value, (np.ndarray, np.generic)):
        return [str(value.dtype), list(value.shape), value.tobytes().hex()]
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"it holds a {type(value).__name__}")


def _canonical(value: Any, names: dict[str, str] | None = None) -> Any:
    """A configuration with layer names replaced by their order of appearance in the model they are in.

    ``names`` maps the names of the enclosing Functional or Sequential model's layers.
    """
    names = names or {}
    if isinstance(value, (list, tuple)):
        return [_canonical(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        config = dict(value["config"])
        layer, node, tensor = config["keras_history"]
        return {"tensor": [names.get(layer, layer), node, tensor], "dtype": config.get("dtype")}
    _require_described(value)
    result = {
        key: item
        for key, item in value.items()
        if key not in _IRRELEVANT and not str(key).endswith(_IRRELEVANT_ENDINGS)
    }
    layers = result.get("layers")
    if isinstance(layers, list) and all(isinstance(layer, dict) for layer in layers):
        own = {_name(layer): f"layer {i}" for i, layer in enumerate(layers)}
        ends = {
            key: _rename(result.pop(key), own) for key in ("input_layers", "output_layers") if key in result
        }
        result.pop("name", None)
        return {**{key: _canonical(item, own) for key, item in result.items()}, **ends}
    if "class_name" in result and isinstance(result.get("config"), dict):
        result["name"] = names.get(str(result.get("name")), "")
        if not str(result["class_name"]).endswith("DTypePolicy"):  # there the name is the type itself
            result["config"] = {key: item for key, item in result["config"].items() if key != "name"}
    return {key: _canonical(item, names) for key, item in result.items()}


def _require_described(value: dict[str, Any]) -> None:
    """Refuse serialised functions, lambdas and classes that are neither Keras's nor this package's own."""
    name, module = str(value.get("class_name", "")), value.get("module")
    foreign = isinstance(module, str) and not _is_fixed(module)
    if "config" in value and (foreign or name in ("function", "Lambda", "__lambda__")):
        raise _no_identity(f"it uses the {name} {value.get('config')!r:.80}")


def _name(layer: dict[str, Any]) -> str:
    return str(layer.get("name") or layer.get("config", {}).get("name"))


def _rename(ends: Any, names: dict[str, str]) -> Any:
    """``["conv2d_3", 0, 0]``, or any nesting of such triples, with the layer's name replaced."""
    if isinstance(ends, (list, tuple)):
        if len(ends) == 3 and isinstance(ends[0], str):
            return [names.get(ends[0], ends[0]), *ends[1:]]
        return [_rename(end, names) for end in ends]
    if isinstance(ends, dict):
        return {key: _rename(end, names) for key, end in ends.items()}
    return ends
