"""A teacher for a smaller network: its probabilities for every image, computed once and kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.features.cache import FeatureCache, Writer
from keras_transfer.features.shards import FORMAT
from keras_transfer.inference import outputs
from keras_transfer.workflow.subject import Subject, open_subject


def teach(teacher: str | Path, table: ImageTable) -> np.ndarray:
    """The teacher's answers for all images of a table, with the teacher's own preprocessing.

    Args:
        teacher: a run folder, a ``.keras`` file, a SavedModel folder or a ``.tflite`` of a classifier.
        table: images with single classes.

    Returns:
        float32 ``(N, C)`` probabilities in the order of ``table.classes``. Kept in the cache under the hash of the
        model's file and of each image: a second training asks nobody.

    Raises:
        UsageError: no such model, not a classifier, or one with other classes; both lists are compared.
    """
    subject = open_subject(teacher)
    order = _order(subject, table)
    places: dict[str, int] = {}
    for row, digest in enumerate(table.sha256):
        places.setdefault(digest, row)
    path = Path(teacher)
    key = {
        "format": FORMAT,
        "teacher": _content(subject.run.model_path if subject.run is not None and path.is_dir() else path),
        "preprocessing": subject.preprocessing.fingerprint(),
        "classes": len(table.classes),
    }
    cache = FeatureCache()
    known = cache.collection(key, {"teacher": path.name})
    values = np.empty((len(table), len(table.classes)), np.float32)
    found = known.read(places, values)
    todo = np.array([row for digest, row in places.items() if digest not in found], np.int64)
    done = 0
    for answers in outputs(subject.predict, table, subject.preprocessing, "Asking the teacher", indices=todo):
        values[todo[done : done + len(answers)]] = answers
        done += len(answers)
    Writer(cache, known).write([table.sha256[row] for row in todo], values[todo])
    return values[[places[digest] for digest in table.sha256]][:, order]


def _order(subject: Subject, table: ImageTable) -> list[int]:
    """The teacher's column for each class of the table."""
    if subject.task != "classification" or table.kind != "classes":
        raise UsageError(
            f"The teacher {subject.name} is for {subject.task}, the labels are {table.kind}; a teacher teaches one "
            "class an image."
        )
    if subject.names is None:
        raise UsageError(
            f"Nothing beside the teacher {subject.name} tells its classes. Give a run folder, or put labels.txt (one "
            "name a line) beside the model."
        )
    if set(subject.names) != set(table.classes):
        only_teacher = sorted(set(subject.names) - set(table.classes))
        only_data = sorted(set(table.classes) - set(subject.names))
        raise UsageError(
            f"The teacher {subject.name} has other classes than {table.source}: only the teacher has "
            f"{_some(only_teacher)}, only the data have {_some(only_data)}. Train a teacher on the same classes."
        )
    return [subject.names.index(name) for name in table.classes]


def _some(names: list[str]) -> str:
    return (
        ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
    )


def _content(path: Path) -> str:
    """SHA-256 of a model file, or of every file of a folder under its name."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [
        (file.relative_to(path).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
