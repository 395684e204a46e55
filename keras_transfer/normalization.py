"""How a ``.tflite`` wants its pixels: what its TFLite metadata say, ``(pixel - mean) / std``.

The tables are those of ``metadata_schema.fbs`` (TensorFlow Lite Support, identifier ``M001``); see
:mod:`keras_transfer.export.metadata`, which writes them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table

ENTRY = b"TFLITE_METADATA"
# Slots of the schema's tables.
_SUBGRAPHS, _INPUTS, _PROCESS_UNITS = 3, 2, 4
_KIND, _OPTIONS, _MEAN, _STD = 0, 1, 0, 1
_NORMALIZATION = 1


@dataclass(frozen=True)
class Normalization:
    """What is done to pixels in [0, 255] before a tensor takes them: ``(pixel - mean) / std``.

    Attributes:
        mean: one number, or one a channel.
        std: likewise; none is 0.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def to_range(cls, low: float, high: float) -> Normalization:
        """That which makes 0 to 255 into ``low`` to ``high``."""
        std = 255 / (high - low)
        return cls((0.0 - low * std,), (std,))

    @property
    def range(self) -> tuple[float, float]:
        """What becomes of 0 and of 255, in the first channel."""
        return tuple((value - self.mean[0]) / self.std[0] for value in (0.0, 255.0))  # type: ignore[return-value]

    @property
    def plain(self) -> bool:
        """Whether pixels are taken as they are."""
        return not any(self.mean) and set(self.std) == {1.0}

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels ``(..., 3)`` in [0, 255] as they are wanted: float32, or themselves where nothing is to be done."""
        if self.plain:
            return pixels
        mean, std = (np.asarray(numbers, np.float32) for numbers in (self.mean, self.std))
        return (pixels.astype(np.float32) - mean) / std


PLAIN = Normalization()


def normalization_of(content: bytes) -> Normalization:
    """What a ``.tflite`` says of its first input; :data:`PLAIN` where it says nothing that can be read."""
    try:
        return _read(content)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError):  # no metadata that we know
        return PLAIN


def _read(content: bytes) -> Normalization:
    model = schema.Model.GetRootAs(content, 0)
    entries = (model.Metadata(place) for place in range(model.MetadataLength()))
    buffer = next((entry.Buffer() for entry in entries if entry.Name() == ENTRY), None)
    if buffer is None:
        return PLAIN
    data = model.Buffers(buffer).DataAsNumpy().tobytes()
    root = Table(data, struct.unpack_from("<I", data)[0])
    source = _tables(_tables(root, _SUBGRAPHS)[0], _INPUTS)[0]
    for unit in _tables(source, _PROCESS_UNITS):
        if unit.Get(number_types.Uint8Flags, unit.Pos + unit.Offset(4 + 2 * _KIND)) == _NORMALIZATION:
            options = Table(data, unit.Indirect(unit.Pos + unit.Offset(4 + 2 * _OPTIONS)))
            found = Normalization(_floats(options, _MEAN), _floats(options, _STD))
            if {len(found.mean), len(found.std)} <= {1, 3} and all(found.std):
                return found
    return PLAIN


def _tables(table: Table, slot: int) -> list[Table]:
    """The tables of a vector; none where the field is missing."""
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * place)) for place in range(table.VectorLen(offset))]


def _floats(table: Table, slot: int) -> tuple[float, ...]:
    """The numbers of a vector; none where the field is missing."""
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return ()
    start = table.Vector(offset)
    return struct.unpack_from(f"<{table.VectorLen(offset)}f", table.Bytes, start)
