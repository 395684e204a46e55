"""Which form a source has, and who reads it: one row for each form of a file or a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keras_transfer.data import coco, labelling_tools, metadata, voc, webdataset
from keras_transfer.data.archives import is_archive, is_tar, unpack_archive
from keras_transfer.data.assemble import Rows
from keras_transfer.data.csv_file import read_csv
from keras_transfer.data.folder import Found, find_images, read_folder
from keras_transfer.data.parquet import read_parquet, unpack_parquet
from keras_transfer.data.remote import is_remote, local_copy
from keras_transfer.data.table import PathImages
from keras_transfer.errors import DataError, KerasTransferError, UsageError

TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Reading:
    """How labels are read: the arguments of ``load_data`` that depend on the form."""

    label_mode: str = "auto"
    classes: Sequence[str] | None = None
    separator: str = ";"
    image_root: Path | None = None
    levels: int = 1

    @property
    def how(self) -> tuple[str, Sequence[str] | None]:
        """What every reader takes."""
        return self.label_mode, self.classes


@dataclass(frozen=True)
class Form:
    """A form of a folder: its name, how it is told from others, and its reader."""

    name: str
    marks: Callable[[Path, Found], bool]
    read: Callable[[Path, Found, str, Reading], Rows]


def _of_suffix(found: Found, fits: Callable[[str], bool]) -> list[str]:
    return [name for name in found.others if fits(name.lower())] if not found.images else []


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet")


FOLDERS = (
    Form(
        "parquet shards",
        lambda root, found: bool(_of_suffix(found, _is_parquet)),
        lambda root, found, source, reading: read_parquet(
            [root / name for name in _of_suffix(found, _is_parquet)], root, source, *reading.how
        ),
    ),
    Form(
        "tar shards",
        lambda root, found: bool(_of_suffix(found, is_tar)),
        lambda root, found, source, reading: webdataset.read_shards(
            [root / name for name in _of_suffix(found, is_tar)], root, source, *reading.how
        ),
    ),
    Form(
        "a folder with metadata.csv or metadata.jsonl",
        metadata.tells_labels,
        lambda root, found, source, reading: metadata.read_metadata(
            root, found, source, *reading.how, reading.separator
        ),
    ),
    Form(
        "COCO",
        lambda root, found: not webdataset.is_samples(root, found) and bool(coco.coco_files(root, found)),
        lambda root, found, source, reading: coco.read_coco(
            root, coco.coco_files(root, found), found, source, *reading.how
        ),
    ),
    Form(
        "Pascal VOC",
        lambda root, found: bool(voc.voc_files(root, found)),
        lambda root, found, source, reading: voc.read_voc(
            root, voc.voc_files(root, found), found, source, *reading.how
        ),
    ),
    Form(
        "an export of Label Studio or CVAT",
        lambda root, found: _export(root, found) is not None,
        lambda root, found, source, reading: _read_export(
            root / (_export(root, found) or ""), root, found, reading
        ),
    ),
    Form(
        "samples of WebDataset",
        webdataset.is_samples,
        lambda root, found, source, reading: webdataset.read_samples(root, found, source, *reading.how),
    ),
)
"""In the order in which they are tried; a folder of none of them is one of class folders."""


def read_source(source: str, reading: Reading) -> Rows:
    """Rows of a path or an address; see :func:`read_path`."""
    path = local_copy(source)
    if not is_remote(source):
        return read_path(path, reading)
    shown = source.rstrip("/")
    try:
        return _told_as(read_path(path, reading), shown, str(path))
    except KerasTransferError as error:
        raise type(error)(str(error).replace(str(path), shown)) from error


def read_path(path: Path, reading: Reading) -> Rows:
    """Rows of a file or a folder of any form.

    Raises:
        UsageError: it does not exist, or an argument does not go with its form. DataError: it cannot be used.
        CacheError: what is packed cannot be unpacked into the cache.
    """
    if path.is_dir():
        return _read_folder(path, str(path), reading)
    if reading.levels != 1 and not is_archive(path.name):
        raise UsageError(
            f"levels={reading.levels} is for a folder; {str(path)!r:.80} is not a folder. Leave it out."
        )
    suffix = path.suffix.lower()
    if suffix in TABLES and path.is_file() and labelling_tools.is_label_studio_csv(path):
        root = reading.image_root or path.parent
        return labelling_tools.read_label_studio(
            labelling_tools.label_studio_csv(path), path, root, find_images(root), *reading.how
        )
    if suffix in TABLES:
        return read_csv(path, reading.image_root, *reading.how, reading.separator)
    if is_archive(path.name) and path.is_file():
        return _read_unpacked(unpack_archive(path), str(path), reading)
    if suffix == ".parquet" and path.is_file():
        return _told_as(read_parquet([path], path.parent, str(path), *reading.how), str(path))
    if suffix == ".jsonl" and path.is_file():
        return metadata.read_jsonl(path, reading.image_root or path.parent, *reading.how)
    if suffix in (".json", ".xml") and path.is_file():
        return _read_annotations(path, reading)
    return read_folder(path, reading.classes, reading.levels)  # which says what is missing


def _read_folder(root: Path, source: str, reading: Reading) -> Rows:
    found = find_images(root)
    form = next((form for form in FOLDERS if form.marks(root, found)), None)
    if form is not None and reading.levels == 1:
        rows = form.read(root, found, source, reading)
        return rows if _lies_in(rows, root) else _told_as(rows, source)
    if reading.label_mode not in ("auto", "classes"):
        raise UsageError(
            f"label_mode={reading.label_mode!r} needs a CSV, TFDS or arrays; a folder's labels are classes."
        )
    return read_folder(root, reading.classes, reading.levels, found)


def _read_annotations(path: Path, reading: Reading) -> Rows:
    """Rows of a single JSON or XML file of annotations; the images are below its folder, or ``annotations/..``."""
    beside = path.parent.parent if path.parent.name.lower() in ("annotations", "labels") else path.parent
    root = reading.image_root or beside
    found = find_images(root)
    if path.suffix.lower() == ".json" and not labelling_tools.is_label_studio(coco.load_json(path)):
        relative = os.path.relpath(path, root).replace(os.sep, "/")
        return coco.read_coco(root, [relative], found, str(path), *reading.how)
    return _read_export(path, root, found, reading)


def _export(root: Path, found: Found) -> str | None:
    """The one file among the images that is an export of Label Studio or CVAT."""
    for name in found.others:
        if "/" in name:
            continue
        with contextlib.suppress(DataError):  # another program's file
            if name.endswith(".json") and labelling_tools.is_label_studio(coco.load_json(root / name)):
                return name
            if name.endswith(".xml") and voc.load_xml(root / name).tag == "annotations":
                return name
    return None


def _read_export(path: Path, root: Path, found: Found, reading: Reading) -> Rows:
    if path.suffix.lower() == ".json":
        return labelling_tools.read_label_studio(coco.load_json(path), path, root, found, *reading.how)
    tree = voc.load_xml(path)
    if tree.tag != "annotations":
        raise DataError(
            f"{path} is no export of CVAT (<annotations>). Of Pascal VOC give the folder with all its files."
        )
    return labelling_tools.read_cvat(tree, path, root, found, *reading.how)


def _lies_in(rows: Rows, root: Path) -> bool:
    return isinstance(rows.images, PathImages) and rows.images.root == root


def _read_unpacked(folder: Path, source: str, reading: Reading) -> Rows:
    """Rows of what was unpacked, told as what the user gave."""
    try:
        beside = webdataset.class_names(Path(source).parent)
        found = find_images(folder) if beside else None
        if found is not None and webdataset.is_samples(folder, found):
            rows = webdataset.read_samples(folder, found, source, *reading.how, names=beside)
        else:
            rows = _read_folder(folder, source, reading)
        return _told_as(rows, source)
    except KerasTransferError as error:
        raise type(error)(str(error).replace(str(folder), source)) from error


def _told_as(rows: Rows, source: str, was: str = "") -> Rows:
    """The same rows; their images, and what was skipped, are called by what the user gave.

    ``was``: what they were called by; by default the folder of the images.
    """
    if not isinstance(rows.images, PathImages):
        return rows
    was = was or str(rows.images.root)
    skipped = tuple(replace(one, path=one.path.replace(was, source)) for one in rows.skipped)
    shown = (rows.images.shown or str(rows.images.root)).replace(was, source)
    return replace(rows, source=source, images=replace(rows.images, shown=shown), skipped=skipped)


def images_of(path: Path) -> Path | None:
    """The folder with the images of a packed file (an archive, or parquet); None: it is not packed."""
    if is_archive(path.name):
        return unpack_archive(path)
    return unpack_parquet([path], path.parent) if path.suffix.lower() == ".parquet" else None
