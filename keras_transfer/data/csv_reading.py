"""The lines of a CSV as programs and regions write it: separators, encodings, a mark at its beginning."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from keras_transfer.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAYS_IT = re.compile(r"sep=(.)\s*")
"""What Excel understands in a first line."""


@dataclass(frozen=True)
class CsvFile:
    """A CSV whose first line has been read.

    Attributes:
        columns: names in lower case, in order.
        titles: the same as they are written.
        delimiter: what stands between two values.
        first: lines before the header that are passed over.
    """

    path: Path
    columns: tuple[str, ...]
    titles: tuple[str, ...]
    delimiter: str
    encoding: str
    first: int = 0

    @property
    def separated_by(self) -> str:
        """``commas``, ``semicolons``, ..."""
        return _NAMES[self.delimiter]

    def rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        """``(place, {column: value})`` of every line that is not empty; ``DataError`` for a damaged one."""
        return ((line_of(line, self.path), values) for line, values in self.lines())

    def lines(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The same with the line's number."""
        reader = None
        try:
            with _text(self.path, self.encoding) as file:
                reader = csv.reader(file, strict=True, delimiter=self.delimiter)
                for _ in range(self.first + 1):
                    next(reader)
                for fields in reader:
                    if not any(field.strip() for field in fields):
                        continue
                    if len(fields) != len(self.columns):
                        place = line_of(reader.line_num, self.path)
                        raise DataError(
                            f"There are {len(fields)} values in {place}, and {len(self.columns)} columns, separated by "
                            f"{self.separated_by}. Put values that contain {self.delimiter!r} into double quotes."
                        )
                    yield reader.line_num, dict(zip(self.columns, fields, strict=True))
        except csv.Error as error:
            line = 0 if reader is None else reader.line_num
            raise DataError(f"{self.path} is not a CSV: {error} (line {line}).") from error
        except UnicodeError as error:
            raise DataError(f"{self.path} is cut off, or not in UTF-16. Save it as UTF-8.") from error
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}.") from error


def line_of(number: int, path: Path) -> str:
    """``line 7 of labels.csv``."""
    return f"line {number} of {path}"


def open_csv(path: Path, known: Sequence[str]) -> CsvFile:
    """Read the first line.

    Args:
        path: UTF-8, with or without a byte-order mark, or UTF-16 with one.
        known: names of columns of which one at least is expected: the sign that separates them is the separator.

    Raises:
        DataError: it cannot be read, is empty or not UTF-8, or names a column twice.
    """
    try:
        with path.open("rb") as file:
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with _text(path, encoding) as file:
            lines = [file.readline(), file.readline()]
    except UnicodeError as error:
        raise DataError(f"{path} is cut off, or not in UTF-16. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    told = _SAYS_IT.fullmatch(lines[0])
    first = 1 if told and told[1] in DELIMITERS else 0
    delimiter, titles = _header(lines[first], path, (told[1],) if first and told else DELIMITERS, known)
    columns = tuple(title.lower() for title in titles)
    require_utf8("".join(titles), f"line {1 + first} of {path}")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice. Remove one.")
    return CsvFile(path, columns, titles, delimiter, encoding, first)


def _header(line: str, path: Path, signs: Sequence[str], known: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    reason = ""
    for sign in signs:
        try:
            titles = next(csv.reader(io.StringIO(line, newline=""), strict=True, delimiter=sign), [])
        except csv.Error as error:
            reason = reason or str(error)  # perhaps of a sign that does not separate these quoted names
            continue
        found.append((sign, tuple(title.strip() for title in titles)))
    if not found:
        raise DataError(f"{path} is not a CSV: {reason} (line 1).")
    if not found[0][1]:
        raise DataError(f"{path} is empty. Expected a first line 'path,label' and one row for each image.")
    return next(
        (one for one in found if len(one[1]) > 1 and {title.lower() for title in one[1]} & set(known)),
        found[0],
    )


def require_utf8(text: str, place: str) -> None:
    """``DataError`` for text that was not valid UTF-8 in the file."""
    if any("\udc80" <= character <= "\udcff" for character in text):
        raise DataError(f"There are bytes that are not UTF-8 in {place}. Save the file as UTF-8.")


def _text(path: Path, encoding: str) -> TextIO:
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    return path.open(encoding=encoding, errors=errors, newline="")
