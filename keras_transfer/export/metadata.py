"""What a ``.tflite`` says about itself: TFLite metadata, with the labels attached.

Clients such as MediaPipe Tasks read from it how pixels are scaled and what the outputs are called. The tables follow
the public schema (``metadata_schema.fbs`` of TensorFlow Lite Support, identifier ``M001``); the labels are a zip entry
behind the model, as the format has it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.errors import ExportError

LABELS = "labels.txt"
ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
PARSER = "1.0.0"

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first day: the same model gives the same bytes
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION, _AXIS_LABELS = 2, 1, 1, 2  # values of the schema's enumerations


def has_metadata(kind: str, shape: tuple[int, ...]) -> bool:
    """Whether a model of such outputs carries metadata with labels: one probability a name, of the image or a pixel."""
    return kind == "probabilities" and len(shape) in (1, 3)


def describe_model(
    content: bytes,
    labels: Sequence[str],
    *,
    size: tuple[int, int],
    name: str,
    description: str,
) -> bytes:
    """Add metadata and labels to a model that gives every class a probability, in the image or in each pixel.

    Args:
        content: a ``.tflite`` of one input ``(B, H, W, 3)``, RGB in [0, 255], and one output ``(B, C)`` or
            ``(B, H, W, C)``.
        labels: the names of the ``C`` outputs, in order.
        size: (height, width) of the input in pixels.
        name: of the model.
        description: for people, one or two sentences.

    Returns:
        The file with metadata; the model in it computes the same as before.

    Raises:
        ExportError: the model has not one input and one output.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ExportError(
            f"The model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; metadata describe one of each."
        )
    source = graph.tensors[graph.inputs[0]]
    tables = _Tables()
    height, width = size
    image = tables.table({0: ("byte", _RGB), 1: tables.table({0: ("uint", width), 1: ("uint", height)})})
    pixels = tables.table(
        {
            0: tables.text("image"),
            1: tables.text(f"RGB pixels from 0 to 255, {height} high and {width} wide."),
            3: tables.table({0: ("ubyte", _IMAGE_PROPERTIES), 1: image}),
            4: tables.vector([_normalization(tables)] if source.type == schema.TensorType.FLOAT32 else []),
            5: tables.table({0: tables.floats([255.0]), 1: tables.floats([0.0])}),
        }
    )
    file = tables.table(
        {
            0: tables.text(LABELS),
            1: tables.text("The classes' names, a line each, in the order of the outputs."),
            2: ("byte", _AXIS_LABELS),
        }
    )
    probabilities = tables.table(
        {
            0: tables.text("probabilities"),
            1: tables.text(f"The probability of each of the {len(labels)} classes."),
            4: tables.vector([]),
            5: tables.table({0: tables.floats([1.0]), 1: tables.floats([0.0])}),
            6: tables.vector([file]),
        }
    )
    whole = tables.table(
        {
            0: tables.text(name),
            1: tables.text(description),
            3: tables.vector(
                [
                    tables.table(
                        {0: tables.text(name), 2: tables.vector([pixels]), 3: tables.vector([probabilities])}
                    )
                ]
            ),
            7: tables.text(PARSER),
        }
    )
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = ENTRY, len(model.buffers)
    buffer.data = np.frombuffer(tables.finish(whole), np.uint8)
    model.buffers = [*model.buffers, buffer]
    model.metadata = [*(model.metadata or []), entry]
    return _attach(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), labels)


def attached_labels(content: bytes) -> tuple[str, ...] | None:
    """The labels attached to a ``.tflite``, or None when it carries none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(LABELS).decode("utf-8")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return None
    return tuple(text.splitlines())


def _normalization(tables: _Tables) -> int:
    """Pixels are fed as they are: (pixel - 0) / 1."""
    options = tables.table({0: tables.floats([0.0]), 1: tables.floats([1.0])})
    return tables.table({0: ("ubyte", _NORMALIZATION), 1: options})


def _attach(content: bytes, labels: Sequence[str]) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), "".join(f"{name}\n" for name in labels))
    return file.getvalue()


class _Tables:
    """Writes flatbuffer tables from ``{slot: value}``: an offset, a (kind, number) pair, or None to leave it out."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> int:
        return self._builder.CreateString(value)

    def vector(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def floats(self, values: Sequence[float]) -> int:
        return self._builder.CreateNumpyVector(np.asarray(values, "<f4"))

    def table(self, fields: dict[int, Any]) -> int:
        builder = self._builder
        number = {
            "byte": builder.PrependInt8Slot,
            "ubyte": builder.PrependUint8Slot,
            "uint": builder.PrependUint32Slot,
        }
        builder.StartObject(max(fields) + 1)
        for slot, value in fields.items():
            if isinstance(value, tuple):
                number[value[0]](slot, value[1], 0)
            elif value is not None:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def finish(self, root: int) -> bytes:
        self._builder.Finish(root, IDENTIFIER)
        return bytes(self._builder.Output())
