"""One training from data to run folder, for any task: the core's part of it."""

from __future__ import annotations

import csv
import datetime
import io
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Unpack

import keras
import numpy as np

import keras_transfer
from keras_transfer import options as option_tools
from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.building import input_size
from keras_transfer.catalog import OWN
from keras_transfer.data import ImageTable
from keras_transfer.data.checking import write_skipped
from keras_transfer.data.kept import keep_pixels
from keras_transfer.data.remote import is_remote
from keras_transfer.device_choice import read_devices
from keras_transfer.engine_choice import openvino_is_missing
from keras_transfer.errors import UsageError
from keras_transfer.features import model_hash
from keras_transfer.hashing import size_and_sha256
from keras_transfer.inference import KerasRunner, engines, outputs
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import BackboneRecord, DataRecord, ModelContract, RunRecord, TrainingRequest
from keras_transfer.records.features import FEATURES
from keras_transfer.run import HISTORY, MODEL, PREDICTIONS, SKIPPED, SPLIT, Run, RunWriter, new_run, open_run
from keras_transfer.setting_values import TrainValues
from keras_transfer.settings import ModelSettings, TrainSettings
from keras_transfer.tasks.base import Task, TaskSpec, TrainingContext
from keras_transfer.tasks.checked import CheckedTask, output_shape
from keras_transfer.tasks.frozen import layer_hashes, require_frozen
from keras_transfer.tasks.loading import load_task, origin, trained_task
from keras_transfer.training.devices import prepare_devices
from keras_transfer.workflow.leaking import tell_leaks
from keras_transfer.workflow.near_groups import write_near_groups
from keras_transfer.workflow.report import is_kept, write_beside
from keras_transfer.workflow.teacher import teacher_probabilities
from keras_transfer.workflow.unknown import NOTE, learn_unknown, refuse_unknown

log = logging.getLogger("keras_transfer")
NAMED_WEIGHTS = ("auto", "imagenet", "none")
DETERMINISM = "bit-identical on the same machine with the same package versions (CPU); a GPU promises nothing"


def train(
    source: Any,
    output: str | Path,
    *,
    task: str = "classification",
    task_options: Any = None,
    settings: TrainSettings | None = None,
    overwrite: bool = False,
    **values: Unpack[TrainValues],
) -> Run:
    """Train a model on images and leave a run folder.

    Args:
        source: a folder, a CSV, ``tfds:NAME``, ``(images, labels)`` arrays, or a ``tf.data.Dataset``.
        output: the run folder to make.
        task: name of an installed task.
        task_options: an instance of the task's options dataclass; default: its defaults.
        settings: everything else; or give single settings by name (``backbone="resnet50", strategy="full"``).
        overwrite: replace a finished run.

    Returns:
        The finished run, opened.

    Raises:
        UsageError, DataError, WeightsError, PluginError: see :mod:`keras_transfer.errors`. What was computed
            until then is kept, and the same call takes it up.
    """
    if settings is not None and values:
        raise UsageError("Give either settings= or single settings by name, not both.")
    settings = settings or TrainSettings.of(**values)
    settings = _with_lasting_paths(settings)
    for group in (settings.data, settings.model, settings.fit, settings.gradient):
        option_tools.check(group)
    engines.require(settings.fit)
    read_devices(settings.gradient.devices)
    spec, worker = load_task(task, task_options)
    settings = worker.settings_for(settings)
    prepare_devices(settings.gradient.devices)  # before anything is computed
    refuse_unknown(spec, worker.options, settings.fit.unknown)
    request = TrainingRequest(
        source=_lasting(source) if isinstance(source, (str, Path)) else None,
        task=task,
        options=option_tools.to_dict(worker.options),
        settings=settings,
        version=keras_transfer.__version__,
        files=_files_of(settings),
    )
    with new_run(output, request.to_dict(), overwrite=overwrite) as run:
        _train_into(run, source, spec, worker, request, overwrite)
    return open_run(run.path)


def _files_of(settings: TrainSettings) -> dict[str, str]:
    """SHA-256 of the user's files that a run learns from: one that is taken up has to find the same ones."""
    named = {
        "weights": settings.model.weights,
        "backbone": settings.model.backbone.removeprefix(OWN),
        "teacher": settings.fit.teacher,
        "features": settings.fit.features and str(Path(settings.fit.features) / FEATURES),
    }
    named = {name: path for name, path in named.items() if path and Path(path).is_absolute()}
    found = {name: Path(path) for name, path in named.items() if path and Path(path).exists()}
    return {name: size_and_sha256(path)[1] for name, path in found.items()}


def _with_lasting_paths(settings: TrainSettings) -> TrainSettings:
    def absolute(path: str | None) -> str | None:
        return None if path is None else _lasting(path)

    data, model, fit = settings.data, settings.model, settings.fit
    weights = model.weights if model.weights in NAMED_WEIGHTS else _lasting(model.weights)
    return replace(
        settings,
        data=replace(
            data,
            image_root=absolute(data.image_root),
            split_from=absolute(data.split_from),
            groups=absolute(data.groups),
            tfds_data_dir=absolute(data.tfds_data_dir),
        ),
        model=replace(model, weights=weights, backbone=_lasting_backbone(model.backbone)),
        fit=replace(fit, teacher=absolute(fit.teacher), features=absolute(fit.features)),
    )


def _lasting_backbone(name: str) -> str:
    return OWN + _lasting(name.removeprefix(OWN)) if name.startswith(OWN) else name


def _lasting(source: str | Path) -> str:
    """How a run remembers where its data are: from another working folder they must still be found."""
    text = str(source)
    named = text.startswith("tfds:") or is_remote(text)
    return text if named else str(Path(text).expanduser().absolute())


def preprocessing_for(model: ModelSettings, size: tuple[int, int]) -> Preprocessing:
    """The preprocessing contract these settings describe, for a model of input ``(H, W)``."""
    return Preprocessing(
        size=size,
        resize=model.resize,
        interpolation=model.interpolation,
        antialias=model.antialias,
        decode=model.decode,
    )


def expected_preprocessing(model: ModelSettings) -> Preprocessing | None:
    """What :func:`preprocessing_for` will give for the network of these settings, before it is made.

    None for a network of the user's own: only its file knows the size.
    """
    if model.backbone.startswith(OWN):
        return None
    return preprocessing_for(model, input_size(get_spec(model.backbone), model.image_size))


def outputs_for(
    model: keras.Model,
    table: ImageTable,
    preprocessing: Preprocessing,
    label: str,
    draw: Callable[[ImageTable], np.ndarray] | None = None,
) -> np.ndarray:
    """The model's outputs ``(N, ...)`` for every image of a table, in order, streamed.

    ``draw``: of a model that generates; see :func:`keras_transfer.data.pipeline.input_batches`.
    """
    return np.concatenate(list(outputs(KerasRunner(model).predict, table, preprocessing, label, draw=draw)))


def _train_into(
    run: RunWriter,
    source: Any,
    spec: TaskSpec,
    task: CheckedTask,
    request: TrainingRequest,
    overwrite: bool,
) -> None:
    settings = request.settings
    started = datetime.datetime.now(datetime.UTC)
    keras.utils.set_random_seed(settings.seed)
    with run.stage("data"), keep_pixels(_wanted_pixels(spec, task, settings.model)):
        data = task.load_data(source, settings.data, settings.seed)
        _require_grouped(data, settings.data.groups, "--groups", spec)
    if settings.fit.group_near_duplicates:
        with run.stage("near-duplicates"), tempfile.TemporaryDirectory() as folder:
            groups = _near_groups(data, settings, Path(folder))
            data = task.load_data(source, replace(settings.data, groups=groups), settings.seed)
            _require_grouped(data, groups, "--group-near-duplicates", spec)
    if run.has_checkpoints and (difference := _difference(run.path / SPLIT, data)):
        if not overwrite:
            raise UsageError(
                f"The interrupted run was started with other images ({difference}). Restore them, or start again with "
                "--overwrite."
            )
        shutil.rmtree(run.state)
    counts = {split: len(data.indices(split)) for split in ("train", "val", "test")}
    data.write_csv(run.path / SPLIT)
    write_skipped(run.path / SKIPPED, data.skipped)
    with run.stage("backbone"):
        backbone, recorded = _backbone(spec, task, settings)
    size = tuple(backbone.input_shape[1:3]) if backbone is not None else _size_without(settings.model)
    teacher = None
    if settings.fit.teacher is not None:
        with run.stage("teacher"):
            teacher = teacher_probabilities(settings.fit.teacher, data)
    context = TrainingContext(
        settings=settings,
        preprocessing=preprocessing_for(settings.model, size),
        run=run,
        task=spec.name,
        backbone=backbone,
        teacher=teacher,
        say=log.info,
    )
    keras.utils.set_random_seed(settings.seed)
    model = task.build(data, context)
    before = {} if backbone is None else layer_hashes(backbone)
    fitted = task.fit(model, data, context)
    shipped, notes = fitted.model, dict(fitted.notes)
    if backbone is not None:
        require_frozen(task.who, settings.fit, notes, backbone, before)
        if "features" in notes:
            with run.stage("leaks"):
                whole = backbone if notes.get("strategy") == "probe" else backbone_for(settings.model)
                leaking = tell_leaks(data, whole, context.preprocessing, notes)
            if leaking is not None:
                notes["near_duplicates"] = leaking
    if settings.fit.unknown != "none":
        with run.stage("unknown"):
            notes[NOTE] = learn_unknown(shipped, data, context, notes)
    task = trained_task(task, notes, run.path)
    contract = task.output_contract(output_shape(shipped), data)
    split = "test" if counts["test"] else "val" if counts["val"] else "train"
    if split != "test":
        log.warning("There is no test split: the metrics are measured on the %s images.", split)
    with run.stage("evaluation"):
        measured = data.take(data.indices(split))
        draw = task.draw_inputs if spec.generates else None
        answers = outputs_for(shipped, measured, context.preprocessing, "Evaluating", draw)
        found = task.evaluate(answers, measured)
        metrics = {"images": len(measured), **found}
    task.plots(answers, measured, found, run.plots)
    tried = notes.get("probe") or notes.get("head") or {}
    run.write_rows(HISTORY, fitted.history or tried.get("trials", []))
    shipped.save(run.path / MODEL)
    if is_kept(answers.shape, answers.dtype.name):
        np.save(run.path / PREDICTIONS, answers.astype(np.float32), allow_pickle=False)
    summary = data.summary()
    record = RunRecord(
        request=request,
        started=started.isoformat(timespec="seconds"),
        seconds={name: round(value, 3) for name, value in run.seconds.items()},
        resumed=run.resumed,
        plugin=origin(spec.name),
        versions=_versions(),
        determinism=DETERMINISM,
        data=DataRecord(summary.pop("source"), summary.pop("fingerprint"), summary),
        backbone=recorded,
        contract=ModelContract(
            task=spec.name,
            options=request.options,
            notes=notes,
            kind=contract.kind,
            shape=tuple(contract.shape),
            names=tuple(contract.names),
            pixels=context.preprocessing.to_dict(),
        ),
        metrics={split: metrics},
    )
    write_beside(run.path, run.target, record, data)
    run.write_record(record)


def _require_grouped(data: ImageTable, groups: str | None, option: str, spec: TaskSpec) -> None:
    if groups is not None and data.groups is None:
        raise UsageError(
            f"{option}: the task {spec.name} makes splits of its own and takes no groups. "
            "Leave it out, or give the splits."
        )


def _near_groups(data: ImageTable, settings: TrainSettings, folder: Path) -> str | None:
    """A file of groups in ``folder``, the user's own among them; None where no image has another."""
    backbone = backbone_for(settings.model)
    pixels, path = preprocessing_for(settings.model, backbone.input_shape[1:3]), folder / "groups.csv"
    alike = write_near_groups(data, backbone, path, preprocessing=pixels, engine=settings.fit)
    return str(path) if alike else settings.data.groups


def _difference(recorded: Path, data: ImageTable) -> str:
    """How data differ from a recorded split, in words; empty when they do not."""
    if not recorded.is_file():
        return ""
    before, now = (
        _by_path(recorded.read_bytes().decode("utf-8", "surrogateescape")),
        _by_path(data.csv_text()),
    )
    changes = {
        "new": sorted(now.keys() - before.keys()),
        "gone": sorted(before.keys() - now.keys()),
        "changed": sorted(path for path in now.keys() & before.keys() if now[path] != before[path]),
    }
    return "; ".join(f"{len(paths)} {what}, such as {paths[0]}" for what, paths in changes.items() if paths)


def _by_path(text: str) -> dict[str, tuple[str, ...]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return {row["path"]: (row["label"], row["split"], row["weight"], row["sha256"]) for row in rows}


def _wanted_pixels(spec: TaskSpec, task: Task, model: ModelSettings) -> Preprocessing | None:
    """What the images will go through, as far as it is known before the network is made."""
    if spec.needs_backbone and task.takes_backbone():
        return expected_preprocessing(model)
    return preprocessing_for(model, _size_without(model))


def _size_without(model: ModelSettings) -> tuple[int, int]:
    """The size of a task's images that takes no backbone."""
    return (model.image_size or 224,) * 2


def _backbone(
    spec: TaskSpec, task: Task, settings: TrainSettings
) -> tuple[keras.Model | None, BackboneRecord | None]:
    if not (spec.needs_backbone and task.takes_backbone()):
        return None, None
    wanted = settings.model
    weights = "none" if settings.fit.strategy == "scratch" else wanted.weights
    backbone = backbone_for(wanted, weights)
    facts = None if wanted.backbone.startswith(OWN) else get_spec(wanted.backbone)
    return backbone, BackboneRecord(
        name=facts.name if facts else wanted.backbone,
        weights=weights,
        hash=model_hash(backbone),
        feature_dim=int(backbone.output_shape[-1]),
        image_size=tuple(backbone.input_shape[1:3]),
        paper=facts.paper if facts else None,
        licence=facts.licence if facts else "its owner's",
    )


def backbone_for(model: ModelSettings, weights: str | None = None) -> keras.Model:
    """The backbone these settings describe; ``weights`` instead of theirs."""
    return load_backbone(
        model.backbone,
        weights=model.weights if weights is None else weights,
        image_size=model.image_size,
        cut=model.cut,
        input_mode=model.input_mode,
    )


def _versions() -> dict[str, str]:
    names = ["tensorflow", "keras", "keras-cv", "ai-edge-litert", "scikit-learn", "Pillow", "numpy"]
    if not openvino_is_missing():  # it may have computed the features
        names.append("openvino")
    versions = {name: metadata.version(name) for name in names}
    return {"keras-transfer": keras_transfer.__version__, "python": platform.python_version(), **versions}
