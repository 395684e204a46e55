"""Exporting a run: its model, proven on its own test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import CacheError
from keras_transfer.export import FORMATS, About, ExportReport, export_model
from keras_transfer.export.fallback import FALLBACK
from keras_transfer.export.parity import Judge
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.features.identity import model_hash
from keras_transfer.hashing import sha256_of_file
from keras_transfer.run import BACKBONE, INFO, Run, open_run
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import Task
from keras_transfer.tasks.loading import task_of_run
from keras_transfer.tasks.specs import task_spec
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.judging import judge_for


def export_run(
    run: str | Path | Run,
    to: str | Path,
    *,
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = ("float32",),
    data: Any = None,
    uint8_input: bool = False,
    all_integer: bool = False,
    keep_float: int = 0,
    calibration_size: int = 100,
    accuracy_budget: float | None = None,
    fallback: Sequence[str] = FALLBACK,
    allow_parity_failure: bool = False,
    overwrite: bool = False,
    title: str | None = None,
    data_licence: str | None = None,
) -> ExportReport:
    """Export a run's model and compare every artefact with it on the run's test images.

    Args:
        run: a run folder.
        to: the folder to make.
        formats: ``keras``, ``saved-model``, ``tflite``.
        precisions: of the TFLite files: ``float32``, ``float16``, ``dynamic``, ``int8``, ``int16x8``.
        data: the run's data, when they cannot be found again by name (arrays, a moved folder); the recorded split
            is applied to them by content.
        uint8_input: see :func:`keras_transfer.export.export_model`, as for the next five.
        all_integer: see there.
        keep_float: see there.
        calibration_size: see there.
        accuracy_budget: see there.
        fallback: see there.
        allow_parity_failure: keep artefacts that do not answer like the model.
        overwrite: replace an earlier export.
        title: what the model is called in its card; by default the run folder's name.
        data_licence: of the images, for the card: some of them travel with the bundle.

    Raises:
        UsageError: see :func:`keras_transfer.export.export_model`.
        ParityError: an artefact does not answer like the model; ``parity.json`` has the evidence.
    """
    opened, task, table = open_with_data(run, data)
    record = opened.record
    deploy = record.contract.notes.get("deploy")
    wanted = "int8" in precisions or (accuracy_budget is not None and "int8" in fallback)
    model = task.inference_model(opened.load_model())
    return export_model(
        model,
        Path(to),
        formats=tuple(formats),
        precisions=tuple(precisions),
        table=_as_learned(opened, table),
        preprocessing=record.contract.preprocessing,
        classes=record.contract.names,
        judge=None if record.request.task == "classification" else judge_of(opened, task),
        uint8_input=uint8_input,
        all_integer=all_integer,
        keep_float=keep_float,
        calibration_size=calibration_size,
        accuracy_budget=accuracy_budget,
        fallback=tuple(fallback),
        seed=record.request.settings.seed,
        allow_parity_failure=allow_parity_failure,
        overwrite=overwrite,
        deployed=QuantizedBackbone.read(opened.path / BACKBONE, deploy) if deploy and wanted else None,
        about=About(
            title=title or opened.path.resolve().name,
            training=_origin(opened, model),
            weights_licence=_weights_licence(opened),
            data_licence=data_licence,
        ),
    )


def _as_learned(run: Run, table: ImageTable) -> ImageTable:
    """The table with all that the model learned from as training images.

    An artefact differs less from the model on images that the model was fitted to: nothing is proven on them.
    """
    return replace(table, splits=np.where(np.isin(table.splits, run.learned_from), "train", table.splits))


def judge_of(run: Run, task: Task) -> Judge:
    """How a run's task judges the outputs of its model."""
    return judge_for(task_spec(run.record.request.task), task, run.record.contract)


def open_with_data(run: str | Path | Run, data: Any = None) -> tuple[Run, Task, ImageTable]:
    """A run, its task, and its data with the recorded split; ``data``: see :func:`export_run`.

    Raises ``UsageError`` for data that are not found.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    _, task = task_of_run(opened)
    if data is None:
        table = run_table(opened)
    else:
        asked = opened.record.request.settings.data
        root = asked.image_root
        values = DataSettings(
            labels=asked.labels,
            max_skipped=asked.max_skipped,
            tfds_data_dir=asked.tfds_data_dir,
            separator=asked.separator,
            image_root=root if root is not None and Path(root).is_dir() else None,
            split_from=str(opened.split_path),
            min_per_class=1,
        )
        table = task.load_data(data, values, 0, names=opened.record.contract.names)
    return opened, task, table


def _weights_licence(run: Run) -> str | None:
    """Of the pretrained weights the run began with; None where they were the user's own, or none."""
    backbone = run.record.backbone
    scratch = run.record.contract.notes.get("strategy") == "scratch"
    return backbone.licence if backbone and backbone.catalogued and not scratch else None


def _identity(model: Any) -> str | None:
    """The trained network's hash: files that were made from it can be told from others. None for foreign code."""
    try:
        return model_hash(model)
    except CacheError:
        return None


def _origin(run: Run, model: Any) -> dict[str, Any]:
    """What a bundle tells about the run it comes from: no path of this machine."""
    record, notes = run.record, run.record.contract.notes
    return {
        "backbone": record.backbone.name if record.backbone else None,
        "weights": record.backbone.hash if record.backbone else None,
        "strategy": notes.get("strategy"),
        **({"head_fitted_on": "int8 backbone"} if "deploy" in notes else {}),
        "seed": record.request.settings.seed,
        "images": sum(record.data.images(split) for split in run.learned_from),
        "data": record.data.fingerprint,
        "run": sha256_of_file(run.path / INFO),
        "model": _identity(model),
        "started": record.started,
        "plugin": record.plugin.to_dict() if record.plugin else None,
    }
