"""A teacher for a smaller network: its probabilities for every image, computed once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.features.cache import FeatureCache, Writer
from keras_transfer.features.shards import FORMAT
from keras_transfer.hashing import sha256_of_file, sha256_of_json
from keras_transfer.inference import outputs
from keras_transfer.workflow.loaded_model import LoadedModel, open_model


def teacher_probabilities(teacher: str | Path, table: ImageTable) -> np.ndarray:
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
    loaded = open_model(teacher)
    order = _order(loaded, table)
    places: dict[str, int] = {}
    for row, digest in enumerate(table.sha256):
        places.setdefault(digest, row)
    path = Path(teacher)
    key = {
        "format": FORMAT,
        "teacher": _content(loaded.run.model_path if loaded.run is not None and path.is_dir() else path),
        "preprocessing": loaded.preprocessing.fingerprint(),
        "classes": len(table.classes),
    }
    cache = FeatureCache()
    known = cache.collection(key, {"teacher": path.name})
    values = np.empty((len(table), len(table.classes)), np.float32)
    found = known.read(places, values)
    todo = np.array([row for digest, row in places.items() if digest not in found], np.int64)
    done = 0
    for answers in outputs(loaded.predict, table, loaded.preprocessing, "Asking the teacher", indices=todo):
        values[todo[done : done + len(answers)]] = answers
        done += len(answers)
    Writer(cache, known).write([table.sha256[row] for row in todo], values[todo])
    return values[[places[digest] for digest in table.sha256]][:, order]


def _order(loaded: LoadedModel, table: ImageTable) -> list[int]:
    """The teacher's column for each class of the table."""
    if loaded.task != "classification" or table.label_mode != "classes":
        raise UsageError(
            f"The teacher {loaded.name} is for {loaded.task}, the labels are {table.label_mode}; a teacher teaches one "
            "class per image."
        )
    if loaded.names is None:
        raise UsageError(
            f"Nothing beside the teacher {loaded.name} tells its classes. Give a run folder, or put labels.txt (one "
            "name per line) beside the model."
        )
    if set(loaded.names) != set(table.classes):
        only_teacher = sorted(set(loaded.names) - set(table.classes))
        only_data = sorted(set(table.classes) - set(loaded.names))
        raise UsageError(
            f"The teacher {loaded.name} has other classes than {table.source}: only the teacher has "
            f"{_some(only_teacher)}, only the data have {_some(only_data)}. Train a teacher on the same classes."
        )
    return [loaded.names.index(name) for name in table.classes]


def _some(names: list[str]) -> str:
    return (
        ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
    )


def _content(path: Path) -> str:
    """SHA-256 of a model file, or of every file of a folder under its name."""
    if path.is_file():
        return sha256_of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_json([(file.relative_to(path).as_posix(), sha256_of_file(file)) for file in files])
