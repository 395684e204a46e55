"""The head: GlobalAveragePooling, then Dropout, hidden Dense layers and the Dense that decides.

What follows that Dense is the task's: softmax for one class per image, sigmoid for labels that are independent of one
another, nothing (linear) for numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.errors import UsageError, unknown_name

POOLING = "head_pooling"
LOGITS = "logits"
PROBABILITIES = "probabilities"
VALUES = "values"
CUT = "head_cut"
"""A layer that changes nothing: above it is a head of the user's own (``training.custom_head.replace_head``)."""
FEWEST = {"softmax": 2, "sigmoid": 1, "linear": 1}
"""The activations, and how many outputs each needs at least."""


def add_head(
    backbone: keras.Model,
    num_classes: int,
    *,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
    activation: str = "softmax",
) -> keras.Model:
    """Put a head on a backbone, as one flat Functional model.

    Args:
        backbone: pixels ``(B, H, W, 3)`` to a feature map ``(B, h, w, D)`` or to features ``(B, D)``.
        num_classes: number of outputs ``C``: classes (at least 2), labels or target values (at least 1).
        hidden: widths of hidden Dense layers (ReLU) between the pooled features and the decision.
        dropout: share of the pooled features dropped in training, in [0, 1).
        seed: fixes the initial weights and the dropout masks.
        activation: ``"softmax"``: probabilities that sum to 1; ``"sigmoid"``: one probability per label, each in
            [0, 1]; ``"linear"``: real values of any size.

    Returns:
        A model from pixels to ``(B, C)``; the Dense ``"logits"`` holds the scores before the activation, which is
        the last layer, ``"probabilities"`` or (linear) ``"values"``. It shares the backbone's layers and weights.

    Raises:
        UsageError: an unknown activation, too few outputs, or a backbone whose output is neither a map nor a vector.
    """
    if activation not in FEWEST:
        raise unknown_name("activation of a head", activation, FEWEST)
    if num_classes < FEWEST[activation]:
        what = "classifier for {} class" if activation == "softmax" else "head with {} outputs"
        raise UsageError(
            f"A {what.format(num_classes)} was asked for; at least {FEWEST[activation]} are expected."
        )
    x = backbone.output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name=POOLING)(x)
    elif len(x.shape) != 2:
        raise UsageError(
            f"The backbone {backbone.name!r} gives {tuple(x.shape)}; a feature map (B, h, w, D) or features "
            "(B, D) are expected. Build it without its own top."
        )
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seed, name="head_dropout")(x)
    for index, width in enumerate(hidden):
        initial = keras.initializers.HeNormal(seed=seed + index)
        x = keras.layers.Dense(
            width, activation="relu", kernel_initializer=initial, name=f"head_hidden_{index}"
        )(x)
    initial = keras.initializers.GlorotUniform(seed=seed + 1000)
    x = keras.layers.Dense(num_classes, kernel_initializer=initial, name=LOGITS)(x)
    if activation == "softmax":
        x = keras.layers.Softmax(name=PROBABILITIES)(x)
    else:
        name = PROBABILITIES if activation == "sigmoid" else VALUES
        x = keras.layers.Activation(activation, name=name)(x)
    kind = "regressor" if activation == "linear" else "classifier"
    return keras.Model(backbone.inputs, x, name=f"{backbone.name}_{kind}")


def has_logits(model: keras.Model) -> bool:
    """Whether a model has a layer of scores, as :func:`add_head` gives it."""
    return any(layer.name == LOGITS for layer in model.layers)


def head_layers(model: keras.Model, backbone: keras.Model | None = None) -> list[str]:
    """Names of the layers put on a backbone, if any were, those inside nested models included.

    Args:
        model: with a head or without.
        backbone: what it was built on, where that is known: every layer that is not one of its layers is the head's.
            Where it is not, the head is ``head_...``, ``decoder_...``, logits and what follows, and everything above
            :data:`CUT`.
    """
    if backbone is not None:
        below = {layer.name for layer in leaf_layers(backbone)}
        return [layer.name for layer in leaf_layers(model) if layer.name not in below]
    names = [layer.name for layer in model.layers]
    if LOGITS not in names:
        return []
    ours = ("head_", "decoder_")
    found = [name for name in names if name.startswith(ours) or name in (LOGITS, PROBABILITIES, VALUES)]
    if CUT not in names:
        return found
    below = {layer.name for layer in keras.Model(model.inputs, model.get_layer(CUT).input).layers}
    for layer in model.layers:
        if layer.name not in below and layer.name not in found:
            found += (
                [inner.name for inner in leaf_layers(layer)]
                if isinstance(layer, keras.Model)
                else [layer.name]
            )
    return found


def features_input(model: keras.Model) -> keras.KerasTensor:
    """Where the head begins: the pooled features ``(B, D)`` a model of :func:`add_head` decides on, or the cut."""
    layers = {layer.name: layer for layer in model.layers}
    if CUT in layers:
        return layers[CUT].input
    if POOLING in layers:
        return layers[POOLING].output
    for name in ("head_dropout", "head_hidden_0", LOGITS):
        if name in layers:
            return layers[name].input
    raise UsageError(f"The model {model.name!r} has no layer named {LOGITS!r}: build it with add_head.")


def split_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a model in two that share its weights: pixels to features, and features to logits (or values).

    Returns:
        ``(extractor, head)``: ``(B, H, W, 3) -> (B, D)`` and ``(B, D) -> (B, C)`` logits. Where a head of the
        user's own was put on a map, that map takes the place of ``(B, D)``.
    """
    cut = features_input(model)
    extractor = keras.Model(model.inputs, cut, name=model.name)
    if any(layer.name == CUT for layer in model.layers):
        return extractor, keras.Model(cut, model.get_layer(LOGITS).output, name="head")
    entry = keras.Input(shape=cut.shape[1:], name="features")
    x = entry
    for layer in model.layers:
        if layer.name == "head_dropout" or layer.name.startswith("head_hidden_") or layer.name == LOGITS:
            x = layer(x)
    return extractor, keras.Model(entry, x, name="head")


def logits_model(model: keras.Model) -> keras.Model:
    """The same network up to its logits, for a loss that is computed from them (numerically safer).

    A head of a task's own may have none: then up to its output.
    """
    output = model.get_layer(LOGITS).output if has_logits(model) else model.output
    return keras.Model(model.inputs, output, name=model.name)
