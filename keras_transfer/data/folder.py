"""A folder of images: one folder per class, with or without ``train/``, ``val/`` and ``test/`` above or below."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from keras_transfer.data.assemble import Rows
from keras_transfer.data.checking import OTHER_PHOTOS, SUFFIXES
from keras_transfer.data.labels import Labels, encode_names, require_distinct
from keras_transfer.data.split_names import split_of
from keras_transfer.data.table import PathImages, Skipped
from keras_transfer.errors import DataError, UsageError
from keras_transfer.outputs import Outputs

logger = logging.getLogger("keras_transfer")

_SYSTEM = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "lost+found", "__pycache__"),
        *("$recycle.bin", "recycler", "system volume information", "network trash folder", "temporary items"),
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),
    }
)
"""Names that operating systems, Synology and QNAP devices give to what they leave in folders."""
_STRAY, _NOT_READ = "not inside a class folder", "a format that is not read"
_OURS = ("run.json", "bundle.json")
"""A folder with one of these is a run or a bundle, unless another tool wrote the file."""


@dataclass
class Found:
    """What lies below a folder, sorted: names are POSIX paths relative to it."""

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files that are no images by their name, nor this tool's."""
    skipped: list[Skipped] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    """Of what is skipped: runs and bundles (a folder's name ends in a slash) and files that this tool wrote."""


def find_images(root: Path) -> Found:
    """All image files below a folder, by suffix (upper or lower case), links followed, loops not.

    Hidden files and what systems leave (``Thumbs.db``, ``@eaDir``) are passed over. Runs, bundles and pictures that
    this tool wrote, and files that are no images by their name, are noted as skipped; a photo of a format that is not
    read (``.dng``, ``.jp2``) counts.

    Raises:
        UsageError: the folder is missing or is no folder. DataError: a folder cannot be listed.
    """
    _require_folder(root)
    found = Found()
    status = root.stat()
    for name in _walk(root, "", ((status.st_dev, status.st_ino),)):
        suffix = Path(name).suffix
        if name.endswith("/"):
            found.ours.append(name)
            found.skipped.append(Skipped(str(root / name), "a run or a bundle of this tool", counted=False))
        elif suffix.lower() in SUFFIXES:
            found.images.append(name)
        else:
            photo = suffix.lower() in OTHER_PHOTOS
            found.others.append(name)
            reason = f"{_NOT_READ if photo else 'not an image by its name'} ({suffix or 'no suffix'})"
            found.skipped.append(Skipped(str(root / name), reason, counted=photo))
    ours = _written(root, found.images)
    found.ours += sorted(ours)
    found.images = sorted(name for name in found.images if name not in ours)
    found.skipped += [Skipped(str(root / name), "written by this tool", counted=False) for name in ours]
    found.others.sort()
    found.skipped.sort(key=lambda skip: skip.path)
    return found


def tell_left_out(root: Path, skipped: Iterable[Skipped]) -> None:
    """One line for the files of a source that are left out by their names or places: a warning where photos are."""
    kinds: Counter[str] = Counter()
    photos = 0
    for skip in skipped:
        photos += skip.counted
        suffix = PurePosixPath(skip.path).suffix.lower()
        reason = skip.reason.partition(" (")[0]
        kinds[f"{suffix} ({reason})" if suffix and reason != _STRAY else reason] += 1
    if not kinds:
        return
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6)) + (
        ", ..." if len(kinds) > 6 else ""
    )
    more = " Convert them to JPEG or PNG." if any(_NOT_READ in kind for kind in kinds) else ""
    (logger.warning if photos else logger.info)("Left out in %s: %s.%s", root, told, more)


def read_folder(
    root: Path, classes: Sequence[str] | None, levels: int = 1, found: Found | None = None
) -> Rows:
    """Rows of a class-per-folder tree.

    Args:
        root: the folder.
        classes: fixed names and order, or None for the sorted names of the class folders.
        levels: folders that name a class. With 2 the class of ``alphabet/character/image.png`` is
            ``alphabet/character``, and the alphabet its group.
        found: what :func:`find_images` says of the folder, where that is known.

    Raises:
        UsageError: no such folder. DataError: no class folders, no images, clashing or unknown names,
            an ambiguous mix of split and class folders.
    """
    found = find_images(root) if found is None else found
    tree = _Tree.of(root, found, levels, classes)
    names, labels, given, groups, stray = [], [], [], [], []
    for name in found.images:
        place = tree.place(name)
        if place is None:
            stray.append(name)
            continue
        split, parts = place
        names.append(name)
        given.append(split)
        labels.append("/".join(parts))
        groups.append(parts[0])
    if not names:
        raise DataError(_nothing_found(root, stray, found, levels))
    skipped = [*found.skipped, *(Skipped(str(root / name), _STRAY) for name in stray)]
    tell_left_out(root, skipped)
    return Rows(
        source=str(root),
        images=PathImages(root, tuple(names)),
        labels=_encode(root, tree, found, names, labels, classes),
        splits=np.array(given, dtype="<U5") if tree.splits or tree.below else None,
        groups=np.array(groups) if levels > 1 else None,
        skipped=tuple(skipped),
    )


@dataclass
class _Tree:
    """Where in a tree the splits and the classes are.

    ``splits``: {top folder: split}, empty where there are none. ``wrapped``: split folders whose only folder is
    another of the same split (``seg_train/seg_train/``). ``below``: the splits are below the classes
    (``china/train/``). ``levels``: folders that name a class.
    """

    splits: dict[str, str]
    wrapped: dict[str, str]
    below: bool
    levels: int

    @classmethod
    def of(cls, root: Path, found: Found, levels: int, classes: Sequence[str] | None) -> _Tree:
        """Find out. Raises ``DataError`` where it is not clear."""
        inside = _inside(found.images)
        splits = _split_folders(root, inside, fixed=classes)
        wrapped = {}
        for name in splits:
            (only, *more) = inside.get(name) or ("",)
            if only and not more and split_of(only) == splits[name]:
                wrapped[name] = only
        tree = cls(splits, wrapped, False, levels)
        if levels == 1 and classes is None:
            tree.below = tree._look_below(root, found)
        return tree

    def top(self, name: str) -> list[str]:
        """The folders above the class of an image, of those that the tree has; [] where there are none."""
        first = name.partition("/")[0]
        if first not in self.splits:
            return []
        return [first, self.wrapped[first]] if first in self.wrapped else [first]

    def place(self, name: str) -> tuple[str, list[str]] | None:
        """The split of an image, and the folders that name its class; None: it lies beside the class folders."""
        parts = unicodedata.normalize("NFC", name).split("/")
        above = len(self.top(name))
        if len(parts) < above + self.levels + 1 + self.below:
            return None
        split = self.splits[name.partition("/")[0]] if above else "train"
        if self.below:
            split = split_of(parts[above + 1]) or split
        return split, parts[above : above + self.levels]

    def _look_below(self, root: Path, found: Found) -> bool:
        """Whether the folders below the classes are splits. The same other names below every class are refused."""
        inner = [name.split("/")[len(self.top(name)) :] for name in found.images]
        inside = _inside("/".join(parts) for parts in inner)
        holders = {top: folders for top, folders in inside.items() if top}
        if len(holders) < 2 or any("" in folders for folders in holders.values()):
            return False
        if not self.splits and all(split_of(folder) for folders in holders.values() for folder in folders):
            return True
        shared = set.intersection(*(set(folders) for folders in holders.values()))
        if len(shared) < 2:
            return False
        raise DataError(
            f"The folders {_some(holders)} in {root} hold no images of their own, and each has the folders "
            f"{_some(shared)}. If they are splits, call them train, val and test; if they are the classes, move the "
            "images up into them, or give a CSV with path,label."
        )


def _inside(names: Iterable[str]) -> dict[str, list[str]]:
    """{top folder: the folders in it that hold images; "" where it holds images itself}, sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        top, _, rest = name.partition("/")
        folder, slash, _ = rest.partition("/")
        found[top if rest else ""].add(folder if slash else "")
    return {top: sorted(folders) for top, folders in sorted(found.items()) if top}


def _encode(
    root: Path,
    tree: _Tree,
    found: Found,
    names: list[str],
    labels: list[str],
    classes: Sequence[str] | None,
) -> Labels:
    """Class indices; the folders give the classes, so that one without images is noticed.

    But a folder that holds nothing but what this tool wrote is none.
    """
    ours = _folders_of(found.ours) - _folders_of(found.images)

    def inside(folder: Path) -> list[Path]:
        found = [child for child in _children(folder) if child.is_dir()]
        return [child for child in found if child.relative_to(root).as_posix() not in ours]

    tops = [root.joinpath(*tree.top(f"{folder}/")) for folder in tree.splits] or [root]
    above = [child for top in tops for child in inside(top)]
    folders = {child.name for child in above}
    if tree.levels == 2:
        folders = {f"{child.name}/{below.name}" for child in above for below in inside(child)}
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


def _folders_of(names: Iterable[str]) -> set[str]:
    """All folders above these files; a name that ends in a slash is a folder itself."""
    return {
        str(folder)
        for name in names
        for folder in PurePosixPath(f"{name}x" if name.endswith("/") else name).parents
    }


def _split_folders(root: Path, inside: dict[str, list[str]], fixed: Sequence[str] | None) -> dict[str, str]:
    """{folder: split} when the top level is one of splits, {} when it is one of classes."""
    folders = sorted(child.name for child in _children(root) if child.is_dir())
    splits = {name: split for name in folders if (split := split_of(name)) is not None}
    others = [name for name in inside if name not in splits]
    if not splits or (fixed is not None and set(splits) <= set(fixed)):
        return {}
    if others and len(splits) == 1:
        (name,) = splits
        if len([folder for folder in inside.get(name, ()) if folder]) < 2:
            return {}  # a class of this name
    if others:
        raise DataError(
            f"{root} holds split folders ({', '.join(splits)}) beside others ({_some(others)}). "
            "Put the class folders inside the split folders, and move anything else out."
        )
    meanings = list(splits.values())
    twice = [name for name, split in splits.items() if meanings.count(split) > 1]
    if twice:
        raise DataError(f"{root} has two folders for one split: {', '.join(twice)}. Merge them.")
    if "train" not in splits.values() and fixed is None:
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
    return name.startswith(".") or name.lower() in _SYSTEM


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if not is_hidden(child.name)]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be listed: {error.strerror}. Make it readable."
        ) from error


def _is_ours(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder is a run or a bundle of this tool."""
    for name in set(names).intersection(_OURS):
        try:
            info = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(info, dict) and "schema" in info:
            return True
    return False


def _written(root: Path, names: list[str]) -> set[str]:
    """Which of these files this tool wrote and nobody changed since: heat maps, masks, plots."""
    outputs = Outputs()
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[name.rpartition("/")[0]].append(name)
    return {
        name
        for folder, inside in by_folder.items()
        if outputs.has_written_in(root / folder)
        for name in inside
        if outputs.is_ours(root / name)
    }


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names of all visible files, and with a slash at the end those of runs and bundles that are not entered.

    ``above`` are the folders on the way here, so that a loop of links ends.
    """
    try:
        with os.scandir(folder) as entries:
            children = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be listed: {error.strerror}. Make it readable."
        ) from error
    if prefix and _is_ours(folder, (entry.name for entry in children)):
        yield prefix
        return
    for entry in children:
        name = prefix + entry.name
        if not entry.is_dir():
            yield name
            continue
        status = entry.stat()
        here = (status.st_dev, status.st_ino)
        if here not in above:
            yield from _walk(Path(entry.path), name + "/", (*above, here))
