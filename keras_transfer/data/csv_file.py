"""A CSV source: ``path,label`` (or labels in several columns) and optionally ``split,group,weight``."""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from keras_transfer.data.assemble import Rows
from keras_transfer.data.csv_columns import PATHS, Columns, columns_of
from keras_transfer.data.csv_reading import CsvFile, line_of, open_csv, require_utf8
from keras_transfer.data.labels import encode_text
from keras_transfer.data.split_names import WORDS, split_of
from keras_transfer.data.table import LABEL_MODES, PathImages
from keras_transfer.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class _Row:
    """A line."""

    file: Path
    line: int
    name: str  # POSIX, relative to the root
    label: str
    split: str
    group: str
    weight: float
    label_mode: str

    @property
    def place(self) -> str:
        """``line 7 of labels.csv``."""
        return line_of(self.line, self.file)


class _Lines(Sequence[_Row]):
    """The rows of a CSV, column by column: there may be a million. A row is made when it is asked for."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.names: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.groups: list[str] = []
        self.kinds: list[str] = []
        self.weights = array("d")
        self.numbers = array("q")

    def add(self, row: _Row) -> None:
        """One more; texts that many rows have are kept once."""
        self.names.append(row.name)
        self.labels.append(sys.intern(row.label))
        self.splits.append(sys.intern(row.split))
        self.groups.append(sys.intern(row.group))
        self.kinds.append(sys.intern(row.label_mode))
        self.weights.append(row.weight)
        self.numbers.append(row.line)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: Any) -> Any:
        columns = (self.numbers, self.names, self.labels, self.splits, self.groups, self.weights, self.kinds)
        return _Row(self.file, *(column[i] for column in columns))


class _Places(Sequence[str]):
    """The places of rows, each made when it is asked for."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, i: Any) -> Any:
        return line_of(self._lines.numbers[i], self._lines.file)


def read_csv(
    path: Path, image_root: Path | None, label_mode: str, classes: Sequence[str] | None, separator: str = ";"
) -> Rows:
    """Rows of a CSV, separated by commas, semicolons, tabs or vertical bars; other columns are passed over.

    Args:
        path: the CSV. Its first line names the columns: ``path`` (or ``file_name``, ``filename``), and ``label``; or
            ``label_1``, ``label_2``, ...; or a column of 0 and 1 for every class.
        image_root: what relative paths are relative to; the CSV's folder by default. A path outside it,
            absolute or by ``..``, is refused.
        label_mode, classes, separator: as for :func:`keras_transfer.data.load_data`. A column ``kind``, which recorded
            splits have, settles ``auto``.

    Raises:
        UsageError: the file or the root is missing.
        DataError: a missing column, or a value that cannot be used; with its line.
    """
    root = path.parent if image_root is None else image_root
    for needed, what in ((path, "CSV file"), (root, "image root")):
        if not needed.exists():
            raise UsageError(f"There is no {what} {needed}. Give an existing one.")
    if not root.is_dir():
        raise UsageError(f"The image root {root} is not a folder.")
    file = open_csv(path, (*PATHS, "label"))
    columns = columns_of(file, separator, label_mode)
    rows = _without_duplicates(_parsed(file, columns, root), path)
    if not rows:
        raise DataError(f"{path} has no rows below its header. Expected one row for each image.")
    where = _Places(rows)
    kinds = set(rows.kinds)
    if label_mode == "auto" and len(kinds) == 1 and kinds <= set(LABEL_MODES):
        label_mode = kinds.pop()
    label_mode = columns.mode(rows.labels, label_mode, where)
    labels = encode_text(rows.labels, label_mode, classes, where, str(path), columns.separator)
    groups = None
    if any(rows.groups):  # a row without a group is a group of its own
        groups = np.array(
            [group or f"alone: {name}" for group, name in zip(rows.groups, rows.names, strict=True)]
        )
    return Rows(
        source=str(path),
        images=PathImages(root, tuple(rows.names)),
        labels=labels,
        splits=_splits(rows, path, fixed=classes is not None),
        groups=groups,
        weights=np.array(rows.weights, np.float32),
    )


def _parsed(file: CsvFile, columns: Columns, root: Path) -> Iterator[_Row]:
    base = os.path.abspath(root)  # noqa: PTH100  (normalises "..", keeps links)
    for line, values in file.lines():
        yield _row(values, line, base, columns, file)


def _row(values: dict[str, str], line: int, base: str, columns: Columns, file: CsvFile) -> _Row:
    place = line_of(line, file.path)
    require_utf8("".join(value for column, value in values.items() if column != columns.path), place)
    weight = values.get("weight", "").strip()
    split = values.get("split", "").strip()
    meaning = split_of(split)
    if split and meaning is None:
        raise DataError(f"Unknown split {split!r} in {place}. Expected one of {', '.join(WORDS)}.")
    return _Row(
        file=file.path,
        line=line,
        name=_name(values[columns.path], place, base),
        label=columns.label(values),
        split=meaning or "",
        group=values.get("group", "").strip(),
        weight=_weight(weight if file.delimiter == "," else weight.replace(",", "."), place),
        label_mode=values.get("kind", "").strip(),
    )


def _name(text: str, place: str, base: str) -> str:
    """The path relative to the root, without ``.`` and ``..``."""
    if not text.strip() or "\0" in text:
        raise DataError(f"The path is {'empty' if not text.strip() else 'impossible'} in {place}.")
    text = _portable(text, place, base)
    full = os.path.normpath(os.path.join(base, text))  # noqa: PTH118  (lexically: a link stays a link)
    if full == base or os.path.commonpath([full, base]) != base:
        raise DataError(
            f"The path {text!r} in {place} is outside the image root {base}. Use paths inside it, or give "
            "another root (image_root, --image-root)."
        )
    inside = os.path.relpath(full, base) if base == os.sep else full[len(base) + 1 :]
    return inside.replace(os.sep, "/")


def _portable(text: str, place: str, base: str) -> str:
    """A path as Windows writes it, as one of this system.

    Of an absolute one counts what follows the folder that has the name of the image root.
    """
    if "\\" not in text or os.sep == "\\" or os.path.lexists(os.path.join(base, text)):  # noqa: PTH118
        return text
    path = PureWindowsPath(text)
    if not path.anchor:
        return path.as_posix()
    folders, root = [part.casefold() for part in path.parts[:-1]], Path(base).name
    if root.casefold() not in folders:
        raise DataError(
            f"The path {text!r} in {place} is an absolute one of Windows, and no folder in it is called {root!r}, as "
            "the image root is. Use paths relative to that, or give another root (image_root, --image-root)."
        )
    last = len(folders) - 1 - folders[::-1].index(root.casefold())
    return "/".join(path.parts[last + 1 :])


def _weight(text: str, place: str) -> float:
    try:
        weight = float(text) if text else 1.0
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= float(np.finfo(np.float32).max):
        raise DataError(f"The weight {text!r} in {place} is not a finite number of at least 0.")
    return weight


def _without_duplicates(parsed: Iterator[_Row], path: Path) -> _Lines:
    """One row for each path; ``DataError`` when two rows of a path contradict each other."""
    lines, places = _Lines(path), dict[str, int]()
    for row in parsed:
        known = places.setdefault(row.name, len(lines))
        if known == len(lines):
            lines.add(row)
            continue
        first = lines[known]
        for column in ("label", "split", "group", "weight"):
            old, new = getattr(first, column), getattr(row, column)
            if old != new:
                raise DataError(
                    f"{row.name!r} has the {column} {old!r} in {first.place} and {new!r} in {row.place}. "
                    "Keep one row (several labels of one image are separated by ';')."
                )
    return lines


def _splits(rows: _Lines, path: Path, fixed: bool) -> np.ndarray | None:
    given = set(rows.splits)
    if given == {""}:
        return None
    if "" in given:
        place = rows[rows.splits.index("")].place
        raise DataError(f"The split is empty in {place}, and given in other rows. Fill all of them or none.")
    if "train" not in given and not fixed:
        raise DataError(
            f"{path} has splits ({', '.join(sorted(given))}) and no row of the train split. Add some."
        )
    return np.array(rows.splits, dtype="<U5")


def listed_paths(path: Path) -> list[Path]:
    """The images that a CSV lists in its column ``path``, relative to its folder or absolute; labels are passed over.

    Raises ``DataError``: there is no such column, no row, or a file that is not there.
    """
    file = open_csv(path, PATHS)
    column = next((name for name in PATHS if name in file.columns), None)
    if column is None:
        raise DataError(f"{path} has no column 'path'. A list of images names it in its first line.")
    base = str(path.parent.absolute())
    found = []
    for place, values in file.rows():
        if not values[column].strip():
            raise DataError(f"The path is empty in {place}.")
        one = path.parent / _portable(values[column], place, base)
        if not one.is_file():
            raise DataError(f"{one}, in {place}, is no file. Paths are relative to the list's folder.")
        found.append(one)
    if not found:
        raise DataError(f"{path} has no rows below its header. Expected one row for each image.")
    return list(dict.fromkeys(found))
