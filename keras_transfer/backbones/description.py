"""A network laid open: what every layer and block gives, sees, holds and costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import tensorflow as tf

from ..errors import UsageError
from .blocks import blocks
from .building import applied, distinct_names
from .cost import call_macs, is_counted
from .windows import Field, Pair, field_after, window_of

WHOLE, UNKNOWN = "image", "unknown"
"""Receptive fields that are no number of pixels: the whole image; not known, behind a layer whose window is not."""

ReceptiveField = tuple[int, int] | str


@dataclass(frozen=True)
class LayerRow:
    """One call of a layer. Shapes without the batch, pairs are (height, width)."""

    name: str
    kind: str
    block: str
    output_shape: tuple[int | None, ...]
    kernel: Pair | None
    stride: Pair | None
    padding: tuple[Pair, Pair] | None
    """Pixels (top, bottom) and (left, right)."""
    parameters: int
    """All numbers it holds, moving statistics included; 0 where an earlier row has counted them."""
    multiply_adds: int | None
    """For one image; None: not known for this kind of layer."""
    receptive_field: ReceptiveField
    """Pixels of the image, (height, width), that a position of the output depends on."""
    step: tuple[float, float]
    """How many pixels of the image lie between two positions of the output: the product of all strides below."""
    activation_bytes: int
    """Of its output for one image."""


@dataclass(frozen=True)
class BlockRow:
    """Neighbouring layers that belong together, see :func:`keras_transfer.backbones.blocks`."""

    name: str
    layers: int
    output_shape: tuple[int | None, ...]
    kernels: tuple[Pair, ...]
    """The different ones in it."""
    stride: Pair
    """The product of its layers' strides, along one path."""
    padding: tuple[tuple[Pair, Pair], ...]
    """The different ones in it."""
    parameters: int
    multiply_adds: int | None
    receptive_field: ReceptiveField
    activation_bytes: int


@dataclass(frozen=True)
class Totals:
    """Sums over the network, for one image."""

    layers: int
    parameters: int
    multiply_adds: int
    """Of the layers whose cost is known."""
    activation_bytes: int
    """All outputs: what a training step keeps for its gradients."""
    peak_bytes: int
    """The most that is alive at once in inference, each output freed after its last use."""
    weight_bytes: int
    receptive_field: ReceptiveField


@dataclass(frozen=True)
class Description:
    """What :func:`describe_model` gives. ``str()`` is the table of blocks.

    Attributes:
        name: of the model.
        input_shape: (height, width, channels).
        layers: bottom to top.
        blocks: bottom to top.
        totals: of the network.
        not_counted: layers whose multiply-adds are not known, as ``name (Class)``: the sum leaves them out.
        no_field: layers whose window is not known: no receptive field is given from there on.
        gated: maps are scaled by a summary of the whole image (squeeze-and-excitation); receptive fields leave it out.
    """

    name: str
    input_shape: tuple[int | None, ...]
    layers: tuple[LayerRow, ...]
    blocks: tuple[BlockRow, ...]
    totals: Totals
    not_counted: tuple[str, ...]
    no_field: tuple[str, ...]
    gated: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        from .description_text import table

        return table(self)


def describe_model(model: keras.Model, image_size: int | tuple[int, int] | None = None) -> Description:
    """Per layer and per block: output, kernel, stride, padding, parameters, multiply-adds, receptive field, memory.

    Args:
        model: a Functional or Sequential model with one image as input; nested models are opened.
        image_size: a side or (height, width) in pixels, for a model that takes images of any size.

    Returns:
        The description, for one image. What a layer costs or sees is given for Keras's own layers; of others it is
        said that it is not known (``not_counted``, ``no_field``), never guessed.

    Raises:
        UsageError: not such a model, or an image size it does not take.
    """
    with distinct_names(model):
        return _described(_opened(model, image_size))


def _described(sized: keras.Model) -> Description:
    block_of = {name: block for block, names in blocks(sized) for name in names}
    rows: list[LayerRow] = []
    fields: dict[int, Field] = {}
    unknown_cost: list[str] = []
    unknown_field: list[str] = []
    counted: set[int] = set()
    block = "input"
    for operation, inputs, outputs in _calls(sized):
        shapes = [tuple(tensor.shape) for tensor in inputs]
        output = tuple(outputs[0].shape)
        before = [fields[id(tensor)] for tensor in inputs]
        field = field_after(operation, before, shapes, output)
        fields.update((id(tensor), field) for tensor in outputs)
        block = block_of.get(operation.name, block)
        who = f"{operation.name} ({type(operation).__name__})"
        countable = is_counted(operation) and _is_native(operation)
        if not countable:
            unknown_cost.append(who)
        if not field.known and all(each.known for each in before):
            unknown_field.append(who)
        window = window_of(operation, shapes[0]) if shapes else None
        rows.append(
            LayerRow(
                name=operation.name,
                kind=type(operation).__name__,
                block=block,
                output_shape=output[1:],
                kernel=window.kernel if window else None,
                stride=window.stride if window else None,
                padding=window.padding if window else None,
                parameters=_parameters(operation, counted),
                multiply_adds=int(call_macs(operation, (*shapes, ())[0], output)) if countable else None,
                receptive_field=_shown(field),
                step=field.step,
                activation_bytes=sum(map(_bytes, outputs)),
            )
        )
    if not rows:
        raise UsageError(f"The model {sized.name!r} has no layer to describe.")
    return Description(
        name=sized.name,
        input_shape=tuple(sized.inputs[0].shape[1:]),
        layers=tuple(rows),
        blocks=tuple(_block(name, rows) for name in dict.fromkeys(row.block for row in rows)),
        totals=Totals(
            layers=len(rows),
            parameters=sum(row.parameters for row in rows),
            multiply_adds=sum(row.multiply_adds or 0 for row in rows),
            activation_bytes=sum(row.activation_bytes for row in rows),
            peak_bytes=_peak(sized),
            weight_bytes=sum(_bytes(weight, batch=False) for weight in sized.weights),
            receptive_field=_shown(fields[id(sized.outputs[0])]),
        ),
        not_counted=tuple(dict.fromkeys(unknown_cost)),
        no_field=tuple(dict.fromkeys(unknown_field)),
        gated=any(field.gated for field in fields.values()),
    )


# ------------------------------------------------------------------ the graph


def _opened(model: Any, image_size: int | tuple[int, int] | None) -> keras.Model:
    """The model as one flat graph on images of a fixed size. Its layers are shared, its own graph stays as it is."""
    inputs: Any = getattr(model, "inputs", None) or ()
    outputs: Any = getattr(model, "outputs", None) or ()
    if len(inputs) != 1 or not outputs or len(inputs[0].shape) < 2:
        raise UsageError(
            f"{getattr(model, 'name', model)!r} cannot be described: a Functional or a built Sequential model with one "
            "image as input is expected."
        )
    expected: tuple[int | None, ...] = tuple(inputs[0].shape[1:])
    shape = expected
    if image_size is not None:
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        shape = (*sides, *expected[2:])
        if len(sides) != 2 or any(e not in (None, s) for e, s in zip(expected, shape, strict=True)):
            raise UsageError(
                f"{model.name} takes images {expected}; image_size={image_size!r} does not fit. Leave it out."
            )
    if None in shape:
        raise UsageError(
            f"{model.name} takes images of any size; say for which to describe it: --image-size."
        )
    flat = not isinstance(model, keras.Sequential) and not any(
        isinstance(operation, keras.Model) for operation in model.operations
    )
    if flat and shape == expected:
        return model
    source = keras.Input(shape, dtype=inputs[0].dtype, name=inputs[0].name)
    return keras.Model(source, applied(model, source), name=model.name)


def _calls(model: keras.Model) -> Iterable[tuple[Any, list[Any], list[Any]]]:
    """Every call of an operation, bottom to top, with its input and output tensors."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            yield node.operation, list(node.input_tensors), list(node.output_tensors)


def _peak(model: keras.Model) -> int:
    """Bytes alive at once, at most, when every tensor is freed after its last use."""
    calls = list(_calls(model))
    last = {id(tensor): step for step, (_, inputs, _) in enumerate(calls) for tensor in inputs}
    last.update((id(tensor), len(calls)) for tensor in model.outputs)
    alive: dict[int, int] = {}
    peak = 0
    for step, (_, _, outputs) in enumerate(calls):
        alive.update((id(tensor), _bytes(tensor)) for tensor in outputs)
        peak = max(peak, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last.get(key, step) > step}
    return peak


# ------------------------------------------------------------------ rows


def _block(name: str, rows: Sequence[LayerRow]) -> BlockRow:
    inside = [row for row in rows if row.block == name]
    first = rows.index(inside[0])
    before = rows[first - 1].step if first else (1.0, 1.0)
    stride = [max(1, round(after / start)) for start, after in zip(before, inside[-1].step, strict=True)]
    costs = [row.multiply_adds for row in inside]
    return BlockRow(
        name=name,
        layers=len(inside),
        output_shape=inside[-1].output_shape,
        kernels=_different(
            row.kernel for row in inside if row.kernel not in (None, (1, 1)) or _multiplies(row)
        ),
        stride=(stride[0], stride[1]),
        padding=_different(row.padding for row in inside if row.padding and any(map(any, row.padding))),
        parameters=sum(row.parameters for row in inside),
        multiply_adds=None if None in costs else sum(cost or 0 for cost in costs),
        receptive_field=inside[-1].receptive_field,
        activation_bytes=sum(row.activation_bytes for row in inside),
    )


def _multiplies(row: LayerRow) -> bool:
    return row.kernel is not None and bool(row.multiply_adds)


def _different(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _shown(field: Field) -> ReceptiveField:
    if not field.known:
        return UNKNOWN
    if field.whole:
        return WHOLE
    return math.ceil(field.size[0]), math.ceil(field.size[1])


def _parameters(operation: Any, counted: set[int]) -> int:
    fresh = [weight for weight in getattr(operation, "weights", ()) if id(weight) not in counted]
    counted.update(map(id, fresh))
    return sum(math.prod(weight.shape) for weight in fresh)


def _bytes(tensor: Any, batch: bool = True) -> int:
    shape = tensor.shape[1:] if batch else tensor.shape
    return math.prod(side or 1 for side in shape) * tf.as_dtype(str(tensor.dtype)).size


def _is_native(operation: Any) -> bool:
    """Whether a layer without kernels is Keras's own or ours: code of others may multiply whatever it likes."""
    return type(operation).__module__.partition(".")[0] in ("keras", "keras_cv", "keras_transfer")
