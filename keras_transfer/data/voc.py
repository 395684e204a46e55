"""Pascal VOC's layout as labels of images: one XML file an image, in ``Annotations/`` or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from keras_transfer.data.assemble import Rows
from keras_transfer.data.entries import (
    Entry,
    Locator,
    rows_shown,
    split_of_path,
)
from keras_transfer.data.folder import Found
from keras_transfer.data.split_names import split_of
from keras_transfer.errors import DataError

SETS, FOLDER = "ImageSets", "Annotations"


def voc_files(root: Path, found: Found) -> list[str]:
    """The XML files of a folder, where the first of them is one of VOC."""
    files = [
        name
        for name in found.others
        if name.lower().endswith(".xml") and _is_place(PurePosixPath(name).parent)
    ]
    try:
        return files if files and load_xml(root / files[0]).tag == "annotation" else []
    except DataError:
        if PurePosixPath(files[0]).parent.name == FOLDER:
            raise
        return []


def _is_place(folder: PurePosixPath) -> bool:
    """Not among the images of a class."""
    return folder == PurePosixPath() or folder.name == FOLDER or split_of(folder.name) is not None


def read_voc(
    root: Path,
    files: Sequence[str],
    found: Found,
    source: str,
    label_mode: str,
    classes: Sequence[str] | None,
) -> Rows:
    """Rows of annotated images: their labels are the names of their objects; ``ImageSets/Main`` has the splits.

    Raises ``DataError``: a damaged file, or no image that is there.
    """
    locator = Locator(found.images)
    splits = voc_splits(root, found, "Main")
    entries = []
    for file in files:
        told = load_xml(root / file).findtext("filename") or ""
        stem, near = PurePosixPath(file).stem, file.rpartition("/")[0]
        if PurePosixPath(told.replace("\\", "/")).stem != stem:  # renamed images keep the old name inside
            told = stem + (PurePosixPath(told).suffix or ".jpg")
        name = locator.find(told, near, split_of_path(file))
        split = splits.get(stem, "") if splits else split_of_path(file)
        if not splits or split:
            objects = load_xml(root / file).iter("object")
            shown = tuple(dict.fromkeys((item.findtext("name") or "").strip() for item in objects))
            entries.append(Entry(name, shown, str(root / file), split))
    return rows_shown(entries, found.images, files[0], root, source, label_mode=label_mode, classes=classes)


def voc_splits(root: Path, found: Found, kind: str) -> dict[str, str]:
    """{name without suffix: split} from ``ImageSets/KIND/train.txt`` and so on; {} where there are none."""
    splits: dict[str, str] = {}
    for file in found.others:
        path = PurePosixPath(file)
        split = split_of(path.stem)
        if path.suffix == ".txt" and path.parts[-3:-1] == (SETS, kind) and split:
            for line in (root / file).read_text(encoding="utf-8").splitlines():
                if line.strip():
                    splits[line.split()[0]] = split
    return splits


def load_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; ``DataError`` where it is none."""
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is no XML, or is cut off ({error}). Export or copy it again.") from error
