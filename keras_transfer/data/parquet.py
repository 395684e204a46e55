"""Parquet shards with a column of images, as Hugging Face data sets have them; their library is not needed.

An image is a struct of ``bytes`` and ``path`` (or plain bytes). The classes' names are in the schema's metadata, under
``huggingface``: ``{"info": {"features": {"label": {"names": [...], "_type": "ClassLabel"}}}}``. The encoded images are
unpacked once, byte for byte, beside a ``labels.jsonl``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from keras_transfer.data.assemble import Rows
from keras_transfer.data.entries import Entry, rows_of
from keras_transfer.data.file_kinds import suffix_of
from keras_transfer.data.shard_names import shard_splits
from keras_transfer.data.table import Skipped
from keras_transfer.data.unpacking import unpacked
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")

LABELS = "labels.jsonl"
NO_IMAGE = "no image"
_BATCH = 64
_USUAL = ("label", "labels", "fine_label", "class", "category", "target")


@dataclass(frozen=True)
class Columns:
    """What is read of a table: names of columns, and of the classes in the order of their numbers (() if unknown)."""

    image: str
    label: str
    names: tuple[str, ...]
    complaint: str = field(default="", compare=False)
    """Why there is no ``label``: said to those who need one."""


def read_parquet(
    shards: Sequence[Path], root: Path, source: str, label_mode: str, classes: Sequence[str] | None
) -> Rows:
    """Rows of parquet shards; the splits are in their names, as on the Hub (``train-00000-of-00002.parquet``).

    Args:
        shards: the files, below ``root``. Of a single file the name says nothing: its rows are dealt out.
        source: for messages.
        label_mode, classes: as for :func:`keras_transfer.data.load_data`.

    Raises:
        UsageError: pyarrow is missing. DataError: damaged; no column of images, or of labels; several images a row.
        CacheError: the cache cannot be written.
    """
    columns = _columns(shards)
    if columns.complaint:
        raise DataError(columns.complaint)
    folder = unpack_parquet(shards, root)
    splits = shard_splits(shards, root, source)
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    numbered = False
    with (folder / LABELS).open(encoding="utf-8") as lines:
        for line in lines:
            shard, row, name, value = json.loads(line)
            place = f"row {row} of {shards[shard]}"
            if name is None:
                skipped.append(Skipped(place, value))
                continue
            if name.startswith("//"):
                name = (Path(shards[shard]).parent / name[2:]).absolute().as_posix()
            label = _label(value, columns, place)
            numbered = numbered or isinstance(label, int)
            entries.append(Entry(name, label, place, splits[shard]))
    if not entries:
        raise DataError(
            f"Not one of the {len(skipped)} rows of {source} has an image. Nothing can be done with it."
        )
    if numbered and label_mode in ("auto", "classes"):
        logger.warning(
            "The column %r of %s holds numbers and no class names: the numbers are the names of the classes",
            *(columns.label, source),
        )
    return rows_of(
        entries, folder, source, label_mode=label_mode, classes=classes, order=columns.names, skipped=skipped
    )


def unpack_parquet(shards: Sequence[Path], root: Path) -> Path:
    """The folder with the images of shards, ``SHARD/ROW.jpg``, and ``labels.jsonl``: ``[shard, row, name, label]``.

    Where there is no image, ``name`` is null and ``label`` the reason.
    """
    columns = _columns(shards)

    def fill(folder: Path) -> None:
        with (folder / LABELS).open("w", encoding="utf-8") as lines:
            for number, shard in enumerate(shards):
                inside = folder / f"{number:05d}"
                inside.mkdir()
                for row, (image, label) in enumerate(_rows(shard, columns)):
                    stored = _stored(image, inside, row, shard)
                    told = NO_IMAGE if stored is None else label
                    lines.write(json.dumps([number, row, stored, told]) + "\n")

    return unpacked(shards, [shard.relative_to(root).as_posix() for shard in shards], "parquet", fill)


def _columns(shards: Sequence[Path]) -> Columns:
    """The image and the label; ``DataError`` where they cannot be told, or shards differ."""
    found = _columns_of(shards[0])
    for shard in shards[1:]:
        if (other := _columns_of(shard)) != found:
            raise DataError(
                f"{shard} has the columns {other.image!r} and {other.label!r} ({len(other.names)} classes), "
                f"{shards[0]} {found.image!r} and {found.label!r} ({len(found.names)} classes). Shards of "
                "one data set have one schema: give them one by one."
            )
    return found


def _columns_of(path: Path) -> Columns:
    arrow = _pyarrow()
    with _opened(path) as file:
        schema = file.schema_arrow
    features = _features(schema.metadata)
    images, several = [], []
    for column in schema:
        if _holds_image(arrow, column.type):
            images.append(column.name)
        elif arrow.types.is_list(column.type) and _holds_image(arrow, column.type.value_type):
            several.append(column.name)
    listed = ", ".join(f"{column.name}: {column.type}" for column in schema)
    if not images and several:
        raise DataError(
            f"The column {several[0]!r} of {path} has several images a row; expected one. Write one row for each image."
        )
    if not images:
        raise DataError(
            f"{path} has no column of images ({listed}). Expected a struct of bytes and path, or binary, as "
            "Hugging Face's Image feature writes it."
        )
    image = images[0] if len(images) == 1 else "image" if "image" in images else ""
    if not image:
        raise DataError(
            f"{path} has several columns of images ({', '.join(images)}). Call the one to be used 'image'."
        )
    others = [name for name in schema.names if name not in (*images, *several)]
    named = [name for name in others if _class_names(features.get(name))]
    label = next((name for name in _USUAL if name in (named or others)), "")
    label = label or (named[0] if len(named) == 1 else others[0] if len(others) == 1 and not named else "")
    if label:
        return Columns(image, label, _class_names(features.get(label)))
    told = (
        f"several columns of labels ({', '.join(named)})"
        if named
        else f"no column of labels that can be told ({listed})"
    )
    return Columns(image, "", (), f"{path} has {told}. Call the one to be used 'label'.")


def _holds_image(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_struct(kind):
        return {part.name for part in kind} >= {"bytes", "path"}
    return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(feature: Any) -> tuple[str, ...]:
    """Of a ClassLabel, or of a list of them (``{"feature": ...}``, or ``[...]`` in old files); else ()."""
    while isinstance(feature, (dict, list)):
        inner = feature[0] if isinstance(feature, list) and feature else None
        if isinstance(feature, dict):
            if feature.get("_type") == "ClassLabel":
                names = feature.get("names")
                return tuple(map(str, names)) if isinstance(names, list) else ()
            inner = feature.get("feature")
        feature = inner
    return ()


def _rows(path: Path, columns: Columns) -> Iterator[tuple[Any, Any]]:
    arrow = _pyarrow()
    try:
        with _opened(path) as file:
            for batch in file.iter_batches(
                _BATCH, columns=list(filter(None, (columns.image, columns.label)))
            ):
                found = batch.to_pydict()
                yield from zip(
                    found[columns.image], found.get(columns.label) or [None] * len(batch), strict=True
                )
    except (arrow.ArrowException, OSError) as error:
        raise DataError(_damaged(path, error)) from error


def _stored(image: Any, folder: Path, row: int, shard: Path) -> str | None:
    """Write an image's bytes; its name below the folder above. Of a file that is only named, ``//`` and that name: the
    cache knows contents, and not where the shard lies.

    None: there is no image.
    """
    content = image.get("bytes") if isinstance(image, dict) else image
    told = (image.get("path") if isinstance(image, dict) else None) or ""
    if content:
        path = folder / f"{row:07d}{suffix_of(content) or PurePosixPath(told).suffix.lower() or '.img'}"
        path.write_bytes(content)
        return f"{folder.name}/{path.name}"
    if told:
        return f"//{told}"
    return None


def _label(value: Any, columns: Columns, place: str) -> Any:
    """A class's name, several, or numbers; None where there is none."""
    if value is None or (isinstance(value, int) and columns.names and value < 0):  # -1 stands for "withheld"
        return None
    if isinstance(value, list):
        return tuple(_label(part, columns, place) for part in value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DataError(f"The label {value!r:.80} in {place} is neither a number nor a text.")
    if isinstance(value, int) and columns.names:
        if value >= len(columns.names):
            raise DataError(
                f"The label {value} in {place} is none of the {len(columns.names)} classes that the metadata names."
            )
        return columns.names[value]
    return value


def _opened(path: Path) -> Any:
    arrow = _pyarrow()
    try:
        return arrow.parquet.ParquetFile(path, pre_buffer=False)  # else it holds everything that was read
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}. Give an existing one.") from error
    except (arrow.ArrowException, OSError) as error:
        raise DataError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as Parquet ({' '.join(str(error).split())}). Copy or download it again."


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'keras-transfer[parquet]'.") from error
    return pyarrow
