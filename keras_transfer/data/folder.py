"""A folder of images: one folder a class, with or without ``train/``, ``val/`` and ``test/`` above them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_transfer.data.assemble import Rows
from keras_transfer.data.checking import SUFFIXES
from keras_transfer.data.labels import Labels, encode_names, require_distinct
from keras_transfer.data.table import PathImages, Skipped
from keras_transfer.errors import DataError, UsageError

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r", "__macosx"})


@dataclass
class Found:
    """What lies below a folder, sorted: names are POSIX paths relative to it."""

    images: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def find_images(root: Path) -> Found:
    """All image files below a folder, by suffix (upper or lower case), links followed, loops not.

    Hidden files and the operating system's own (``Thumbs.db``, ``desktop.ini``) are passed over; any other
    file is noted as skipped, uncounted.

    Raises:
        UsageError: the folder is missing or is no folder. DataError: a folder cannot be listed.
    """
    _require_folder(root)
    found = Found()
    status = root.stat()
    for name in _walk(root, "", ((status.st_dev, status.st_ino),)):
        suffix = Path(name).suffix
        if suffix.lower() in SUFFIXES:
            found.images.append(name)
        else:
            reason = f"not an image by its name ({suffix or 'no suffix'})"
            found.skipped.append(Skipped(str(root / name), reason, counted=False))
    found.images.sort()
    found.skipped.sort(key=lambda skip: skip.path)
    return found


def read_folder(root: Path, classes: Sequence[str] | None, levels: int = 1) -> Rows:
    """Rows of a class-per-folder tree.

    Args:
        root: the folder.
        classes: fixed names and order, or None for the sorted names of the class folders.
        levels: folders that name a class. With 2 the class of ``alphabet/character/image.png`` is
            ``alphabet/character``, and the alphabet its group.

    Raises:
        UsageError: no such folder. DataError: no class folders, no images, clashing or unknown names,
            an ambiguous mix of split and class folders.
    """
    found = find_images(root)
    splits = _split_folders(root, fixed=classes is not None)
    names, labels, given, groups = [], [], [], []
    skipped, stray = list(found.skipped), []
    depth = 1 if splits is None else 2
    for name in found.images:
        parts = name.split("/")
        if len(parts) < depth + levels:
            stray.append(name)
            continue
        names.append(name)
        labels.append(unicodedata.normalize("NFC", "/".join(parts[depth - 1 : depth - 1 + levels])))
        groups.append(unicodedata.normalize("NFC", parts[depth - 1]))
        given.append("train" if splits is None else splits[parts[0]])
    if not names:
        raise DataError(_nothing_found(root, stray, found, levels))
    skipped += [Skipped(str(root / name), "not inside a class folder", counted=False) for name in stray]
    encoded = _encode(root, splits, names, labels, classes, levels)
    return Rows(
        source=str(root),
        images=PathImages(root, tuple(names)),
        labels=encoded,
        splits=None if splits is None else np.array(given, dtype="<U5"),
        groups=np.array(groups) if levels > 1 else None,
        skipped=tuple(skipped),
    )


def _encode(
    root: Path,
    splits: dict[str, str] | None,
    names: list[str],
    labels: list[str],
    classes: Sequence[str] | None,
    levels: int,
) -> Labels:
    """Class indices; the folders give the classes, so that one without images is noticed."""
    tops = [root] if splits is None else [root / folder for folder in splits]
    found = [child for top in tops for child in _children(top) if child.is_dir()]
    folders = {child.name for child in found}
    if levels == 2:
        folders = {
            f"{above.name}/{child.name}" for above in found for child in _children(above) if child.is_dir()
        }
    require_distinct(folders, str(root))
    for folder in sorted(folders):
        try:
            folder.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"The class folder {folder!a} in {root} has a name that is not valid UTF-8. Rename it."
            ) from error
    where = [str(root / name) for name in names]
    default = sorted(unicodedata.normalize("NFC", folder) for folder in folders)
    return encode_names([(label,) for label in labels], "classes", classes, where, str(root), default)


def _split_folders(root: Path, fixed: bool) -> dict[str, str] | None:
    """{folder: split} when the top level is one of splits, None when it is one of classes."""
    folders = sorted(child.name for child in _children(root) if child.is_dir())
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in folders if name.lower() in SPLIT_FOLDERS}
    others = [name for name in folders if name not in splits]
    if not splits or (others and len(splits) == 1):
        return None
    if others:
        raise DataError(
            f"{root} holds split folders ({', '.join(splits)}) beside others ({', '.join(others[:5])}). "
            "Put the class folders inside the split folders, and move anything else out."
        )
    meanings = list(splits.values())
    twice = [name for name, split in splits.items() if meanings.count(split) > 1]
    if twice:
        raise DataError(f"{root} has two folders for one split: {', '.join(twice)}. Merge them.")
    if "train" not in splits.values() and not fixed:
        raise DataError(
            f"{root} has {', '.join(splits)} and no train folder. Add train/, or put the class folders "
            "directly into the folder to have the splits made."
        )
    return splits


def _nothing_found(root: Path, stray: list[str], found: Found, levels: int) -> str:
    if stray and levels == 2:
        return (
            f"{len(stray)} images in {root} (such as {stray[0]}) do not lie two folders deep, as "
            "alphabet/character/image.png. Give such a folder, or leave out levels=2."
        )
    if stray:
        return (
            f"{len(stray)} images lie directly in {root} (such as {stray[0]}), not in class folders. Make "
            "one folder for each class and put its images there, or give a CSV with path,label."
        )
    others = f" ({len(found.skipped)} other files, such as {found.skipped[0].path})" if found.skipped else ""
    return (
        f"There are no images in {root}{others}. Expected one folder for each class with files ending in "
        f"{', '.join(sorted(SUFFIXES))}."
    )


def _require_folder(root: Path) -> None:
    if not root.exists():
        raise UsageError(
            f"There is no folder {root}. Give an existing folder with one folder for each class."
        )
    if not root.is_dir():
        raise UsageError(
            f"{root} is not a folder. Expected a folder with one folder for each class, or a .csv file."
        )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's, not the user's."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if not is_hidden(child.name)]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be listed: {error.strerror}. Make it readable."
        ) from error


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names of all visible files; ``above`` are the folders on the way here, so that a loop of links ends."""
    try:
        with os.scandir(folder) as entries:
            children = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be listed: {error.strerror}. Make it readable."
        ) from error
    for entry in children:
        name = prefix + entry.name
        if not entry.is_dir():
            yield name
            continue
        status = entry.stat()
        here = (status.st_dev, status.st_ino)
        if here not in above:
            yield from _walk(Path(entry.path), name + "/", (*above, here))
