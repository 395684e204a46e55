"""Measuring a model on images: the same pixels and the same metrics for every format it may come in."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.kept import keep_pixels
from keras_transfer.errors import DataError, RunError, UsageError
from keras_transfer.evaluation.probabilities import require_probabilities
from keras_transfer.inference import outputs
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.run import Run
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import Task
from keras_transfer.tasks.loading import Changes, changed_options, task_of_run, task_with_notes
from keras_transfer.tasks.specs import task_spec
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer.workflow.unknown import outside_metrics, rejection, watch_of

log = logging.getLogger("keras_transfer")
BATCH = 32
SPLITS = ("train", "val", "test", "all")


def evaluate(
    model: Any,
    data: Any = None,
    *,
    split: str | None = None,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    settings: DataSettings | None = None,
    views: int = 1,
    task_options: Changes = (),
    input_range: tuple[float, float] | None = None,
    logits: bool = False,
    outside: str | Path | None = None,
) -> dict[str, Any]:
    """Measure a model on images with the preprocessing recorded beside it.

    Args:
        model: a run folder, a ``.keras`` file, a SavedModel folder, a ``.tflite``, or a Keras model.
        data: anything ``load_data`` takes, or an ``ImageTable``; for a run, its own data when not given.
        split: ``train``, ``val``, ``test`` or ``all``. Default: ``test`` for a run's own data and for data that
            come with splits, ``all`` otherwise; of images that a run knows by their content, those it did not learn
            from.
        labels: file with the class names, one per line, where nothing beside the model tells them.
        preprocessing: overrides what is recorded beside the model.
        settings: how the data are read.
        views: test-time augmentation: the mean of the outputs for so many views of each image, 1 to 12; see
            :func:`keras_transfer.inference.tta.tta_views`. 1 is plain prediction.
        task_options: options of the task to measure with instead of the recorded ones, by name (or as texts
            ``NAME=VALUE``): those that decide what is measured.
        input_range, logits: see :func:`keras_transfer.workflow.loaded_model.open_model`.
        outside: a folder of images that are of no class; of a run that was trained with ``unknown``.

    Returns:
        The task's metrics plus ``model``, ``data``, ``split``, ``views``, ``skipped`` (unreadable files) and
        ``trained_on``: how many of the images the run had learned from (None when no run is known). Of a run that was
        trained with ``unknown``, that, too: see :func:`~keras_transfer.workflow.unknown.rejection`; and ``outside``:
        :func:`~keras_transfer.workflow.unknown.outside_metrics`. The metrics are those of all images.

    Raises:
        UsageError: unknown split, a classifier whose outputs are not probabilities, nothing tells the class names, or
            task options that cannot be set here.
        DataError: the split is empty, or a label the model does not know.
    """
    check_split(split)
    loaded = open_model(
        model, labels=labels, preprocessing=preprocessing, input_range=input_range, logits=logits
    )
    task = task_of(loaded, task_options)
    if data is None:
        if loaded.run is None:
            raise UsageError(f"{loaded.name} does not tell its data: give a folder, a CSV or tfds:NAME.")
        with keep_pixels(loaded.preprocessing):
            table, default = run_table(loaded.run), "test"
    else:
        with keep_pixels(loaded.preprocessing):
            table = labelled(data, task, loaded.name, loaded.names, _as_trained(settings, loaded.run))
        default = "test" if len(table.indices("test")) else "all"
        if split is None and loaded.run is not None and not isinstance(data, ImageTable):
            table, default = _as_recorded(loaded.run, table, default)
    split = split or default
    measured = table.take(rows_of(table, split))
    generates = task_spec(loaded.task).generates
    if generates and views > 1:
        raise UsageError(f"views={views} was given; a model that generates images sees none. Leave it out.")
    draw = task.draw_inputs if generates else None
    watch = None if logits else watch_of(loaded)
    ask = (watch or loaded).predict
    answers = np.concatenate(
        list(outputs(ask, measured, loaded.preprocessing, "Evaluating", views=views, draw=draw))
    )
    more: dict[str, Any] = {}
    unfamiliarity = answers[:, -1] if watch is not None else answers
    if watch is not None:
        answers = answers[:, :-1]
        more["unknown"] = rejection(watch, unfamiliarity, task.decide(answers), measured)
    if outside is not None:
        more["outside"] = outside_metrics(watch, loaded, outside, unfamiliarity)
    check_outputs(loaded, answers)
    metrics = task.evaluate(answers, measured)
    seen = _trained_on(loaded, measured)
    if seen and split != "train":
        log.warning(
            "%d of the %d images were trained on: these metrics flatter the model.", seen, len(measured)
        )
    counted = sum(skipped.counted for skipped in table.skipped)
    return {
        "model": loaded.name,
        "task": loaded.task,
        "data": table.source,
        "split": split,
        "views": views,
        "images": len(measured),
        **metrics,
        "skipped": counted,
        "trained_on": seen,
        **more,
    }


def check_outputs(loaded: LoadedModel, outputs: np.ndarray) -> None:
    """``UsageError`` where a model should give probabilities and what it gave are none."""
    if loaded.kind == "probabilities":
        require_probabilities(outputs, loaded.name, exclusive=loaded.task == "classification")


def check_split(split: str | None) -> None:
    """Raise ``UsageError`` unless it is None or one of :data:`SPLITS`."""
    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r} was given; one of {', '.join(SPLITS)} is expected.")


def labelled(
    data: Any, task: Task, name: str, names: tuple[str, ...] | None, settings: DataSettings | None = None
) -> ImageTable:
    """The user's images, with the classes of a model in the order of its outputs.

    Args:
        data: anything ``load_data`` takes, or an ``ImageTable``.
        task: of the model.
        name: what the model is called in messages.
        names: of its outputs, None when nothing tells.
        settings: how the data are read; by default nothing is split off.

    Raises:
        UsageError: nothing tells the names, or a table has others or another order.
        DataError: the data cannot be used.
    """
    if isinstance(data, ImageTable):
        _require_order(name, names, data, task)
        return data
    if names is None:
        raise UsageError(
            f"Nothing beside {name} tells its class names and their order. Put labels.txt (one name per "
            "line) beside it, pass --labels-file (labels= from Python), or evaluate the run folder."
        )
    plain = settings or DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1)
    return task.load_data(data, plain, 0, names=names)


def rows_of(table: ImageTable, split: str) -> np.ndarray:
    """The rows of a split, or of ``all``. Raises ``DataError`` when there are none."""
    rows = np.arange(len(table)) if split == "all" else table.indices(split)
    if not len(rows):
        raise DataError(f"{table.source}: the {split} split holds no image. Choose another --split.")
    return rows


def task_of(loaded: LoadedModel, changes: Changes = ()) -> Task:
    """The task of a model, with its options (but for ``changes``) and what a run's training left in its notes.

    Raises:
        UsageError, PluginError: see :func:`keras_transfer.workflow.train.load_task`.
    """
    if loaded.run is not None:
        return task_of_run(loaded.run, changes)[1]
    options = changed_options(loaded.task, loaded.contract.options, changes)
    return task_with_notes(replace(loaded.contract, options=options))[1]


def run_table(run: Run) -> ImageTable:
    """The data of a run, with the split it was trained with.

    Raises:
        UsageError: the run was trained on arrays or a ``tf.data.Dataset``, or its data are not where they were.
    """
    source, settings = run.record.request.source, run.record.request.settings
    if source is None:
        raise UsageError(
            f"{run.path} was trained on data given from Python, which it cannot find again: pass the data."
        )
    wanted = replace(settings.data, split_from=str(run.split_path), groups=None)
    _, task = task_of_run(run)
    try:
        table = task.load_data(source, wanted, settings.seed)
    except UsageError as error:
        raise UsageError(
            f"The data of {run.path} cannot be read again: {error} If they are elsewhere now, say where: --data DATA "
            "(`evaluate RUN DATA`; data= from Python)."
        ) from None
    if table.fingerprint() != run.record.data.fingerprint:
        log.warning("%s has changed since %s was trained.", source, run.path)
    return table


def _require_order(name: str, names: tuple[str, ...] | None, table: ImageTable, task: Task) -> None:
    """A table brings its own numbering of the classes; with another one every metric would be wrong in silence."""
    if names is None:
        return
    given = task.output_contract((len(names),), table).names
    if tuple(given) != tuple(names):
        raise UsageError(
            f"{table.source} has the classes {', '.join(given)}; {name} gives "
            f"{', '.join(names)}, in this order. Load the data with load_data(..., classes={names!r})."
        )


def _as_trained(settings: DataSettings | None, run: Run | None) -> DataSettings | None:
    """The labels of a run's other data are joined by the same sign."""
    separator = run.record.request.settings.data.separator if run is not None else ";"
    if separator == ";" or (settings is not None and settings.separator != ";"):
        return settings
    plain = settings or DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1)
    return replace(plain, separator=separator)


def _as_recorded(run: Run, table: ImageTable, default: str) -> tuple[ImageTable, str]:
    """The table with the recorded split for images that the run knows by their content; and which is measured.

    Where the run learned from all of them, nothing else is left to measure.
    """
    recorded = recorded_splits(run)
    known = np.array([digest in recorded for digest in table.sha256])
    if not any(recorded.get(digest) in run.learned_from for digest in table.sha256):
        return table, default
    splits = np.array(["test"] * len(table), "<U5") if default == "all" else table.splits.copy()
    splits[known] = [recorded[digest] for digest in table.sha256 if digest in recorded]
    if not (splits == "test").any():
        return table, default
    seen = known & np.isin(splits, run.learned_from)
    chosen = (known & ~seen & (splits == "val")).sum()
    log.warning(
        "%d of the %d images were trained on%s, judged by their content, and are left out. --split all measures all.",
        seen.sum(),
        len(table),
        f", and {chosen} chosen by" if chosen else "",
    )
    return replace(table, splits=splits), "test"


def recorded_splits(run: Run) -> dict[str, str]:
    """{SHA-256: split} of the images of a run; where one image is in several, ``train`` counts."""
    # Names of files need not be UTF-8; they are written with surrogates.
    path = run.split_path
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [(row["sha256"], row["split"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, csv.Error) as error:
        raise RunError(
            f"{path} does not tell which images were trained on ({error}). Restore it, or train again."
        ) from error
    return dict(sorted(rows, key=lambda row: row[1] == "train"))


def _trained_on(loaded: LoadedModel, table: ImageTable) -> int | None:
    if loaded.run is None:
        return None
    recorded, learned = recorded_splits(loaded.run), loaded.run.learned_from
    return sum(recorded.get(digest) in learned for digest in table.sha256)
