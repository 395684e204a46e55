"""Exporting a run: its model, proven on its own test images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.kept import keep_pixels
from keras_transfer.errors import CacheError
from keras_transfer.export import About, ExportReport, export_model
from keras_transfer.export.parity import Judge
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.export.targets.plan import with_targets
from keras_transfer.features.identity import model_hash
from keras_transfer.hashing import sha256_of_file
from keras_transfer.records import ExportOptions
from keras_transfer.run import BACKBONE, INFO, Run, open_run
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.checked import CheckedTask
from keras_transfer.tasks.loading import task_of_run
from keras_transfer.tasks.specs import task_spec
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.judging import judge_for
from keras_transfer.workflow.report import renew


def export_run(
    run: str | Path | Run,
    to: str | Path,
    *,
    options: ExportOptions | None = None,
    data: Any = None,
    overwrite: bool = False,
    **values: Any,
) -> ExportReport:
    """Export a run's model and compare every artefact with it on the run's test images.

    Args:
        run: a run folder.
        to: the folder to make.
        options: what is exported, and how; or give single options by name
            (``precisions=("float32", "int8"), title="cells"``): see :class:`keras_transfer.records.ExportOptions`.
        data: the run's data, when they cannot be found again by name (arrays, a moved folder); the recorded split
            is applied to them by content.
        overwrite: replace an earlier export.

    Raises:
        UsageError: see :func:`keras_transfer.export.export_model`.
        ParityError: an artefact does not answer like the model; ``parity.json`` has the evidence.
    """
    asked = ExportOptions.given(options, values)
    options = with_targets(asked)
    opened, task, table = open_with_data(run, data)
    record = opened.record
    deploy = record.contract.notes.get("deploy")
    ships_it = deploy and options.makes("int8") and options.all_integer == asked.all_integer
    model = opened.load_model()
    report = export_model(
        model,
        Path(to),
        table=_as_learned(opened, table),
        preprocessing=record.contract.preprocessing,
        classes=record.contract.names,
        options=options,
        judge=judge_of(opened, task),
        seed=record.request.settings.seed,
        overwrite=overwrite,
        deployed=QuantizedBackbone.read(opened.path / BACKBONE, deploy) if deploy and ships_it else None,
        about=About(
            title=opened.path.resolve().name,
            training=_origin(opened, model),
            weights_licence=_weights_licence(opened),
        ),
    )
    renew(opened, Path(to), table)
    return report


def _as_learned(run: Run, table: ImageTable) -> ImageTable:
    """The table with all that the model learned from as training images.

    An artefact differs less from the model on images that the model was fitted to: nothing is proven on them.
    """
    return replace(table, splits=np.where(np.isin(table.splits, run.learned_from), "train", table.splits))


def judge_of(run: Run, task: CheckedTask) -> Judge:
    """How a run's task judges the outputs of its model."""
    return judge_for(task_spec(run.record.request.task), task, run.record.contract)


def open_with_data(run: str | Path | Run, data: Any = None) -> tuple[Run, CheckedTask, ImageTable]:
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
            label_mode=asked.label_mode,
            max_skipped=asked.max_skipped,
            tfds_data_dir=asked.tfds_data_dir,
            separator=asked.separator,
            image_root=root if root is not None and Path(root).is_dir() else None,
            split_from=str(opened.split_path),
            min_per_class=1,
        )
        with keep_pixels(opened.record.contract.preprocessing):
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
