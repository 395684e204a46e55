"""From a catalog row to one flat Keras model with reproducible layer names, without weights yet."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from ..catalog import BackboneSpec
from ..errors import PluginError, UsageError
from .efficientnet import compensate, set_statistics
from .scaling import scale_pixels

TOP = "predictions"
"""The layer of the ImageNet classifier that is put on a backbone whose constructor has none."""
_LARGEST_SIDE = 4096


def build(spec: BackboneSpec, size: tuple[int, int], *, top: bool = False) -> keras.Model:
    """The architecture of ``spec`` for images of ``size`` (height, width), with random weights.

    Input ``image``: float32 ``(B, H, W, 3)`` RGB in [0, 255]; output ``(B, h, w, feature_dim)``, or with ``top`` the
    probabilities ``(B, 1000)`` of the classifier it was published with.
    Nested models are dissolved and automatic names renumbered, so that two calls give the same names.
    """
    image = keras.Input((*size, 3), name="image")
    pixels = compensate(image) if spec.family == "efficientnet" else scale_pixels(image, spec.input_mode)
    constructor = constructor_of(spec)
    if "include_top" in inspect.signature(constructor).parameters:  # as in keras.applications
        # `input_shape` makes the constructor check the size.
        network = constructor(include_top=top, weights=None, input_tensor=pixels, input_shape=(*size, 3))
        if not isinstance(network, keras.Model):
            raise PluginError(
                f"The backbone {spec.name!r}: {spec.constructor} gave a {type(network).__name__}; a Keras model is "
                "expected."
            )
        features = network.output
    else:
        features = constructor(input_tensor=pixels)
        if not isinstance(features, keras.KerasTensor):
            raise PluginError(
                f"The backbone {spec.name!r}: {spec.constructor} gave a {type(features).__name__}; the feature map, "
                "what its layers make of input_tensor, is expected."
            )
        if top:
            pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
            features = keras.layers.Dense(1000, activation="softmax", name=TOP)(pooled)
    model = _flat(keras.Model(image, features), spec.name)
    if spec.family == "efficientnet":
        set_statistics(model)
    return model


def require_facts(model: keras.Model, spec: BackboneSpec) -> None:
    """Raise ``PluginError`` where the row of a package's backbone is not true of the network that was built."""
    names = {operation.name for operation in model.operations}
    facts = {
        "feature_dim": (spec.feature_dim, model.output.shape[-1]),
        "params": (spec.params, model.count_params()),
        "pyramid": (tuple(spec.pyramid), tuple(name for name in spec.pyramid if name in names)),
    }
    wrong = [
        f"{name} {said!r}, and it is {found!r}" for name, (said, found) in facts.items() if said != found
    ]
    if wrong:
        raise PluginError(
            f"The backbone {spec.name!r} ({spec.constructor}) is not what its BackboneSpec says: {'; '.join(wrong)}. "
            "That is a fault of the package that brings it: tell its author."
        )


def input_size(spec: BackboneSpec, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) in pixels: the catalog's default, a side, or both. ``UsageError`` for an impossible one."""
    if given is None:
        return spec.default_size, spec.default_size
    sides = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    if len(sides) != 2 or not all(isinstance(side, int) and side <= _LARGEST_SIDE for side in sides):
        raise UsageError(
            f"image_size={given!r} is not a size. Expected a number of pixels or (height, width), "
            f"whole numbers from {spec.min_size} to {_LARGEST_SIDE}."
        )
    if min(sides) < spec.min_size:
        raise UsageError(
            f"{spec.name} needs images of at least {spec.min_size} pixels per side; image_size is {min(sides)}. "
            "Choose a larger size or another backbone."
        )
    return sides[0], sides[1]


def constructor_of(spec: BackboneSpec) -> Callable[..., Any]:
    """The function that ``spec.constructor`` names."""
    module, _, name = spec.constructor.partition(":")
    return getattr(importlib.import_module(module), name)


def _flat(model: keras.Model, name: str) -> keras.Model:
    """``model`` under another name, with nested models dissolved and stable operation names.

    ConvNeXt nests ``Sequential`` parts and adds with ``+``: it is copied, with its parts in place
    and ``Add`` layers. Other networks keep their layers.
    """
    if any(isinstance(operation, keras.Model) for operation in model.operations):
        model = keras.models.clone_model(model, clone_function=_fresh, call_function=_call)
    names = stable_names(model)
    for operation in model.operations:
        operation.name = names[id(operation)]
    return keras.Model(model.input, model.output, name=name)


def _fresh(operation: Any) -> Any:
    """A new operation with the configuration of another; a list for a ``Sequential``."""
    if isinstance(operation, keras.Sequential):
        return [_fresh(layer) for layer in operation.layers]
    if not isinstance(operation, keras.Layer) and type(operation).__name__ == "Add":
        return keras.layers.Add(name=operation.name)
    return operation.__class__.from_config(operation.get_config())


def _call(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply what :func:`_fresh` has made."""
    if isinstance(operation, list):
        (value,) = args
        for layer in operation:
            value = layer(value)
        return value
    if isinstance(operation, keras.layers.Add):
        return operation(args[0] if isinstance(args[0], list) else list(args))
    return operation(*args, **kwargs)


def applied(model: Any, tensor: Any) -> Any:
    """Call the layers of a model one by one on a tensor, those of nested models too: the same layers in a flat graph.

    Raises :class:`UsageError` for a model that keeps its layers in code of its own (a subclass of ``keras.Model``).
    """
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            tensor = applied(layer, tensor) if isinstance(layer, keras.Model) else layer(tensor)
        return tensor
    if not hasattr(model, "operations"):
        raise UsageError(
            f"The model {model.name!r} ({type(model).__name__}) keeps its layers in code of its own, so they cannot be "
            "told apart: a Functional or Sequential model is expected."
        )

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras.Model):
            return applied(operation, args[0])
        return operation(*args, **kwargs)

    return model._run_through_graph(tensor, operation_fn=lambda operation: operation, call_fn=call)


def separate_names(model: Any, taken: Iterable[str] = ()) -> list[tuple[Any, str]]:
    """Number layers of nested models that share a name (``conv2d``, ``conv2d_2``): in a flat graph each has its own.

    Args:
        model: whose layers are renamed; the first one bottom to top keeps its name.
        taken: names that none of them may have.

    Returns:
        What was renamed, each with its name before.
    """
    found = flat_operations(model) if isinstance(model, keras.Model) else []
    operations = {id(each): each for each in found if not isinstance(each, keras.layers.InputLayer)}
    every, used = {each.name for each in operations.values()}, set(taken)
    renamed = []
    for operation in operations.values():
        if operation.name in used:
            renamed.append((operation, operation.name))
            number = 2
            while f"{operation.name}_{number}" in used | every:
                number += 1
            operation.name = f"{operation.name}_{number}"
        used.add(operation.name)
    return renamed


@contextlib.contextmanager
def distinct_names(model: Any) -> Iterator[None]:
    """:func:`separate_names` while it lasts; then the model's layers are called as before."""
    renamed = separate_names(model)
    try:
        yield
    finally:
        for operation, name in renamed:
            operation.name = name


def stable_names(model: keras.Model) -> dict[int, str]:
    """A name for each operation by its ``id``: its own, or if Keras numbered it, its class and rank in this model.

    Keras counts automatic names (``conv2d_17``) over the whole process; here they start anew in each model,
    bottom to top. Operations of nested models are included, the nested models themselves are not.
    """
    ranks: Counter[str] = Counter()
    names: dict[int, str] = {}
    for operation in flat_operations(model):
        prefix = automatic_prefix(type(operation).__name__, operation.name)
        if prefix is None:
            names[id(operation)] = operation.name
        else:
            names[id(operation)] = prefix if not ranks[prefix] else f"{prefix}_{ranks[prefix]}"
            ranks[prefix] += 1
    return names


def flat_operations(model: keras.Model) -> list[Any]:
    """All operations (layers and functions of ``keras.ops``) bottom to top, those of nested models in place."""
    operations: list[Any] = []
    for operation in getattr(model, "operations", model.layers):  # a Sequential has only layers
        operations += flat_operations(operation) if isinstance(operation, keras.Model) else [operation]
    return operations


def automatic_prefix(class_name: str, name: str) -> str | None:
    """``conv2d`` for a ``Conv2D`` that Keras named ``conv2d`` or ``conv2d_17``; None for a name somebody chose."""
    prefix = snake_case(class_name)
    return prefix if re.fullmatch(rf"{prefix}(_\d+)?", name) else None


def snake_case(class_name: str) -> str:
    """``BatchNormalization`` to ``batch_normalization``, as Keras does for automatic names."""
    words = re.sub(r"\W+", "", class_name)
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", words)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
