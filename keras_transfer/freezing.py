"""Which layers train: every function works on any Keras model and returns what it changed.

Batch normalization stays in inference mode unless asked for. In Keras a ``BatchNormalization`` layer with
``trainable = False`` uses its moving statistics even inside ``fit``; retraining them on small batches is the
most common way to ruin a fine-tuning (keras#9522, keras#9965; the transfer-learning guide of Keras).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

import keras

from keras_transfer.backbones.blocks import blocks, leaf_layers
from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.heads import head_layers

Rule = str | Callable[[keras.layers.Layer], bool]
BATCHNORM = ("frozen", "train", "adapt")


def freeze(model: keras.Model) -> list[str]:
    """Freeze every layer. Returns the names of the layers that were trainable before."""
    return set_trainable(model, "none")


def unfreeze_from(model: keras.Model, name: str, *, batchnorm: str = "frozen") -> list[str]:
    """Train from this layer or block up to the top; freeze everything below.

    Args:
        name: a layer's name or a block's (``block6a``), as ``backbones.blocks`` lists them.
        batchnorm: ``"frozen"`` or ``"train"``.

    Returns:
        Names of the layers whose ``trainable`` flag changed.

    Raises:
        UsageError: no such layer or block; the closest names are given.
    """
    return set_trainable(model, f"from:{name}", batchnorm=batchnorm)


def set_trainable(model: keras.Model, rule: Rule, *, batchnorm: str = "frozen") -> list[str]:
    """Set every layer's ``trainable`` flag by one rule.

    Args:
        rule: ``"none"``, ``"all"``, ``"30%"`` (the top blocks with about that share of the layers
            with weights), ``"blocks:2"`` (the top blocks), ``"from:NAME"`` (a layer or block and all above), a regular
            expression matched against whole layer names, or a function of the layer.
        batchnorm: ``"frozen"`` keeps every batch normalization in inference mode; ``"train"`` lets those in
            trained layers learn.

    Returns:
        Names of the layers whose flag changed, bottom to top.

    Raises:
        UsageError: the rule names nothing in this model, or is not a rule.
    """
    if batchnorm not in ("frozen", "train"):
        raise UsageError(f"batchnorm={batchnorm!r} was given, 'frozen' or 'train' is expected.")
    chosen = chosen_layers(model, rule)
    if batchnorm == "frozen":
        norms = (layer for layer in leaf_layers(model) if isinstance(layer, keras.layers.BatchNormalization))
        chosen -= {layer.name for layer in norms}
    return mark_trainable(model, chosen)


def mark_trainable(model: keras.Model, names: set[str]) -> list[str]:
    """Train exactly the layers of these names. Returns the names whose flag changed, bottom to top."""
    layers = list(leaf_layers(model))
    before = [layer.trainable for layer in layers]
    # Setting a container's flag sets its layers' too, so containers are opened first and leaves decided after.
    for container in _containers(model):
        container.trainable = True
    changed = []
    for layer, flag in zip(layers, before, strict=True):
        wanted = layer.name in names
        if flag != wanted:
            changed.append(layer.name)
        layer.trainable = wanted
    return changed


def _containers(model: keras.Model) -> Iterator[keras.Model]:
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _containers(layer)


def _top_share(model: keras.Model, share: float, head: set[str]) -> set[str]:
    """The top blocks that hold about this share of the layers with weights; at least one block, never a part of one."""
    names = [layer.name for layer in leaf_layers(model)]
    weighted = {layer.name for layer in leaf_layers(model) if layer.weights and layer.name not in head}
    starts, held, total = [], [], 0
    for _, members in reversed(blocks(model)):
        inside = len(weighted.intersection(members))
        if inside:
            total += inside
            starts.append(members[0])
            held.append(total)
    wanted = share * len(weighted)
    nearest = min(range(len(held)), key=lambda i: abs(held[i] - wanted), default=None)
    return set() if nearest is None else set(names[names.index(starts[nearest]) :])


def chosen_layers(model: keras.Model, rule: Rule, head: Collection[str] | None = None) -> set[str]:
    """Names of the layers a rule of :func:`set_trainable` picks; raises ``UsageError`` when it names nothing.

    Shares and blocks are counted on the backbone; the head is above them and goes with them. ``head``: its layers'
    names, where they are not those of :func:`~keras_transfer.heads.head_layers`.
    """
    names = [layer.name for layer in leaf_layers(model)]
    if callable(rule):
        return {layer.name for layer in leaf_layers(model) if rule(layer)}
    if rule == "none":
        return set()
    if rule == "all":
        return set(names)
    head = head_layers(model) if head is None else head
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)%", rule):
        share = float(match[1]) / 100
        if share > 1:
            raise UsageError(f"{rule!r} was given; a share of at most 100% is expected.")
        return _top_share(model, share, set(head)) if share else set()
    groups = [(block, members) for block, members in blocks(model) if members[0] not in head]
    if match := re.fullmatch(r"blocks:(\d+)", rule):
        count = min(int(match[1]), len(groups))
        return (
            {*head, *(name for _, members in groups[len(groups) - count :] for name in members)}
            if count
            else set()
        )
    if rule.startswith("from:"):
        wanted = rule.removeprefix("from:")
        starts = {block: members[0] for block, members in groups}
        if wanted not in names and wanted not in starts:
            raise unknown_name(f"layer or block in {model.name}", wanted, [*starts, *names])
        return set(names[names.index(starts.get(wanted, wanted)) :])
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(f"{rule!r} is neither a rule nor a regular expression ({error}).") from None
    found = {name for name in names if pattern.fullmatch(name)}
    if not found:
        raise UsageError(
            f"{rule!r} matches no layer of {model.name}. Expected: none, all, 30%, blocks:2, from:NAME, "
            "or a regular expression over layer names."
        )
    return found
