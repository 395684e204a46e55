"""From the text of a label column to arrays: classes, multilabel or regression."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_transfer.data.table import LABEL_MODES
from keras_transfer.errors import DataError, UsageError, unknown_name

logger = logging.getLogger("keras_transfer")

_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Labels:
    """``values`` as in :class:`ImageTable`; ``classes`` in output order, () for regression.

    ``fixed``: the caller gave the classes (a trained model's), so a class may be without images.
    """

    label_mode: str
    classes: tuple[str, ...]
    values: np.ndarray
    fixed: bool = False

    def take(self, rows: np.ndarray) -> Labels:
        """The labels of some rows."""
        return Labels(self.label_mode, self.classes, self.values[rows], self.fixed)

    def counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """int (C,): how many images each class has, among all rows or those of a mask; (0,) for regression."""
        values = self.values if rows is None else self.values[rows]
        if self.label_mode == "classes":
            return np.bincount(values, minlength=len(self.classes))
        return (
            values.sum(axis=0, dtype=np.int64) if self.label_mode == "multilabel" else np.zeros(0, np.int64)
        )


def require_label_mode(label_mode: str) -> str:
    """``auto`` or one of the label modes, or ``UsageError``."""
    if label_mode not in ("auto", *LABEL_MODES):
        raise unknown_name("label mode", str(label_mode), ("auto", *LABEL_MODES))
    return label_mode


def same_name_key(name: str) -> str:
    """Equal for names that differ only in case or in Unicode normalisation."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def require_distinct(names: Iterable[str], source: str) -> None:
    """``DataError`` when two class names differ only in case or in Unicode normalisation."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        by_key[same_name_key(name)].append(name)
    clashes = [same for same in by_key.values() if len(same) > 1]
    if clashes:
        text = "; ".join(
            " and ".join(ascii(n) if not n.isascii() else repr(n) for n in same) for same in clashes
        )
        raise DataError(
            f"Class names in {source} differ only in upper/lower case or Unicode form: {text}. "
            "On other file systems they are one. Merge or rename them."
        )


def guess_label_mode(texts: Sequence[str], separator: str = ";") -> str:
    """The mode ``label_mode="auto"`` stands for.

    ``regression`` when every part of every label is a number and at least one has a decimal point or an
    exponent (whole numbers stay class ids); else ``multilabel`` when a label has the separator; else ``classes``.
    """
    parts = [part.strip() for text in texts for part in text.split(separator)]
    numeric = bool(parts) and all(_NUMBER.fullmatch(part) for part in parts)
    if numeric and any("." in part or "e" in part.lower() for part in parts):
        return "regression"
    return "multilabel" if any(separator in text for text in texts) else "classes"


def encode_text(
    texts: Sequence[str],
    label_mode: str,
    classes: Sequence[str] | None,
    where: Sequence[str],
    source: str,
    separator: str = ";",
) -> Labels:
    """Turn label texts into arrays.

    Args:
        texts: one per row; several names or numbers are separated by ``separator``.
        label_mode: ``auto``, ``classes``, ``multilabel`` or ``regression``.
        classes: names and order to use, or None for the sorted names found.
        where: one per row, for messages ("row 7 of labels.csv").
        source: for messages.

    Raises:
        DataError: an empty or unknown label, a label that is no number, clashing names.
    """
    if label_mode == "auto":
        single = classes is not None and not any(separator in text for text in texts)
        label_mode = "classes" if single else guess_label_mode(texts, separator)
        logger.info("The labels of %s are read as %s", source, label_mode)
    if label_mode == "regression":
        if classes:
            raise UsageError(
                "classes were given for regression labels. Leave them out, or use label_mode='classes'."
            )
        return Labels(label_mode, (), _numbers(texts, where, separator))
    if label_mode == "classes":
        rows: list[tuple[str, ...]] = [(unicodedata.normalize("NFC", text.strip()),) for text in texts]
        for row, place in zip(rows, where, strict=True):
            if not row[0]:
                raise DataError(
                    f"The label is empty in {place}. Give every image a class, or remove the row."
                )
    else:
        rows = [
            tuple(
                dict.fromkeys(
                    unicodedata.normalize("NFC", p.strip()) for p in text.split(separator) if p.strip()
                )
            )
            for text in texts
        ]
    if classes is None:
        _doubt_separator(rows, label_mode, source)
    return encode_names(rows, label_mode, classes, where, source)


_SEPARATORS = (";", "|", ",", "+", "&", "/", " ")


def other_separator(names: Iterable[str]) -> str | None:
    """The sign that would make these names combinations of fewer names; None where no sign would.

    ``{"cat|dog", "cat", "cat|bird", "dog|bird"}`` are four names, and with ``|`` three.
    """
    distinct = set(names)
    best, fewest = None, len(distinct)
    for sign in _SEPARATORS:
        split = [[part.strip() for part in name.split(sign) if part.strip()] for name in distinct]
        parts = {part for row in split for part in row}
        if sum(len(row) > 1 for row in split) > 1 and len(parts) < fewest:
            best, fewest = sign, len(parts)
    return best


def _doubt_separator(rows: Sequence[tuple[str, ...]], label_mode: str, source: str) -> None:
    """``DataError`` for multilabel names that are combinations of others; a warning for classes that are."""
    names = {name for row in rows for name in row}
    sign = other_separator(names)
    if label_mode == "multilabel" and sign is None and all(len(row) < 2 for row in rows):
        logger.warning("No image of %s has two labels; --task classification knows that one is right", source)
    if sign is None:
        return
    examples = ", ".join(sorted(name for name in names if sign in name)[:3])
    told = f"The labels of {source} look like several names joined by {sign!r} ({examples})"
    if label_mode == "multilabel":
        raise DataError(f"{told}. Pass --separator {sign!r}, or rename the labels.")
    logger.warning("%s. For --task multilabel pass --separator %r", told, sign)


def encode_names(
    rows: Sequence[tuple[str, ...]],
    label_mode: str,
    classes: Sequence[str] | None,
    where: Sequence[str],
    source: str,
    default: Sequence[str] = (),
) -> Labels:
    """Turn class names (one per row for ``classes``) into arrays.

    ``classes`` (the caller's, fixed) or ``default`` (the source's own list) give the order; without both
    it is the sorted names found, by number where all of them are whole numbers.
    """
    found = {name for row in rows for name in row}
    require_distinct({*found, *default}, source)
    if classes is not None:
        names = require_classes(classes)
    else:
        whole = all(name.isascii() and name.isdecimal() for name in found)
        names = tuple(default) or tuple(sorted(found, key=lambda name: (int(name) if whole else 0, name)))
    index = {name: i for i, name in enumerate(names)}
    for row, place in zip(rows, where, strict=True):
        for name in row:
            if name not in index:
                raise DataError(
                    f"Unknown label {name!r} in {place}. Known: {_shown(names)}. Correct it, or leave it out."
                )
    if label_mode == "classes":
        values = np.array([index[row[0]] for row in rows], np.int32)
    else:
        values = np.zeros((len(rows), len(names)), np.uint8)
        for i, row in enumerate(rows):
            values[i, [index[name] for name in row]] = 1
    return Labels(label_mode, names, values, fixed=classes is not None)


def require_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The caller's class names, NFC, distinct; ``UsageError`` otherwise."""
    if isinstance(classes, str) or not classes or not all(isinstance(name, str) and name for name in classes):
        raise UsageError(f"classes is {classes!r}; expected a list of class names.")
    names = tuple(unicodedata.normalize("NFC", name) for name in classes)
    if len(set(names)) < len(names):
        raise UsageError(
            f"classes has a name twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}."
        )
    return names


def check_counts(
    labels: Labels, splits: np.ndarray | None, min_per_class: int, min_classes: int, source: str
) -> None:
    """Refuse data nothing can be learnt from.

    Args:
        labels: of the readable images.
        splits: as the user gave them, or None. With fixed classes only unknown labels matter, so
            nothing is checked here.
        min_per_class: the least number of images of each class.
        min_classes: the least number of classes.

    Raises:
        DataError: too few classes, a class with too few images, a class that is not in train.
    """
    if labels.label_mode == "regression" or labels.fixed:
        return
    counts = labels.counts()
    names = labels.classes
    if labels.label_mode == "classes" and len(names) < min_classes:
        raise DataError(
            f"{source} has only one class, {names[0]!r}; a classifier needs at least two. Add images of "
            "another class, or check that there is one folder (or label) for each class."
        )
    few = [f"{names[i]!r} ({counts[i]})" for i in np.flatnonzero(counts < min_per_class)]
    if few:
        raise DataError(
            f"Too few usable images of {_shown(few)} in {source}; every class needs at least "
            f"{min_per_class}. Add images, remove the class, or lower min_per_class."
        )
    if splits is not None:
        trained = labels.counts(splits == "train")
        for split in ("val", "test"):
            unseen = (labels.counts(splits == split) > 0) & (trained == 0)
            if unseen.any():
                text = _shown([repr(names[i]) for i in np.flatnonzero(unseen)])
                raise DataError(
                    f"The {split} split of {source} has images of {text}, and the train split has none. Add "
                    "training images of it, or remove it from the other splits."
                )


def _numbers(texts: Sequence[str], where: Sequence[str], separator: str) -> np.ndarray:
    rows: list[list[float]] = []
    for text, place in zip(texts, where, strict=True):
        parts = [part.strip() for part in text.split(separator)]
        try:
            row = [float(part) for part in parts]
        except ValueError as error:
            raise DataError(
                f"The label {text!r} in {place} is not a number (several: separated by {separator!r})."
            ) from error
        if not all(math.isfinite(value) and abs(value) <= _LARGEST for value in row):
            raise DataError(
                f"The label {text!r} in {place} is not a finite number. Correct it, or remove the row."
            )
        if rows and len(row) != len(rows[0]):
            raise DataError(
                f"{place} has {len(row)} numbers as its label, the rows before it have {len(rows[0])}."
            )
        rows.append(row)
    return np.array(rows, np.float32).reshape(len(rows), -1)


def _shown(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
