"""WebDataset: tar shards of samples, each some files with one name: ``0001.jpg``, ``0001.cls``, ``0001.json``.

A sample's name ends at the first point after the last slash. Nothing in the format names the classes; a
``classes.txt`` beside the samples or shards does (one name a line, that of class 0 first).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_transfer.data.archives import extract
from keras_transfer.data.assemble import Rows
from keras_transfer.data.entries import Entry, Label, rows_of
from keras_transfer.data.folder import Found, find_images
from keras_transfer.data.shard_names import shard_splits
from keras_transfer.data.unpacking import unpacked
from keras_transfer.errors import DataError

logger = logging.getLogger("keras_transfer")

NAMES = ("classes.txt", "classnames.txt")
_FIELDS = ("label", "cls", "class", "label_name", "class_name", "labels")


def read_shards(
    shards: Sequence[Path], root: Path, source: str, label_mode: str, classes: Sequence[str] | None
) -> Rows:
    """Rows of tar shards below ``root``; the splits are in their names (``train-000000.tar``).

    Raises:
        DataError: damaged, cut off, or no sample has a label. CacheError: the cache cannot be written.
    """
    folder = unpack_shards(shards, root)
    splits = shard_splits(shards, root, source)
    by_folder = {f"{number:05d}": split for number, split in enumerate(splits)}
    return read_samples(
        folder, find_images(folder), source, label_mode, classes, by_folder, class_names(root)
    )


def unpack_shards(shards: Sequence[Path], root: Path) -> Path:
    """The folder with the samples of all shards, each in a folder of its number."""

    def fill(folder: Path) -> None:
        for number, shard in enumerate(shards):
            (folder / f"{number:05d}").mkdir()
            extract(shard, folder / f"{number:05d}")

    return unpacked(shards, [shard.relative_to(root).as_posix() for shard in shards], "archive", fill)


def is_samples(root: Path, found: Found) -> bool:
    """Whether a folder holds unpacked samples: files with labels beside the images, under the same names."""
    if any(name.endswith(".cls") for name in found.others):
        return True
    files = [name for name in found.others if name.endswith(".json")]
    keys = {_key(name) for name in files}
    if not keys or not all(_key(name) in keys for name in found.images):
        return False
    try:
        first = json.loads((root / files[0]).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and any(field in first for field in _FIELDS)


def read_samples(
    root: Path,
    found: Found,
    source: str,
    label_mode: str,
    classes: Sequence[str] | None,
    splits: dict[str, str] | None = None,
    names: Sequence[str] = (),
) -> Rows:
    """Rows of unpacked samples.

    Args:
        splits: {top folder: split}; None: no splits.
        names: of the classes, in the order of their numbers.
    """
    names = names or class_names(root)
    beside: dict[str, list[str]] = {}
    for name in found.others:
        if name.endswith((".cls", ".json", ".txt")):
            beside.setdefault(_key(name), []).append(name)
    entries = []
    for name in found.images:
        key = _key(name)
        if "." in name[len(key) + 1 :]:  # such as 0001.mask.png
            continue
        label = _label(root, sorted(beside.get(key, ())), names, source)
        entries.append(Entry(name, label, f"{source}/{name}", (splits or {}).get(name.partition("/")[0], "")))
    if entries and all(entry.label is None for entry in entries):
        one = Path(entries[0].name).name
        raise DataError(
            f"None of the {len(entries)} samples in {source} has a label. Expected {_key(one)}.cls (or .json with "
            f"{_FIELDS[0]!r}) beside {one}."
        )
    if not names and any(isinstance(entry.label, int) for entry in entries):
        logger.warning(
            "The labels of %s are numbers without names: the numbers are the names of the classes. %s beside the "
            "shards names them, one a line",
            *(source, NAMES[0]),
        )
    return rows_of(entries, root, source, label_mode=label_mode, classes=classes, order=names)


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _label(root: Path, files: Sequence[str], names: Sequence[str], source: str) -> Label | None:
    for suffix in (".cls", ".json"):
        for name in files:
            if not name.endswith(suffix):
                continue
            place = f"{source}/{name}"
            try:
                text = (root / name).read_text(encoding="utf-8")
                value = text.strip() if suffix == ".cls" else json.loads(text)
            except (OSError, ValueError) as error:
                raise DataError(f"The label {place} cannot be read: {error}.") from error
            if isinstance(value, dict):
                value = next((value[field] for field in _FIELDS if value.get(field) is not None), None)
            if value is not None and value != "":
                return _meant(value, names, place)
    return None


def _meant(value: Any, names: Sequence[str], place: str) -> Label:
    if isinstance(value, list):
        return tuple(str(_meant(part, names, place)) for part in value)
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DataError(f"The label {value!r:.80} in {place} is neither a number nor a text.")
    if isinstance(value, int) and names:
        if not 0 <= value < len(names):
            raise DataError(
                f"The label {value} in {place} is none of the {len(names)} classes that {NAMES[0]} names."
            )
        return names[value]
    return value


def class_names(root: Path) -> tuple[str, ...]:
    """The names in a folder's ``classes.txt``, in the order of their numbers; () where there is none."""
    for name in NAMES:
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8-sig").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return ()
