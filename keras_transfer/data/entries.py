"""What an annotation says of each image, and from there the rows of a source: one way for every form of annotation."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from keras_transfer.data.assemble import Rows
from keras_transfer.data.labels import Labels, encode_names
from keras_transfer.data.split_names import split_of
from keras_transfer.data.table import PathImages, Skipped
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")

Label = str | int | float | tuple[str, ...] | tuple[float, ...]
"""One class (a name or a number), several names, or numbers to be predicted."""


@dataclass(frozen=True)
class Entry:
    """One image of an annotation.

    Attributes:
        name: POSIX, relative to the source's folder.
        label: None: the annotation says nothing of it.
        place: for messages, such as ``line 7 of metadata.jsonl``.
        split: ``train``, ``val``, ``test`` or "".
    """

    name: str
    label: Label | None
    place: str
    split: str = ""


def rows_of(
    entries: Sequence[Entry],
    root: Path,
    source: str,
    *,
    label_mode: str,
    classes: Sequence[str] | None,
    order: Sequence[str] = (),
    skipped: Sequence[Skipped] = (),
) -> Rows:
    """The rows of annotated images; one without a label is left out and counted.

    Args:
        entries: one for each image.
        root: the folder that their names are relative to.
        source: for messages.
        label_mode: ``auto``, ``classes``, ``multilabel`` or ``regression``.
        classes: a trained model's, in its order; or None.
        order: the annotation's own classes, in its order; those without an image are left out.
        skipped: what was left out before.

    Raises:
        DataError: no image; labels that do not go together, or with ``label_mode``; splits of some images alone.
    """
    unlabelled = [entry for entry in entries if entry.label is None]
    labelled = [entry for entry in entries if entry.label is not None]
    if not labelled:
        raise DataError(f"None of the {len(entries)} images in {source} has a label. Nothing can be learned.")
    if unlabelled:
        logger.warning(
            "%d of %d images in %s have no label, such as %s; they are left out",
            *(len(unlabelled), len(entries), source, unlabelled[0].place),
        )
    left = [Skipped(str(root / entry.name), "no label", counted=False) for entry in unlabelled]
    return Rows(
        source=source,
        images=PathImages(root, tuple(entry.name for entry in labelled)),
        labels=encode(labelled, source, label_mode, classes, order),
        splits=splits_of(labelled, source, fixed=classes is not None),
        skipped=(*skipped, *left),
    )


def encode(
    entries: Sequence[Entry],
    source: str,
    label_mode: str,
    classes: Sequence[str] | None,
    order: Sequence[str] = (),
) -> Labels:
    """The labels of entries, of which every one has a label; see :func:`rows_of`."""
    values = [entry.label for entry in entries]
    several = [isinstance(value, tuple) for value in values]
    floating = [isinstance(part, float) for value in values for part in _parts(value)]
    if any(floating) and label_mode in ("auto", "regression"):
        return _numbers(entries, source)
    if label_mode == "regression":
        if all(isinstance(part, int) for value in values for part in _parts(value)):
            return _numbers(entries, source)
        raise UsageError(
            f"label_mode='regression' needs numbers, and the labels of {source} are class names."
        )
    rows = [tuple(dict.fromkeys(_name(part) for part in _parts(value))) for value in values]
    where = [entry.place for entry in entries]
    if label_mode == "auto":
        label_mode = "multilabel" if any(several) else "classes"
    for row, place in zip(rows, where, strict=True):
        if label_mode == "classes" and len(row) != 1:
            raise DataError(
                f"{place} has {len(row)} labels ({', '.join(row) or 'none'}); expected one class an image. Use "
                "--task multilabel, or keep one."
            )
        if "" in row:
            raise DataError(f"The label is empty in {place}. Give every image a class, or remove the row.")
    used = {name for row in rows for name in row}
    order = tuple(dict.fromkeys(map(_name, order)))
    unused = [name for name in order if name not in used]
    if unused and classes is None:
        logger.warning("%s has no images of %s; these classes are left out", source, ", ".join(unused[:10]))
    kept = [name for name in order if name in used]
    return encode_names(rows, label_mode, classes, where, source, kept)


def _parts(value: Label | None) -> tuple[str | int | float, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _name(part: str | int | float) -> str:
    return unicodedata.normalize("NFC", str(part).strip())


def _numbers(entries: Sequence[Entry], source: str) -> Labels:
    rows: list[list[float]] = []
    for entry in entries:
        try:
            row = [float(part) for part in _parts(entry.label)]
        except ValueError as error:
            raise DataError(f"The label {entry.label!r} in {entry.place} is not a number.") from error
        if not all(math.isfinite(value) for value in row):
            raise DataError(f"The label {entry.label!r} in {entry.place} is not a finite number.")
        if not row or (rows and len(row) != len(rows[0])):
            raise DataError(
                f"{entry.place} has {len(row)} numbers as its label; expected {len(rows[0]) if rows else 1}."
            )
        rows.append(row)
    logger.info("The labels of %s are read as regression", source)
    return Labels("regression", (), np.array(rows, np.float32))


def splits_of(entries: Sequence[Entry], source: str, fixed: bool) -> np.ndarray | None:
    """str (N,): the given splits; None where none is given.

    Raises ``DataError`` where some images have one and others none, or where none is for training (unless ``fixed``).
    """
    counts = Counter(entry.split for entry in entries)
    if set(counts) == {""}:
        return None
    if "" in counts:
        one = next(entry for entry in entries if not entry.split)
        given = ", ".join(sorted(set(counts) - {""}))
        raise DataError(
            f"{counts['']} of {len(entries)} images in {source} have no split, such as {one.name}; the others have "
            f"{given}. Name train, validation or test for all of them or for none."
        )
    if "train" not in counts and not fixed:
        raise DataError(
            f"{source} has images of {', '.join(sorted(counts))} and none of train. Add some, or give the file itself "
            "to have the splits made."
        )
    return np.array([entry.split for entry in entries], dtype="<U5")


def split_of_path(name: str) -> str:
    """The split that the folders of a path plainly name, "" where none does."""
    found = (split_of(part) for part in PurePosixPath(name).parts[:-1])
    return next((split for split in found if split), "")


class Locator:
    """Finds the image files that an annotation names, however much of the path it tells.

    Args:
        names: the images of the source, POSIX, relative to its folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._names):
            self._by_file[name.rpartition("/")[2]].append(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._names

    def find(self, told: str, near: str = "", split: str = "") -> str:
        """The file's name; where there is none, the name that it should have.

        Args:
            told: what the annotation says: a path, or the end of one.
            near: the folder of the annotation, relative to the source's.
            split: of several files with that name, the one of this split is meant.

        Raises:
            DataError: several files have that name.
        """
        told = unicodedata.normalize("NFC", told.replace("\\", "/").removeprefix("./"))
        beside = f"{near}/{told}" if near else told
        for name in (beside, told):
            if name in self._names:
                return name
        parts = [part for part in told.split("/") if part not in ("", "..")]
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            found = [name for name in self._by_file[parts[-1]] if name.endswith(f"/{tail}") or name == tail]
            same = [name for name in found if split and split_of_path(name) == split]
            found = same or found
            if len(found) == 1:
                return found[0]
            if found:
                raise DataError(
                    f"{told!r} is the name of {len(found)} images: {', '.join(found[:3])}. Give paths that tell them "
                    "apart."
                )
        return beside


def rows_shown(
    entries: Sequence[Entry],
    there: Iterable[str],
    what: str,
    root: Path,
    source: str,
    *,
    label_mode: str,
    classes: Sequence[str] | None,
    order: Sequence[str] = (),
) -> Rows:
    """The rows of images whose entries say all that each shows: see :func:`rows_of`.

    ``there``: the images below ``root``; ``what``: the annotation's file, for messages. Raises ``DataError`` where not
    one of them is there, too.
    """
    require_found(entries, there, what, root)
    singles = single_labels(entries, label_mode)
    return rows_of(singles, root, source, label_mode=label_mode, classes=classes, order=order)


def single_labels(entries: Sequence[Entry], label_mode: str) -> list[Entry]:
    """Entries with the names that an image shows: single classes where that is asked for, or all have just one."""
    if label_mode == "multilabel" or (
        label_mode == "auto" and any(e.label is not None and len(_parts(e.label)) != 1 for e in entries)
    ):
        return list(entries)
    singles = []
    for entry in entries:
        parts = _parts(entry.label)
        label = parts[0] if len(parts) == 1 else entry.label if parts else None
        singles.append(replace(entry, label=label))
    return singles


def require_found(entries: Sequence[Entry], names: Iterable[str], what: str, root: Path) -> None:
    """``DataError`` where not one image of an annotation is there."""
    there = set(names)
    if entries and not any(entry.name in there for entry in entries):
        raise DataError(
            f"None of the {len(entries)} images that {what} names is in {root}, such as {entries[0].name}. Put the "
            "images there, or say where they are (--image-root)."
        )
