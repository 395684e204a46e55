"""What a ``.tflite`` file holds, read from the flatbuffer alone: no TensorFlow, nothing is run."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.records.layout import FREE_BATCH

MARK = b"TFL3"
"""Bytes 4 to 8 of every ``.tflite``."""
BITS = {
    "float32": 32, "float16": 16, "bfloat16": 16, "float64": 64, "int4": 4, "int2": 2, "uint4": 4, "bool": 8,
    "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64,
}  # fmt: skip
"""Of one number, by its type."""


DATA_INPUT = {"TRANSPOSE_CONV": 2, "SPLIT": 1}
"""Which input an operator computes on, where it is not the first."""
WITHIN = frozenset({"convolution", "depthwise", "batchnorm", "moments"})
"""Steps of a layer that TensorFlow gives a scope of their own."""


@dataclass(frozen=True)
class TensorFacts:
    """A tensor of a file.

    Attributes:
        name: as the file says.
        type: of its numbers: ``float32``, ``int8`` ...
        shape: as the file says; -1 where it says that a size is free.
        constant: its numbers are in the file: weights, biases, shapes.
        scales: how many scales it has: none, one (per tensor) or one for each channel.
        zero_points: the zero points that occur, each once, sorted.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    constant: bool
    scales: int
    zero_points: tuple[int, ...]

    @property
    def quantization(self) -> str:
        """``none``, ``per tensor`` or ``per channel``."""
        return "none" if not self.scales else "per tensor" if self.scales == 1 else "per channel"

    @property
    def bytes(self) -> int:
        """Of its numbers, for one image where the batch is free. 0 for texts and resources."""
        count = 1
        for size in self.shape:
            count *= abs(size)
        return -(-count * BITS.get(self.type, 0) // 8)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "type": self.type,
            "shape": list(self.shape),
            "quantization": self.quantization,
            "zero_points": list(self.zero_points),
        }


@dataclass(frozen=True)
class OperatorFacts:
    """An operator of a file: ``inputs`` and ``outputs`` are indices of tensors, -1 for an input that is left out.

    ``custom``: it is none of the format's own; its name is what the file calls it.
    """

    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class FileFacts:
    """A ``.tflite`` file.

    Attributes:
        bytes: its size.
        operators: in the order they run, those of every subgraph.
        tensors: of every subgraph.
        inputs: indices of tensors.
        outputs: indices of tensors.
        subgraphs: more than one where there is control flow.
        marked: our own mark that the batch may be resized, whatever the shapes say.
    """

    bytes: int
    operators: tuple[OperatorFacts, ...]
    tensors: tuple[TensorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    marked: bool

    @property
    def batch(self) -> str:
        """``free`` (a size is -1), ``one, resizable`` (shapes for one image, and our mark) or ``static``."""
        if any(-1 in self.tensors[index].shape for index in self.inputs):
            return "free"
        return "one, resizable" if self.marked else "static"

    @property
    def counts(self) -> dict[tuple[str, int], int]:
        """How often each operator occurs, by name and version; the most frequent first."""
        return dict(Counter((one.name, one.version) for one in self.operators).most_common())

    @property
    def weights(self) -> int:
        """Bytes of all constants."""
        return sum(one.bytes for one in self.tensors if one.constant)

    def layer(self, operator: OperatorFacts) -> str:
        """Where an operator comes from: the layer in the name of its result; where none is, the one before or after."""
        makers = {index: one for one in self.operators for index in one.outputs}
        before = next((makers[index] for index in operator.inputs if index in makers), None)
        after = next((one for one in self.operators if set(one.inputs) & set(operator.outputs)), None)
        for word, one in (("", operator), ("after ", before), ("before ", after)):
            if one and one.outputs and (layer := layer_of(self.tensors[one.outputs[0]].name)):
                return word + layer
        return self.tensors[operator.outputs[0]].name if operator.outputs else operator.name

    def data(self, operator: OperatorFacts) -> tuple[TensorFacts, ...]:
        """What an operator computes from and what it gives; a constant only where it has nothing else."""
        first = DATA_INPUT.get(operator.name, 0)
        given = [self.tensors[index] for index in operator.inputs[first:] if index >= 0]
        moving = [one for one in given if not one.constant]
        return (*(moving or given)[:1], *(self.tensors[index] for index in operator.outputs[:1]))

    def live_bytes(self) -> list[int]:
        """For each operator the bytes of the tensors that must be in memory while it runs: its own, and later needed.

        The least that any plan of the memory needs; constants are not counted.
        """
        last = {index: place for place, one in enumerate(self.operators) for index in one.inputs}
        last.update(dict.fromkeys(self.outputs, len(self.operators)))
        alive, found = set(self.inputs), []
        for place, operator in enumerate(self.operators):
            alive |= {*operator.outputs, *(index for index in operator.inputs if index >= 0)}
            found.append(
                sum(self.tensors[index].bytes for index in alive if not self.tensors[index].constant)
            )
            alive = {index for index in alive if last.get(index, -1) > place}
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        types = Counter(self.tensors[index].type for one in self.operators for index in one.outputs)
        return {
            "bytes": self.bytes,
            "weights": self.weights,
            "batch": self.batch,
            "subgraphs": self.subgraphs,
            "inputs": [self.tensors[index].to_dict() for index in self.inputs],
            "outputs": [self.tensors[index].to_dict() for index in self.outputs],
            "operators": [
                {"name": name, "version": version, "count": count}
                for (name, version), count in self.counts.items()
            ],
            "types": dict(types.most_common()),
            "weight_quantization": dict(
                Counter(
                    f"{one.type} {one.quantization}".removesuffix(" none")
                    for one in self.tensors
                    if one.constant
                ).most_common()
            ),
        }


def inspect_file(path: Path) -> FileFacts:
    """What a ``.tflite`` file holds.

    Raises:
        UsageError: there is no such file, or it is no ``.tflite``.
        ExportError: it is damaged.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}. Expected a .tflite file.")
    return inspect_bytes(path.read_bytes(), str(path))


def inspect_bytes(content: bytes, name: str = "the model") -> FileFacts:
    """What the bytes of a ``.tflite`` hold; ``name`` is what messages call them. See :func:`inspect_file`."""
    if content[4:8] != MARK:
        raise UsageError(
            f"{name} is not a .tflite file ({len(content)} bytes): it lacks the mark {MARK.decode()} of the format. "
            "`keras-transfer export RUN --to DIR` makes such files."
        )
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        return _facts(model, len(content), schema)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ExportError(
            f"{name} is a damaged .tflite file ({len(content)} bytes): {type(error).__name__}: {error}. Export it "
            "again."
        ) from None


def layer_of(name: str) -> str:
    """The layer in a tensor's name, which the converter makes from layers and operations; empty: there is none.

    >>> layer_of("functional_1/block1a_bn_1/add_1;functional_1/block1a_conv_1/convolution;")
    'block1a_bn_1'
    >>> layer_of("PartitionedCall:0")
    ''
    """
    *layers, _ = next((part for part in name.split(";") if part), name).split("/")
    return next((layer for layer in reversed(layers) if layer not in WITHIN), "")


def _facts(model: Any, size: int, schema: Any) -> FileFacts:
    names = _names(schema.BuiltinOperator)
    types = {number: name.lower() for number, name in _names(schema.TensorType).items()}
    codes = []
    for place in range(_within(model.OperatorCodesLength(), size)):
        code = model.OperatorCodes(place)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        known = names.get(number, f"BUILTIN_{number}")
        custom = (code.CustomCode() or b"").decode("utf-8", "replace") if known == "CUSTOM" else ""
        codes.append((custom or known, code.Version(), known == "CUSTOM"))
    tensors: list[TensorFacts] = []
    operators: list[OperatorFacts] = []
    graphs = [model.Subgraphs(place) for place in range(_within(model.SubgraphsLength(), size))]
    if not graphs:
        raise ValueError("it holds no graph")
    for graph in graphs:
        first = len(tensors)
        tensors += _tensors(model, graph, types, size)
        for place in range(_within(graph.OperatorsLength(), size)):
            operator = graph.Operators(place)
            kind, version, custom = codes[operator.OpcodeIndex()]
            given = [operator.Inputs(i) for i in range(_within(operator.InputsLength(), size))]
            made = [operator.Outputs(i) for i in range(_within(operator.OutputsLength(), size))]
            operators.append(OperatorFacts(kind, version, custom, _moved(given, first), _moved(made, first)))
    main = graphs[0]
    facts = FileFacts(
        bytes=size,
        operators=tuple(operators),
        tensors=tuple(tensors),
        inputs=tuple(main.Inputs(i) for i in range(_within(main.InputsLength(), size))),
        outputs=tuple(main.Outputs(i) for i in range(_within(main.OutputsLength(), size))),
        subgraphs=len(graphs),
        marked=any(
            model.Metadata(i).Name() == FREE_BATCH for i in range(_within(model.MetadataLength(), size))
        ),
    )
    for index in (
        *facts.inputs,
        *facts.outputs,
        *(i for one in operators for i in (*one.inputs, *one.outputs)),
    ):
        if not -1 <= index < len(tensors):
            raise ValueError(f"a tensor {index} is used, and there are {len(tensors)}")
    return facts


def _tensors(model: Any, graph: Any, types: dict[int, str], size: int) -> Iterator[TensorFacts]:
    for place in range(_within(graph.TensorsLength(), size)):
        tensor = graph.Tensors(place)
        buffer = model.Buffers(tensor.Buffer())
        signature = [tensor.ShapeSignature(i) for i in range(_within(tensor.ShapeSignatureLength(), size))]
        shape = signature or [tensor.Shape(i) for i in range(_within(tensor.ShapeLength(), size))]
        how = tensor.Quantization()
        scales = 0 if how is None else _within(how.ScaleLength(), size)
        points = 0 if how is None else _within(how.ZeroPointLength(), size)
        yield TensorFacts(
            name=(tensor.Name() or b"").decode("utf-8", "replace"),
            type=types.get(tensor.Type(), f"type {tensor.Type()}"),
            shape=tuple(int(one) for one in shape),
            constant=buffer.DataLength() > 0 or buffer.Size() > 0,
            scales=scales,
            zero_points=tuple(sorted({int(how.ZeroPoint(i)) for i in range(points)})) if scales else (),
        )


def _within(count: int, size: int) -> int:
    """A list's length, which a damaged file may give beyond all its bytes."""
    if count > size:
        raise ValueError(f"a list of {count} in {size} bytes")
    return count


def _moved(indices: list[int], first: int) -> tuple[int, ...]:
    return tuple(int(index) + first if index >= 0 else -1 for index in indices)


def _names(numbers: Any) -> dict[int, str]:
    return {number: name for name, number in vars(numbers).items() if isinstance(number, int)}
