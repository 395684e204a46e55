"""Several layers replaced at once: a user's own stack of Keras layers on top of any layer of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.heads import CUT, LOGITS, POOLING, PROBABILITIES, features_input

Stack = Sequence[keras.layers.Layer] | Callable[[keras.KerasTensor], keras.KerasTensor]


def replace_head(model: keras.Model, layers: Stack, *, at: str | None = None) -> keras.Model:
    """Replace everything above a layer by a stack that ends in logits.

    Args:
        model: a Functional model with one output: a backbone, a classifier of ``heads.add_head``, or any other.
        layers: Keras layers in the order they are applied, or a function from the tensor at the cut to logits
            ``(B, C)``. The last one has no activation: the softmax is added here.
        at: name of the layer that stays as the topmost. By default the pooled features ``(B, D)`` of a classifier
            (``heads.features_input``), or the output of a backbone: a map ``(B, h, w, D)`` or features ``(B, D)``.

    Returns:
        A flat model with the same inputs: the layers up to ``at`` (shared with ``model``, with their weights and
        ``trainable`` flags), ``Activation("linear", name="head_cut")``, the stack, ``Activation("linear",
        name="logits")`` and ``Softmax(name="probabilities")``. A freeze plan takes all above the cut for the head;
        ``fine_tune`` trains it like any other.

    Raises:
        UsageError: there is no layer ``at`` (the closest names are given), the stack is empty, cannot be applied
            there, does not give ``(B, C)`` with C of at least 2, or ends in an activation.
    """
    cut = _tensor_at(model, at)
    try:
        logits = _apply(layers, keras.layers.Activation("linear", name=CUT)(cut))
        _check(logits)
        scores = keras.layers.Activation("linear", name=LOGITS)(logits)
        probabilities = keras.layers.Softmax(name=PROBABILITIES)(scores)
        return keras.Model(model.input, probabilities, name=f"{model.name}_replaced")
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"The new head does not fit on {cut.shape} of the model {model.name!r}: {error}\nGive layers that take "
            f"this shape, with names the model does not have; {LOGITS!r} and {PROBABILITIES!r} are added here."
        ) from error


def _tensor_at(model: keras.Model, at: str | None) -> keras.KerasTensor:
    names = [layer.name for layer in model.layers]
    if at is not None:
        if at not in names:
            raise unknown_name(f"layer in the model {model.name!r}:", at, names)
        cut = model.get_layer(at).output
    elif POOLING in names or LOGITS in names:
        cut = features_input(model)
    else:
        cut = model.output
    if not isinstance(cut, keras.KerasTensor):
        raise UsageError(
            f"{len(cut)} tensors leave {at or model.name!r}, one is expected: name another layer."
        )
    return cut


def _apply(layers: Stack, x: keras.KerasTensor) -> keras.KerasTensor:
    if callable(layers):
        return layers(x)
    if not layers:
        raise UsageError("An empty list of layers was given; at least a Dense for the logits is expected.")
    for layer in layers:
        x = layer(x)
    return x


def _check(logits: keras.KerasTensor) -> None:
    if not isinstance(logits, keras.KerasTensor):
        raise UsageError(f"The new head gives {type(logits).__name__}; one Keras tensor (B, C) is expected.")
    if len(logits.shape) != 2 or logits.shape[1] is None or logits.shape[1] < 2:
        raise UsageError(
            f"The new head gives {logits.shape}; logits (B, C) of at least 2 classes are expected. Pool or flatten "
            "maps, and end in keras.layers.Dense(classes)."
        )
    last = logits._keras_history.operation
    activation = getattr(last, "activation", keras.activations.linear)
    if isinstance(last, keras.layers.Softmax) or activation is not keras.activations.linear:
        raise UsageError(
            f"The new head ends in an activation ({last.name!r}); logits are expected, and the softmax is added here. "
            "End in keras.layers.Dense(classes) without activation."
        )
