"""Images with a table beside them, as Hugging Face's ``imagefolder`` has it: ``metadata.csv`` or ``metadata.jsonl``.

A table names its images relative to its own folder (``file_name``); several of them, such as ``train/metadata.csv`` and
``test/metadata.csv``, are the splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from keras_transfer.data.assemble import Rows
from keras_transfer.data.csv_columns import PATHS, columns_of
from keras_transfer.data.csv_reading import open_csv, require_utf8
from keras_transfer.data.entries import Entry, Label, require_found, rows_of, split_of_path
from keras_transfer.data.folder import Found, tell_left_out
from keras_transfer.data.labels import guess_label_mode
from keras_transfer.data.split_names import split_of
from keras_transfer.data.table import Skipped
from keras_transfer.errors import DataError

TABLES = ("metadata.csv", "metadata.jsonl", "_classes.csv")
_UNTOLD = "not in the metadata"


def tables_in(found: Found) -> list[str]:
    """The metadata tables among the files of a folder."""
    return [name for name in found.others if PurePosixPath(name).name in TABLES]


def read_metadata(
    root: Path, found: Found, source: str, label_mode: str, classes: Sequence[str] | None, separator: str
) -> Rows:
    """Rows of the images that the tables of a folder name; the others are noted as skipped.

    Raises:
        DataError: a table is damaged, has no ``file_name`` or no label, or names no image that is there.
    """
    entries: dict[str, Entry] = {}
    for table in tables_in(found):
        near = table.rpartition("/")[0]
        for entry in _entries(root / table, near, label_mode, separator):
            first = entries.setdefault(entry.name, entry)
            if first.label != entry.label:
                raise DataError(
                    f"{entry.name!r} has the label {first.label!r} in {first.place} and {entry.label!r} in "
                    f"{entry.place}. Keep one row."
                )
    listed = list(entries.values())
    require_found(listed, found.images, tables_in(found)[0], root)
    left = [Skipped(str(root / name), _UNTOLD, counted=False) for name in found.images if name not in entries]
    tell_left_out(root, left)
    return rows_of(listed, root, source, label_mode=label_mode, classes=classes, skipped=left)


def read_jsonl(path: Path, root: Path, label_mode: str, classes: Sequence[str] | None) -> Rows:
    """Rows of a JSON Lines file by itself: ``{"file_name": ..., "label": ...}`` a line."""
    entries = list(_jsonl(path, ""))
    if not entries:
        raise DataError(f"{path} has no lines. Expected one for each image.")
    return rows_of(entries, root, str(path), label_mode=label_mode, classes=classes)


def _entries(table: Path, near: str, label_mode: str, separator: str) -> Iterator[Entry]:
    if table.suffix == ".jsonl":
        yield from _jsonl(table, near)
        return
    file = open_csv(table, (*PATHS, "label"))
    columns = columns_of(file, separator, label_mode)
    rows = list(file.rows())
    texts = [columns.label(values) for _, values in rows]
    mode = columns.mode(texts, label_mode, [place for place, _ in rows])
    if mode == "auto":
        mode = guess_label_mode(texts, columns.separator)
    for (place, values), text in zip(rows, texts, strict=True):
        require_utf8("".join(values.values()), place)
        parts = [part.strip() for part in text.split(columns.separator) if part.strip()]
        label: Label | None = text or None
        if mode == "regression":
            label = tuple(map(_number, parts))
        elif mode != "classes":
            label = tuple(parts)
        yield _entry(values[columns.path], label, values.get("split", ""), place, near)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text  # told with its place where numbers are needed


def _jsonl(path: Path, near: str) -> Iterator[Entry]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                place = f"line {number} of {path}"
                try:
                    values = json.loads(line)
                except ValueError as error:
                    raise DataError(f"There is no JSON object in {place}: {error}.") from error
                if not isinstance(values, dict):
                    raise DataError(f"There is no JSON object in {place}. Expected one for each image.")
                told = next((values[name] for name in PATHS if isinstance(values.get(name), str)), None)
                if told is None or "label" not in values:
                    lacking = "label" if told is not None else "file_name"
                    raise DataError(
                        f"There is no {lacking!r} in {place}, but {', '.join(map(repr, values)) or 'nothing'}. "
                        "Expected file_name and label."
                    )
                yield _entry(
                    told, _label(values["label"], place), str(values.get("split") or ""), place, near
                )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _label(value: Any, place: str) -> Label | None:
    if isinstance(value, list):
        return (
            tuple(value)
            if all(isinstance(part, (str, int, float)) for part in value)
            else _refuse(value, place)
        )
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, (str, int, float)):
        return value if value != "" else None
    return _refuse(value, place)


def _refuse(value: Any, place: str) -> Any:
    raise DataError(f"The label {value!r:.80} in {place} is neither text, nor a number, nor a list of them.")


def _entry(told: str, label: Label | None, split: str, place: str, near: str) -> Entry:
    told = told.strip().replace("\\", "/").removeprefix("./")
    if not told or told.startswith("/") or ".." in told.split("/"):
        raise DataError(f"The file name {told!r} in {place} is no path below the folder of its table.")
    name = f"{near}/{told}" if near else told
    if split and split_of(split) is None:
        raise DataError(f"Unknown split {split!r} in {place}. Expected train, val or test.")
    return Entry(name, label, place, split_of(split) or split_of_path(name) if split else split_of_path(name))


def tells_labels(root: Path, found: Found) -> bool:
    """Whether the tables of a folder are what its labels come from.

    Not where the first one has no label and the images lie in class folders: it then tells something else of them.
    """
    tables = tables_in(found)
    if not tables:
        return False
    path = root / tables[0]
    try:
        with path.open("rb") as file:
            first = file.readline(1 << 20)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    nested = any(split_of(part) is None for name in found.images for part in PurePosixPath(name).parts[:-1])
    return b"label" in first.lower() or not nested
