"""``ray predict``: what ``keras-transfer predict`` answers, of many images, by the machines of a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from keras_transfer.data import PathImages
from keras_transfer.errors import UsageError
from keras_transfer.hashing import sha256_of
from keras_transfer.inference import LiteRTRunner, engines
from keras_transfer.tasks.specs import task_spec
from keras_transfer.workflow.evaluate import check_outputs, task_of
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer.workflow.predict import find_images
from keras_transfer_ray.job import PREDICTIONS, Job, Model, Outcome, opened
from keras_transfer_ray.networks import converted
from keras_transfer_ray.settings import ClusterSettings
from keras_transfer_ray.shards import values_of


@dataclass(frozen=True)
class Predicted:
    """What :func:`predict` gives: how many files were answered, how many cannot be read, and what was done for it."""

    images: int
    unreadable: int
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"images": self.images, "unreadable": self.unreadable, **self.outcome.to_dict()}


def predict(
    model: str,
    source: str,
    output: str,
    *,
    top: int = 5,
    cluster: ClusterSettings | None = None,
    overwrite: bool = False,
) -> Predicted:
    """Ask a model about every image, by the workers of a cluster; the answers are ``predictions.jsonl``, one a line.

    Args:
        model: a run folder, whose network is converted; or a ``.tflite`` of a bundle, which the workers run as it is.
        source: a file, a folder that is searched for images, or what else ``predict`` takes.
        output: a folder or its address, which every machine of the cluster reaches.
        top: how many classes to tell.

    Raises:
        UsageError, DataError, KerasTransferError: the message says what to do.
    """
    if top < 1:
        raise UsageError(f"top={top} was given; at least 1 is expected.")
    cluster = cluster or ClusterSettings()
    with opened("predict", output, cluster, overwrite=overwrite) as job:
        paths = [path.absolute() for path in find_images([source])]
        loaded = open_model(model)
        if task_spec(loaded.task).generates:
            raise UsageError(
                f"{loaded.name} generates images and cannot classify them: its task, {loaded.task}, has a verb for "
                f"that (keras-transfer {loaded.task} --help)."
            )
        root = Path(os.path.commonpath([path.parent for path in paths]))
        images = PathImages(root, tuple(path.relative_to(root).as_posix() for path in paths))
        outcome = job.run(images, _model_for(loaded, images))
        unreadable = 0
        with job.store.writing(PREDICTIONS) as file:
            for path, answer in zip(paths, _answers(job, outcome, loaded, top), strict=True):
                unreadable += "error" in answer
                line = json.dumps({"path": str(path), **answer}, ensure_ascii=False)
                file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    return Predicted(len(paths), unreadable, outcome)


def _model_for(loaded: LoadedModel, images: PathImages) -> Model:
    """What the workers run of a model."""
    if loaded.run is None and not loaded.recorded:
        raise UsageError(
            f"Nothing beside {loaded.name} tells its classes and its pixels. Give a run folder, or a .tflite of a "
            "bundle."
        )
    if isinstance(loaded.runtime, LiteRTRunner):
        content = Path(loaded.name).read_bytes()
        return Model(content, sha256_of(content), loaded.preprocessing)
    if loaded.keras_model is None:
        raise UsageError(
            f"{loaded.name} is no model that the workers can run: they run LiteRT. "
            "Give the run folder, or a .tflite of the bundle."
        )
    network = engines.sized_model(loaded.keras_model, loaded.preprocessing.size)
    return converted(network, loaded.preprocessing, images)


def _answers(job: Job, outcome: Outcome, loaded: LoadedModel, top: int) -> Iterator[dict[str, Any]]:
    """What a task says of each file, in order: ``{"error": reason}`` of one that cannot be read."""
    task = task_of(loaded)
    shape = tuple(loaded.runtime.outputs[0].shape[1:]) if loaded.runtime is not None else ()
    for table in job.tables(outcome.shards):
        yield from _of_shard(table, task, loaded, shape, top)


def _of_shard(
    table: pyarrow.Table, task: Any, loaded: LoadedModel, shape: tuple[int, ...], top: int
) -> Iterator[dict[str, Any]]:
    values = values_of(table)
    told: list[dict[str, Any]] = []
    if len(values):
        outputs = values.reshape(len(values), *shape)
        check_outputs(loaded, outputs)
        names = loaded.names or tuple(str(i) for i in range(outputs.shape[-1]))
        told = task.predict(outputs, names, top)
    answers = iter(told)
    for reason in table.column("reason").to_pylist():
        yield next(answers) if reason is None else {"error": reason}
