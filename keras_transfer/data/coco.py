"""COCO's annotations (https://cocodataset.org/#format-data) as labels of images: the categories that an image shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_transfer.data.assemble import Rows
from keras_transfer.data.entries import Entry, Label, Locator, rows_shown
from keras_transfer.data.folder import Found
from keras_transfer.data.shard_names import split_of_shard
from keras_transfer.data.split_names import split_of
from keras_transfer.errors import DataError


@dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file.

    Attributes:
        name: POSIX, relative to the source's folder, as far as the file was found.
        height, width: as the file says; 0 where it does not.
        split: of the file's name or folder, or "".
        shapes: its annotations, as they are in the file.
        place: for messages.
    """

    name: str
    height: int
    width: int
    split: str
    shapes: tuple[dict[str, Any], ...]
    place: str


@dataclass(frozen=True)
class Coco:
    """``names``: {category id: name}, in the order of the file."""

    names: dict[int, str]
    images: tuple[CocoImage, ...]


def coco_files(root: Path, found: Found) -> list[str]:
    """The COCO files below a folder; of those with instances beside others (captions, keypoints) these alone."""
    files = [name for name in found.others if _may_be(name) and _is_coco(_seen(root / name))]
    instances = [name for name in files if PurePosixPath(name).name.startswith("instances")]
    return instances or files


def read_coco(
    root: Path,
    files: Sequence[str],
    found: Found,
    source: str,
    label_mode: str,
    classes: Sequence[str] | None,
) -> Rows:
    """Rows of images whose annotations are in COCO files.

    Raises ``DataError``: a damaged file, an annotation of an unknown image or category, no image that is there.
    """
    coco = load_coco(root, files, found)
    entries: list[Entry] = []
    for image in coco.images:
        shown: Label = tuple(dict.fromkeys(coco.names[shape["category_id"]] for shape in image.shapes))
        entries.append(Entry(image.name, shown, image.place, image.split))
    order = tuple(dict.fromkeys(coco.names.values()))
    return rows_shown(
        entries, found.images, files[0], root, source, label_mode=label_mode, classes=classes, order=order
    )


def load_coco(root: Path, files: Sequence[str], found: Found) -> Coco:
    """The images of COCO files below ``root``, each with its annotations; errors as of :func:`read_coco`."""
    locator = Locator(found.images)
    names: dict[int, str] = {}
    images: dict[str, CocoImage] = {}
    for file in files:
        content = load_json(root / file)
        if not _is_coco(content):
            raise DataError(
                f"{root / file} is no COCO file: expected an object with the lists 'images', 'annotations' and "
                "'categories'."
            )
        own = {
            int(category["id"]): str(category["name"])
            for category in _listed(content, "categories", root / file)
        }
        for number, name in own.items():
            if names.setdefault(number, name) != name:
                raise DataError(
                    f"Category {number} is {name!r} in {root / file} and {names[number]!r} in {root / files[0]}. Files "
                    "of one data set number their categories alike."
                )
        for image in _images(content, file, root, locator, own):
            if image.name in images:
                raise DataError(
                    f"{image.name!r} is in two COCO files or twice in {image.place}. Keep it once."
                )
            images[image.name] = image
    return Coco(names, tuple(images.values()))


def _images(
    content: dict[str, Any], file: str, root: Path, locator: Locator, names: dict[int, str]
) -> Iterator[CocoImage]:
    path = root / file
    split, near = split_of_shard(file), file.rpartition("/")[0]
    shapes: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in _listed(content, "images", path)}
    for shape in _listed(content, "annotations", path):
        if shape.get("image_id") not in shapes or shape.get("category_id") not in names:
            unknown = "image_id" if shape.get("image_id") not in shapes else "category_id"
            raise DataError(
                f"The annotation {shape.get('id')} in {path} has the {unknown} {shape.get(unknown)!r}, which is not in "
                "the file. Export it again."
            )
        shapes[shape["image_id"]].append(shape)
    for image in content["images"]:
        told = str(image["file_name"])
        yield CocoImage(
            name=locator.find(told, near, split),
            height=int(image.get("height") or 0),
            width=int(image.get("width") or 0),
            split=split,
            shapes=tuple(shapes[image["id"]]),
            place=f"image {told!r} of {path}",
        )


def _listed(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    needed = {"images": ("id", "file_name"), "categories": ("id", "name")}.get(key, ())
    rows = content.get(key, [])
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        missing = [name for name in needed if not isinstance(row, dict) or name not in row]
        if missing or not isinstance(row, dict):
            raise DataError(
                f"Entry {number} of {key!r} in {path} has no {' and no '.join(missing) or 'object'}."
            )
    return rows


def _may_be(name: str) -> bool:
    """By its place and name: not deep among the images."""
    folder = PurePosixPath(name).parent
    near = (
        folder == PurePosixPath() or folder.name.lower() == "annotations" or split_of(folder.name) is not None
    )
    return name.endswith(".json") and near


def _seen(path: Path) -> Any:
    """A file's JSON; None of another program's file that is none."""
    try:
        return load_json(path)
    except DataError:
        if "coco" in path.name.lower() or path.name.startswith("instances"):
            raise
        return None


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "categories")
    )


def load_json(path: Path) -> Any:
    """A file's JSON; ``DataError`` where it is none."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON, or is cut off ({error}). Export or copy it again.") from error
