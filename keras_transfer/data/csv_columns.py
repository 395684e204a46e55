"""What the columns of a CSV mean: one label column, several of them, or a column of 0 and 1 for every class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keras_transfer.data.csv_reading import CsvFile
from keras_transfer.errors import DataError

PATHS = ("path", "file_name", "filename")
KNOWN = frozenset({*PATHS, "label", "split", "group", "weight", "sha256", "kind"})
JOINT = "\x1f"
"""Between the labels of several columns; no name has it."""
_NUMBERED = re.compile(r"(label|class|category|tag|target)[ _.-]?\d+")
_FLAGS = {
    **dict.fromkeys(("", "0", "0.0", "0,0", "false", "no"), False),
    **dict.fromkeys(("1", "1.0", "1,0", "true", "yes"), True),
}
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_SHOWN = 5


@dataclass(frozen=True)
class Columns:
    """How the label of a row is told.

    Attributes:
        path: the column with the image's path.
        labels: the columns with labels.
        one_hot: the columns are classes, their values 0 and 1.
        titles: of the columns, as they are written.
        separator: between the labels that :meth:`label` joins.
        decimal_comma: numbers are written with a comma.
    """

    path: str
    labels: tuple[str, ...]
    one_hot: bool
    titles: dict[str, str]
    separator: str
    decimal_comma: bool = False

    def label(self, values: dict[str, str]) -> str:
        """The label of a row as one text."""
        if self.one_hot:
            return JOINT.join(
                self.titles[name] for name in self.labels if _FLAGS[values[name].strip().lower()]
            )
        told = [values[name].strip() for name in self.labels]
        text = told[0] if len(told) == 1 else JOINT.join(filter(None, told))
        return text.replace(",", ".") if self.decimal_comma else text

    def mode(self, texts: Iterable[str], label_mode: str, places: Iterable[str]) -> str:
        """The label mode of the joined texts, where several columns settle it."""
        if len(self.labels) == 1 or label_mode not in ("auto", "classes"):
            return label_mode
        single = True
        for text, place in zip(texts, places, strict=True):
            count = len(text.split(JOINT)) if text else 0
            single = single and count == 1
            if label_mode == "classes" and count != 1:
                names = ", ".join(self.titles[name] for name in self.labels[:_SHOWN])
                raise DataError(
                    f"{count} of the columns {names} give {place} a label; expected one class an image. Use --task "
                    "multilabel, or correct the row."
                )
        if self.one_hot:
            return "classes" if single else "multilabel"
        return label_mode


def columns_of(file: CsvFile, separator: str, label_mode: str) -> Columns:
    """Find out, from the first line and, where that does not settle it, from all values.

    Raises:
        DataError: no path, no label, or labels in two forms at once.
    """
    path = next((name for name in PATHS if name in file.columns), None)
    numbered = tuple(name for name in file.columns if _NUMBERED.fullmatch(name))
    single = "label" in file.columns
    titles = dict(zip(file.columns, file.titles, strict=True))
    if single and numbered:
        raise DataError(
            f"{file.path} has a column 'label' and the columns {_listed(numbered)}: labels in two forms at once. Keep "
            "one form."
        )
    if path is None or not (single or len(numbered) > 1):
        flags = _flags(file, path) if path is not None else ()
        if path is None or len(flags) < 2:
            raise DataError(_missing(file, path, single))
        return Columns(path, flags, True, titles, JOINT)
    labels = ("label",) if single else numbered
    between = separator if single else JOINT
    if file.delimiter == "," and len({*file.columns} - {*KNOWN, *labels, ""}) < 2:
        return Columns(path, labels, False, titles, between)
    return _settled(file, Columns(path, labels, False, titles, between), label_mode)


def _settled(file: CsvFile, columns: Columns, label_mode: str) -> Columns:
    """With a look at all values: decimal commas, and classes that have columns of their own, too."""
    others = [name for name in file.columns if name and name not in KNOWN and name not in columns.labels]
    flags, texts = dict.fromkeys(others, True), set()
    for _, values in file.rows():
        texts.add(columns.label(values))
        for name in others:
            flags[name] = flags[name] and values[name].strip().lower() in _FLAGS
    parts = {part.strip() for text in texts for part in text.split(columns.separator)}
    named = {columns.titles[name] for name in others if flags[name]} & parts
    if len(named) > 1 and parts <= {*named, ""}:
        raise DataError(
            f"{file.path} has a column {columns.labels[0]!r} and columns of 0 and 1 for its classes "
            f"({_listed(sorted(named))}): labels in two forms at once. Keep one form."
        )
    comma = (
        file.delimiter != ","
        and label_mode in ("auto", "regression")
        and any("," in part for part in parts)
        and all(_NUMBER.fullmatch(part) for part in parts)
    )
    return Columns(columns.path, columns.labels, False, columns.titles, columns.separator, comma)


def _flags(file: CsvFile, path: str) -> tuple[str, ...]:
    """The columns that hold nothing but 0 and 1, of which at least one is 1 somewhere."""
    others = [name for name in file.columns if name and name not in KNOWN and name != path]
    flags, used = dict.fromkeys(others, True), dict.fromkeys(others, False)
    for _, values in file.rows():
        for name in others:
            value = _FLAGS.get(values[name].strip().lower())
            flags[name] = flags[name] and value is not None
            used[name] = used[name] or bool(value)
    return tuple(name for name in others if flags[name] and used[name])


def _missing(file: CsvFile, path: str | None, single: bool) -> str:
    missing = [name for name, there in (("path", path is not None), ("label", single)) if not there]
    return (
        f"{file.path} has no column {' and no column '.join(map(repr, missing))}. Found: "
        f"{', '.join(map(repr, file.columns))}. Expected path,label and optionally split,group,weight, "
        f"separated by commas (or semicolons, or tabs); or path and a column of 0 and 1 for every class."
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
