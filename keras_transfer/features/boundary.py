"""Where a partly frozen classifier can be cut in two: what never changes below, what trains above.

The part below gives the same activations in every epoch, so they need computing once. A cut is possible where one
tensor alone leads from below to above (an articulation point of the graph): inside a residual block two do.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from inspect import signature
from typing import Any

import keras

from keras_transfer.backbones.cost import layer_macs
from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.heads import head_layers

VALUE_MACS = 200
"""A value that is stored and read in every epoch is taken to cost as much as so many multiply-adds.

At 20 giga multiply-adds a second (a frozen EfficientNet-Lite0 in ``fit`` on two cores) and 500 MB/s from a disk, two
bytes cost 80; the rest stands for the room they take. With it a cut goes to the narrow end of an inverted bottleneck,
not into its six times wider middle."""
_DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)


@dataclass(frozen=True)
class _Point:
    """An articulation point: ``macs`` and ``fixed`` are of everything at and below ``tensor``."""

    name: str
    tensor: Any
    macs: float
    fixed: bool


def find_boundary(model: keras.Model, *, output: str = "logits") -> str | None:
    """The best tensor below which nothing changes while the model trains.

    Everything at and below it is frozen, and behaves in training as in inference: no trainable weights, no batch
    normalization that uses the batch's statistics, no active dropout (see :func:`frozen_dropout_off`), noise or
    augmentation. It is the only tensor that crosses from below to above. Among several such tensors it is
    the highest, or one below it that is so much smaller that computing the frozen layers between the two is cheaper
    than storing and reading the larger one (:data:`VALUE_MACS`).

    Args:
        model: a Functional model with one input and one output.
        output: the layer at which the part above ends, if the model has one of this name; otherwise its output.

    Returns:
        The name of the layer (or operation) whose output it is, for :func:`cut_at`; None when there is none above
        the first layer that multiplies (with nothing frozen, for example).

    Raises:
        UsageError: more than one input or output, or not a Functional model.
    """
    legal = [point for point in _points(model, output)[:-1] if point.fixed and point.macs]
    if not legal:
        return None
    top = legal[-1].macs
    return min(reversed(legal), key=lambda p: top - p.macs + VALUE_MACS * _values(p.tensor)).name


def cut_at(model: keras.Model, name: str, *, output: str = "logits") -> tuple[keras.Model, keras.Model]:
    """Cut a model in two that share its layers and variables: training the upper part trains the model.

    Args:
        model: a Functional model with one input and one output.
        name: a layer (or operation) whose output is the only tensor that leads from below it to above.
        output: the layer at which the upper part ends, if the model has one of this name; otherwise its output.

    Returns:
        ``(lower, upper)``: pixels ``(B, H, W, 3)`` to the activation ``(B, ...)``, and the activation to the logits
        ``(B, C)``.

    Raises:
        UsageError: no such layer, one that cannot be cut at (inside a residual block), or a model as above.
    """
    tensor = _point(model, name, output).tensor
    lower = keras.Model(model.inputs[0], tensor, name=f"{model.name}_lower")
    return lower, keras.Model(tensor, _end(model, output), name=f"{model.name}_upper")


@contextlib.contextmanager
def frozen_dropout_off(
    model: keras.Model, *, trained_too: bool = False, head: Collection[str] | None = None
) -> Iterator[list[str]]:
    """Within this context, dropout in the frozen part at the bottom does nothing, as with ``base(x, training=False)``.

    A ``Dropout`` with ``trainable=False`` still drops in ``fit``. An EfficientNet has one in every residual block
    (stochastic depth, Huang et al. 2016, arXiv:1603.09382), so its frozen blocks would give another activation in
    every epoch, and :func:`find_boundary` would find nothing to keep. Keras's guide to transfer learning runs the
    frozen base in inference mode; this does the same. A model traced before (a compiled one that has trained) keeps
    what it had.

    Args:
        model: the classifier.
        trained_too: the dropout of trained layers below the head is off as well: the whole backbone runs as in
            inference, and only the head drops.
        head: names of the head's layers, where they are not those of :func:`~keras_transfer.heads.head_layers`.

    Yields:
        Names of the layers that are off: every frozen dropout below which nothing trains.
    """
    found = _leaves(model) if trained_too else _still(model)
    above = set(head_layers(model) if head is None else head) if trained_too else set()
    layers = [leaf for leaf in found if isinstance(leaf, _DROPOUT) and leaf.rate and leaf.name not in above]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield [layer.name for layer in layers]
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def _point(model: keras.Model, name: str, output: str) -> _Point:
    points = {point.name: point for point in _points(model, output)[:-1]}
    if name in points:
        return points[name]
    known = [operation.name for operation in model.operations]
    if name not in known:
        raise unknown_name(f"layer in {model.name}", name, points)
    before = [p for p in points if p in known and known.index(p) < known.index(name)]
    advice = f"The next place below is {before[-1]!r}." if before else "There is none below it."
    raise UsageError(
        f"{model.name} cannot be cut at {name!r}: one tensor that alone leads from below to above is "
        f"expected (inside a residual block there are two). {advice}"
    )


def _end(model: keras.Model, output: str) -> Any:
    """The tensor that the upper part ends in."""
    if len(getattr(model, "inputs", ())) != 1 or len(getattr(model, "outputs", ())) != 1:
        raise UsageError(
            f"{model.name!r} cannot be cut: a Functional model with one input and output is expected."
        )
    # Found in this model's own graph: a layer's `output` is of the first graph that it was used in.
    nodes = _ordered(model.outputs[0])
    named = [node.output_tensors[0] for node in nodes if node.operation.name == output]
    return named[-1] if named else model.outputs[0]


def _ordered(end: Any) -> dict[Any, list[Any]]:
    """The graph's nodes from the input to a tensor, each after its parents, with their parents."""
    parents: dict[Any, list[Any]] = {}
    waiting = [_node(end)]
    while waiting:
        node = waiting.pop()
        if node not in parents:
            parents[node] = [_node(tensor) for tensor in node.input_tensors]
            waiting += parents[node]
    return {node: parents[node] for node in TopologicalSorter(parents).static_order()}


def _points(model: keras.Model, output: str) -> list[_Point]:
    """The articulation points from the input to the output, both included."""
    parents = _ordered(_end(model, output))
    place = {node: i for i, node in enumerate(parents)}
    needed_until = list(range(len(place)))  # the place of the last node that reads a node's output
    for node, before in parents.items():
        for parent in before:
            needed_until[place[parent]] = max(needed_until[place[parent]], place[node])
    names = [node.operation.name for node in place]
    points: list[_Point] = []
    pending, total, fixed = 0, 0.0, True
    for node, i in place.items():
        total += layer_macs(node.operation) if hasattr(node.operation, "weights") else 0.0
        fixed = fixed and _is_fixed(node.operation)
        # With one input and one output every node lies on a path between them, so whatever the order, after an
        # articulation point nothing else is pending.
        if pending <= i and len(node.output_tensors) == 1 and names.count(names[i]) == 1:
            points.append(_Point(names[i], node.output_tensors[0], total, fixed))
        pending = max(pending, needed_until[i])
    return points


def _still(model: keras.Model) -> Iterator[Any]:
    """The frozen operations below which, and in which, nothing trains; those of nested models too."""
    moving: set[Any] = set()
    for node, before in _ordered(_end(model, "")).items():
        if _trains(node.operation) or not moving.isdisjoint(before):
            moving.add(node)
        else:
            yield from (leaf for leaf in _leaves(node.operation) if not getattr(leaf, "trainable", False))


def _leaves(operation: Any) -> Iterator[Any]:
    if hasattr(operation, "layers"):
        for layer in operation.layers:
            yield from _leaves(layer)
    else:
        yield operation


def _trains(operation: Any) -> bool:
    if hasattr(operation, "layers"):
        return any(map(_trains, operation.layers))
    norm = isinstance(operation, keras.layers.BatchNormalization)
    return bool(getattr(operation, "trainable_weights", None)) or (norm and operation.trainable)


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _values(tensor: Any) -> int:
    return math.prod(side or 1 for side in tensor.shape[1:])


def _is_fixed(operation: Any) -> bool:
    """Whether an operation computes the same in training as in inference, and stays as it is."""
    if hasattr(operation, "layers"):
        return all(map(_is_fixed, operation.layers))
    if _trains(operation):
        return False
    if isinstance(operation, keras.layers.BatchNormalization):
        return True  # frozen, it uses its moving statistics even in `fit`
    for strength in ("rate", "stddev", "dropout"):
        if isinstance(getattr(operation, strength, None), (int, float)):
            return getattr(operation, strength) == 0
    return "training" not in signature(operation.call).parameters
