"""Asking a model about images: one answer per image, and one unreadable file stops nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import folder
from keras_transfer.data.checking import SUFFIXES
from keras_transfer.data.csv_file import listed_paths
from keras_transfer.data.forms import TABLES, images_of
from keras_transfer.data.remote import local_copy
from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import ImageError
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.tasks.specs import task_spec
from keras_transfer.workflow.evaluate import check_outputs, task_of
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer.workflow.unknown import Watch, watch_of

BATCH = 32


def predict(
    model: Any,
    images: Sequence[str | Path],
    *,
    top: int = 5,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    input_range: tuple[float, float] | None = None,
    logits: bool = False,
) -> Iterator[dict[str, Any]]:
    """Ask a model about images, one answer per image, in order.

    Args:
        model: as in :func:`evaluate`.
        images: files, folders that are searched for images, archives, parquet, or CSV files with a column ``path``.
        top: how many classes to tell.
        labels, preprocessing, input_range, logits: see :func:`keras_transfer.workflow.loaded_model.open_model`.

    Yields:
        ``{"path": ...}`` with the task's answer, such as ``"classes": [{"label", "probability"}, ...]`` (see
        ``Task.predict``), or ``{"path": ..., "error": reason}`` for a file that cannot be read. Of a run that was
        trained with ``unknown``: ``"unfamiliarity"`` and ``"answered"``; false with the ``"reason"`` ``"unknown"``.

    Raises:
        UsageError: a path does not exist, no image is found, or what a classifier gives are not probabilities.
    """
    if top < 1:
        raise UsageError(f"top={top} was given; at least 1 is expected.")
    paths = find_images(images)
    loaded = open_model(
        model, labels=labels, preprocessing=preprocessing, input_range=input_range, logits=logits
    )
    if task_spec(loaded.task).generates:
        raise UsageError(
            f"{loaded.name} generates images and cannot classify them: its task, {loaded.task}, has a verb "
            "for that "
            f"(keras-transfer {loaded.task} --help)."
        )
    watch = None if logits else watch_of(loaded)
    return _answers(loaded, task_of(loaded), paths, top, watch)


def find_images(images: Sequence[str | Path]) -> list[Path]:
    """The files, and the images in folders, archives, parquet and lists (a CSV's column ``path``), in order.

    Raises ``UsageError`` where there are none.
    """
    found: list[Path] = []
    for item in map(local_copy, images):
        unpacked = images_of(item) if item.is_file() else None
        where = item if unpacked is None else unpacked
        if where.is_dir():
            inside = folder.find_images(where)
            folder.tell_left_out(item, [skip for skip in inside.skipped if skip.counted])
            if not inside.images:
                raise UsageError(f"{item} holds no image ({', '.join(sorted(SUFFIXES))}).")
            found.extend(where / name for name in inside.images)
        elif item.suffix.lower() in TABLES and item.is_file():
            found.extend(listed_paths(item))
        elif item.exists():
            found.append(item)
        else:
            raise UsageError(f"{item}: no such file or folder. Give images or folders of images.")
    if not found:
        raise UsageError("No image was given. Give images or folders of images.")
    return found


def _answers(
    loaded: LoadedModel, task: Any, paths: list[Path], top: int, watch: Watch | None
) -> Iterator[dict[str, Any]]:
    def load(path: Path) -> np.ndarray | str:
        try:
            return loaded.preprocessing.load(path)
        except ImageError as error:
            return str(error)

    with contextlib.closing(ordered_map(load, paths, ahead=2 * BATCH)) as ahead:
        for begin in range(0, len(paths), BATCH):
            pixels: dict[Path, np.ndarray] = {}
            reasons: dict[Path, str] = {}
            chunk = paths[begin : begin + BATCH]
            for path in chunk:
                found = next(ahead)
                if isinstance(found, str):
                    reasons[path] = found
                else:
                    pixels[path] = found
            answers: dict[Path, dict[str, Any]] = {}
            if pixels:
                outputs = (watch or loaded).predict(np.stack(list(pixels.values())))
                told: list[dict[str, Any]] = [{}] * len(outputs)
                if watch is not None:
                    outputs, told = outputs[:, :-1], watch.told(outputs[:, -1])
                check_outputs(loaded, outputs)
                names = loaded.names or tuple(str(i) for i in range(outputs.shape[-1]))
                if len(names) != outputs.shape[-1]:
                    raise UsageError(
                        f"{loaded.name} gives {outputs.shape[-1]} outputs, but {len(names)} labels are known."
                    )
                given = zip(pixels, task.predict(outputs, names, top), told, strict=True)
                answers = {path: {**answer, **more} for path, answer, more in given}
            for path in chunk:
                yield {"path": str(path), **(answers[path] if path in answers else {"error": reasons[path]})}
