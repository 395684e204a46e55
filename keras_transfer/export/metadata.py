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
from keras_transfer.normalization import ENTRY, PLAIN, Normalization

LABELS = "labels.txt"
IDENTIFIER = b"M001"
PARSER = "1.0.0"

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first day: the same model gives the same bytes
# Values of the schema's enumerations.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_RGB, _GREY = 1, 2
_NORMALIZATION, _AXIS_LABELS = 1, 2
_FEATURES = (_FEATURE_PROPERTIES, None)
"""Content of plain numbers, whose table has no fields."""


def describe_model(
    content: bytes,
    labels: Sequence[str],
    *,
    size: tuple[int, int],
    name: str,
    description: str,
    kind: str = "probabilities",
    normalization: Normalization = PLAIN,
) -> bytes:
    """Add metadata and the outputs' names to a model.

    Args:
        content: a ``.tflite`` of one output and one input: ``(B, H, W, 3)``, RGB as ``normalization`` scales it; or
            ``(B, N)`` numbers that an image is made from.
        labels: the names of the outputs (classes, targets, channels), in the order of the output's last axis.
        size: (height, width) of the image in pixels.
        name: of the model.
        description: for people, one or two sentences.
        kind: what the outputs are: ``probabilities``, ``values``, ``embeddings``, ``images`` ... It is the output's
            name.
        normalization: what clients must do to pixels in [0, 255]; as a rule, nothing.

    Returns:
        The file with metadata; the model in it computes the same as before. Pixels and probabilities carry their range,
        and pixels that are no plain bytes the normalization that clients ask for.

    Raises:
        ExportError: the model has not one input and one output.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ExportError(
            f"The model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; metadata describe one of each."
        )
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    tables = _Tables()
    if len(source.shape) == 4:
        given = _pixels(tables, size, source.type == schema.TensorType.FLOAT32, normalization)
    else:
        given = _tensor(
            tables, "numbers", f"{source.shape[-1]} numbers that an image is made from.", _FEATURES
        )
    file = tables.table(
        {
            0: tables.text(LABELS),
            1: tables.text("The names of the outputs, one per line, in the order of the last axis."),
            2: ("byte", _AXIS_LABELS),
        }
    )
    answer = _answer(tables, kind, [int(one) for one in target.shape], tables.vector([file]))
    whole = tables.table(
        {
            0: tables.text(name),
            1: tables.text(description),
            3: tables.vector(
                [tables.table({0: tables.text(name), 2: tables.vector([given]), 3: tables.vector([answer])})]
            ),
            7: tables.text(PARSER),
        }
    )
    add_metadata(model, ENTRY, tables.finish(whole))
    return _attach(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), labels)


def add_metadata(model: Any, name: bytes, data: bytes) -> None:
    """Add a named buffer to a model's list of metadata."""
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = name, len(model.buffers)
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers = [*model.buffers, buffer]
    model.metadata = [*(model.metadata or []), entry]


def attached_labels(content: bytes) -> tuple[str, ...] | None:
    """The labels attached to a ``.tflite``, or None when it carries none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(LABELS).decode("utf-8")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return None
    return tuple(text.splitlines())


def _pixels(tables: _Tables, size: tuple[int, int], is_float: bool, normalization: Normalization) -> int:
    """The input: an image, its pixels fed as (pixel - mean) / std."""
    options = tables.table({0: tables.floats(normalization.mean), 1: tables.floats(normalization.std)})
    unit = tables.table({0: ("ubyte", _NORMALIZATION), 1: options})
    low, high = normalization.range
    text = f"RGB pixels from {low:g} to {high:g}, {size[0]} high and {size[1]} wide."
    content = _image(tables, size, _RGB)
    units = [unit] if is_float or not normalization.plain else []
    return _tensor(tables, "image", text, content, (low, high), tables.vector(units))


def _answer(tables: _Tables, kind: str, shape: Sequence[int], files: int) -> int:
    """The output, by what its numbers are."""
    count = shape[-1]
    if kind == "probabilities":
        text = f"The probability of each of the {count} classes{', in each pixel' * (len(shape) == 4)}."
        return _tensor(tables, kind, text, None, (0.0, 1.0), files=files)
    if kind == "images" and len(shape) == 4 and count in (1, 3):
        content = _image(tables, (shape[1], shape[2]), _RGB if count == 3 else _GREY)
        return _tensor(tables, kind, "An image, levels from 0 to 255.", content, (0.0, 255.0), files=files)
    text = f"An embedding of {count} numbers." if kind == "embeddings" else f"{count} numbers."
    return _tensor(tables, kind, text, _FEATURES, files=files)


def _image(tables: _Tables, size: tuple[int, int], colours: int) -> tuple[int, int]:
    """Which kind of content an image is, and the table that says how large."""
    whole = tables.table({0: ("uint", size[1]), 1: ("uint", size[0])})
    return _IMAGE_PROPERTIES, tables.table({0: ("byte", colours), 1: whole})


def _tensor(
    tables: _Tables,
    name: str,
    text: str,
    content: tuple[int, int | None] | None,
    reach: tuple[float, float] | None = None,
    units: int | None = None,
    files: int | None = None,
) -> int:
    """What is said of a tensor: ``content`` is a kind and its table; its numbers are within ``reach``."""
    kind, properties = content or (0, None)
    if kind and properties is None:
        properties = tables.table({})
    return tables.table(
        {
            0: tables.text(name),
            1: tables.text(text),
            3: tables.table({0: ("ubyte", kind), 1: properties}) if kind else None,
            4: tables.vector([]) if units is None else units,
            5: reach and tables.table({0: tables.floats(reach[1:]), 1: tables.floats(reach[:1])}),
            6: files,
        }
    )


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
        builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in fields.items():
            if isinstance(value, tuple):
                number[value[0]](slot, value[1], 0)
            elif value is not None:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def finish(self, root: int) -> bytes:
        self._builder.Finish(root, IDENTIFIER)
        return bytes(self._builder.Output())
