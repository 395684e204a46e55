"""Exports of Label Studio (JSON, JSON-MIN, CSV) and CVAT (``CVAT for images``) as labels of images."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from keras_transfer.data.assemble import Rows
from keras_transfer.data.csv_reading import open_csv
from keras_transfer.data.entries import Entry, Label, Locator, rows_shown
from keras_transfer.data.folder import Found
from keras_transfer.data.split_names import split_of
from keras_transfer.errors import DataError

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
_OF_EXPORT = ("annotation_id", "annotator", "lead_time")
_SHAPES = ("box", "polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton")
_NO_LABEL = frozenset(
    {"image", "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "file_upload"}
)


def is_label_studio(content: Any) -> bool:
    """Whether a JSON file's content is an export of Label Studio: a list of tasks, in full or "MIN"."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and ("data" in first or ("image" in first and "annotation_id" in first))


def is_label_studio_csv(path: Path) -> bool:
    """Whether a CSV is an export of Label Studio, by its first line."""
    columns = open_csv(path, ("image",)).columns
    return "image" in columns and any(name in columns for name in _OF_EXPORT)


def read_label_studio(
    tasks: Sequence[dict[str, Any]],
    path: Path,
    root: Path,
    found: Found,
    label_mode: str,
    classes: Sequence[str] | None,
) -> Rows:
    """Rows of Label Studio's tasks: the choices of an image, or the labels of its regions.

    Raises ``DataError``: a task without an image, or no image that is there.
    """
    locator = Locator(found.images)
    entries = []
    for number, task in enumerate(tasks):
        place = f"task {task.get('id', number)} of {path}"
        data = task["data"] if isinstance(task.get("data"), dict) else task
        told = next(
            (v for v in (data.get("image"), *data.values()) if isinstance(v, str) and _is_image(v)), None
        )
        if told is None:
            raise DataError(f"There is no image in {place}. Expected its address under 'image'.")
        shown = tuple(dict.fromkeys(_labels(task))) if _is_annotated(task) else None
        entries.append(Entry(_located(told, locator), shown, place, ""))
    return rows_shown(
        _together(entries), found.images, path.name, root, str(path), label_mode=label_mode, classes=classes
    )


def label_studio_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV of Label Studio as tasks of JSON-MIN."""
    tasks = []
    for _, values in open_csv(path, ("image",)).rows():
        task: dict[str, Any] = {}
        for name, text in values.items():
            try:
                task[name] = json.loads(text) if text[:1] in ("{", "[") else text
            except ValueError:
                task[name] = text
        tasks.append(task)
    return tasks


def read_cvat(
    tree: ElementTree.Element,
    path: Path,
    root: Path,
    found: Found,
    label_mode: str,
    classes: Sequence[str] | None,
) -> Rows:
    """Rows of ``CVAT for images``: the tags of an image; where no image has any, the labels of its shapes."""
    locator = Locator(found.images)
    kinds = ("tag",) if tree.find("image/tag") is not None else _SHAPES
    entries = []
    for image in tree.iter("image"):
        told, subset = image.get("name", ""), split_of(image.get("subset", "")) or ""
        names = [shape.get("label", "") for kind in kinds for shape in image.findall(kind)]
        shown = tuple(dict.fromkeys(names)) if names or kinds is _SHAPES else None
        entries.append(Entry(locator.find(told, "", subset), shown, f"image {told!r} of {path}", subset))
    if not entries:
        raise DataError(f"{path} has no images. Export the task as 'CVAT for images 1.1'.")
    return rows_shown(
        entries, found.images, path.name, root, str(path), label_mode=label_mode, classes=classes
    )


def _is_annotated(task: dict[str, Any]) -> bool:
    return "data" not in task or any(not one.get("was_cancelled") for one in task.get("annotations") or ())


def _labels(task: dict[str, Any]) -> Iterator[str]:
    """The names in a task's first annotation that was not cancelled; of JSON-MIN, in all its fields."""
    if "data" not in task:
        for name, value in task.items():
            if name not in _NO_LABEL:
                yield from _names(value, name == "choice")
        return
    annotations = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    for result in annotations[0].get("result", ()) if annotations else ():
        yield from _names(result.get("value"), False)


def _names(value: Any, plain: bool) -> Iterator[str]:
    """Under ``choices``, and under ``rectanglelabels`` and its like; a text itself where it is ``plain``."""
    if isinstance(value, str) and plain and value:
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _names(part, plain)
    elif isinstance(value, dict):
        for key, names in value.items():
            if (key == "choices" or key.endswith("labels")) and isinstance(names, list):
                yield from (name for name in names if isinstance(name, str))


def _is_image(text: str) -> bool:
    return "/" in text or "." in text


def _located(told: str, locator: Locator) -> str:
    parts = urllib.parse.urlsplit(told)
    local = urllib.parse.parse_qs(parts.query).get("d")
    path = local[0] if local else urllib.parse.unquote(parts.path)
    folder, slash, file = path.rpartition("/")
    name = locator.find(path.lstrip("/"))
    if locator.has(name) or not _UPLOADED.match(file):
        return name
    return locator.find(f"{folder}{slash}{_UPLOADED.sub('', file)}".lstrip("/"))


def _together(entries: Sequence[Entry]) -> list[Entry]:
    """One entry for each image; ``DataError`` where two annotators contradict each other."""
    found: dict[str, Entry] = {}
    for entry in entries:
        first = found.setdefault(entry.name, entry)
        if first.label != entry.label:
            told: list[Label | None] = [first.label, entry.label]
            raise DataError(
                f"{entry.name!r} has the labels {told[0]!r} in {first.place} and {told[1]!r} in {entry.place}. Keep "
                "one annotation of each image."
            )
    return list(found.values())
