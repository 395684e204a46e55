"""A shard: the files of one piece of the work and what became of each, a parquet file. For drivers and workers."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from keras_transfer.checking.pictures import SIDE, Picture, Pictures
from keras_transfer.data.table import PathImages
from keras_transfer.data.threads import ordered_map
from keras_transfer.hashing import sha256_of

FOLDER = "shards"
NAME = b"keras_transfer_shard"
"""Key of the schema's metadata: the name that the shard was written under."""
MISSING = -1
"""Size of a file that the driver did not find."""


@dataclass
class Seen:
    """What became of one file, in a worker.

    Attributes:
        sha256: of its bytes, where they could be used.
        reason: why they cannot; None: they can.
        deep: a PNG of 16 bits per value.
        values: float32, the network's answer.
        picture, small: how it looks, where that was asked.
    """

    name: str
    sha256: str | None
    reason: str | None
    deep: bool = False
    values: np.ndarray | None = field(default=None, repr=False)
    picture: Picture | None = None
    small: np.ndarray | None = field(default=None, repr=False)


def listed(images: PathImages) -> pyarrow.Table:
    """The manifest: ``name`` and ``path`` (bytes, as the system names them), ``size`` and ``mtime`` (ns) of files."""

    def one(i: int) -> tuple[int, int]:
        try:
            status = images.path(i).stat()
        except OSError:
            return MISSING, 0
        return status.st_size, status.st_mtime_ns

    found = list(ordered_map(one, range(len(images)), ahead=256))
    return pyarrow.table(
        {
            "name": pyarrow.array(
                [os.fsencode(images.name(i)) for i in range(len(images))], pyarrow.binary()
            ),
            "path": pyarrow.array(
                [os.fsencode(images.path(i).absolute()) for i in range(len(images))], pyarrow.binary()
            ),
            "size": pyarrow.array([size for size, _ in found], pyarrow.int64()),
            "mtime": pyarrow.array([mtime for _, mtime in found], pyarrow.int64()),
        }
    )


def pieces(manifest: pyarrow.Table, key: str, rows: int) -> Iterator[tuple[str, pyarrow.Table]]:
    """A manifest in shards of so many files: ``(name, files)``; a name tells all that its content depends on.

    ``key``: what of that the files do not tell: the network and the pixels.
    """
    for number, start in enumerate(range(0, len(manifest), rows)):
        piece = manifest.slice(start, rows)
        text = repr(
            (key, [list(row.values()) for row in piece.select(["name", "size", "mtime"]).to_pylist()])
        )
        name = f"{number:06d}-{sha256_of(text.encode())[:16]}.parquet"
        yield name, piece.append_column("shard", pyarrow.array([name] * len(piece)))


def packed(name: str, seen: Sequence[Seen], length: int) -> bytes:
    """A shard as parquet. The same files give the same bytes.

    Args:
        name: of the shard.
        seen: what became of its files.
        length: of ``values``.
    """
    values = np.zeros((len(seen), length), np.float32)
    for row, one in enumerate(seen):
        if one.values is not None:
            values[row] = one.values.ravel()
    columns: dict[str, Any] = {
        "path": [one.name for one in seen],
        "sha256": pyarrow.array([one.sha256 for one in seen], pyarrow.string()),
        "reason": pyarrow.array([one.reason for one in seen], pyarrow.string()),
        "deep": [one.deep for one in seen],
        "values": pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(values.ravel()), length, mask=pyarrow.array([one.values is None for one in seen])
        ),
    }
    if any(one.picture is not None for one in seen):
        facts = [None if one.picture is None else json.dumps(asdict(one.picture)) for one in seen]
        small = [None if one.small is None else one.small.tobytes() for one in seen]
        columns["facts"] = pyarrow.array(facts, pyarrow.string())
        columns["small"] = pyarrow.array(small, pyarrow.binary())
    table = pyarrow.table(columns).replace_schema_metadata({NAME: name.encode()})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def unpacked(name: str, content: bytes) -> pyarrow.Table:
    """The inverse of :func:`packed`, as a table. Raises ``ValueError`` for what is damaged or another shard."""
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"it is no whole parquet file ({' '.join(str(error).split())[:80]})") from error
    if (table.schema.metadata or {}).get(NAME) != name.encode():
        raise ValueError("it is another shard")
    return table


def values_of(table: pyarrow.Table) -> np.ndarray:
    """float32 ``(n, length)`` of the files that could be used, in order."""
    column = table.column("values").combine_chunks()
    length = column.type.list_size
    numbers = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    return numbers.astype(np.float32, copy=False).reshape(-1, length)


def pictures_of(tables: Sequence[pyarrow.Table]) -> Pictures:
    """How the files look that could be used, in order."""
    facts: list[Picture] = []
    small: list[np.ndarray] = []
    for table in tables:
        for text, pixels in zip(
            table.column("facts").to_pylist(), table.column("small").to_pylist(), strict=True
        ):
            if text is not None:
                told = json.loads(text)
                facts.append(Picture(**{**told, "colour": tuple(told["colour"])}))
                small.append(np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE))
    return Pictures(facts, np.stack(small) if small else np.empty((0, SIDE, SIDE), np.uint8))
