"""From a Keras classifier to a folder of proven artefacts."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.backbones.own import in_float32
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import ExportError, ParityError
from keras_transfer.evaluation.probabilities import require_probabilities
from keras_transfer.export import clients, folder, golden, manifest, standalone
from keras_transfer.export.calibration import calibration_rows
from keras_transfer.export.card import card
from keras_transfer.export.conversion import Conversion
from keras_transfer.export.fallback import choose_within
from keras_transfer.export.manifest import About
from keras_transfer.export.measure import Answers, latency, temporary_folder
from keras_transfer.export.parity import Judge, same_numbers, scale_of
from keras_transfer.export.proving import Gate
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.export.questions import Questions
from keras_transfer.export.report import CalibrationReport, ExportReport
from keras_transfer.export.request import (
    Target,
    check_generator,
    check_model,
    choose_split,
    plan_targets,
)
from keras_transfer.export.targets.making import make_targets
from keras_transfer.export.targets.plan import with_targets
from keras_transfer.inference import Runner, load_runner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions, layout
from keras_transfer.records.export_options import CALIBRATED

log = logging.getLogger("keras_transfer")


def export_model(
    model: keras.Model,
    to: str | os.PathLike[str],
    *,
    table: ImageTable,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None = None,
    options: ExportOptions | None = None,
    parity_split: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    about: About | None = None,
    deployed: QuantizedBackbone | None = None,
    judge: Judge | None = None,
    logits: bool = False,
    **values: Any,
) -> ExportReport:
    """Export a classifier, run every artefact through its own runtime, and compare it with the Keras model.

    ``to`` becomes a bundle: ``model.keras``, ``saved_model/``, ``model.tflite`` (float32), ``model_float16.tflite``,
    ``model_dynamic.tflite``, ``model_int8.tflite`` ... as asked, ``labels.txt``, ``golden/`` (real images with every
    artefact's answers), ``classify.py`` and the task's own script (both run without TensorFlow), ``clients/`` (the same
    pixels and answers in other languages), ``README.md`` (a model card), and ``bundle.json``, which describes and lists
    all of it. It appears when all is done, or not at all.

    Args:
        model: float32 ``(B, H, W, 3)``, RGB in [0, 255], to probabilities ``(B, C)``. Not changed.
        to: the folder to make.
        table: real images with class labels: artefacts are compared on one split, int8 is calibrated on ``train``.
        preprocessing: how an image becomes the model's pixels.
        classes: the names of the ``C`` outputs; default: the classes of ``table``.
        options: what is exported, and how; or give single options by name (``precisions=("int8",), keep_float=2``):
            see :class:`keras_transfer.records.ExportOptions`.
        parity_split: ``test``, ``val`` or ``train``; by default ``test``, or ``val`` when there are no test images.
        seed: of the calibration sample.
        overwrite: replace an earlier export. If the new one fails its proof, only the evidence is left.
        about: title, origin and licences, for ``bundle.json`` and the card. A title or a data licence among the
            options is taken instead of its own.
        deployed: the int8 backbone the model's head was fitted on: int8 ships it instead of making one.
        judge: how outputs are judged, and their names, for a model that is no classifier.
        logits: the model ends without a softmax: one is appended.

    Raises:
        PluginError: the task's standalone script is not there.
        UsageError: an impossible argument, a destination that is in use, or a model, classes and data that do not fit.
        DataError: an image cannot be read any more.
        ExportError: a converter failed, or the disk refuses.
        ParityError: an artefact does not answer like the model. ``to`` then holds ``parity.json`` with the evidence
            and nothing else.
    """
    to = Path(os.path.abspath(Path(to).expanduser()))  # noqa: PTH100 (resolve() would replace a link by its target)
    options = with_targets(ExportOptions.given(options, values))
    about = _titled(about or About(), options)
    targets = plan_targets(options.formats, options.precisions)
    budget = plan_targets(("tflite",), options.candidates)
    if judge is not None and judge.draw is not None:
        check_generator(options)
    if deployed is not None and options.makes("int8"):
        deployed.check(options, seed)
    judge = judge or Judge(tuple(table.classes if classes is None else classes))
    model = in_float32(model)
    if logits:
        model = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]), name=model.name)
    reference = check_model(model, preprocessing, judge, table)
    scripts = standalone.scripts(judge.standalone, len(judge.shape) == 1, judge.draw is None)
    split = choose_split(table, parity_split)
    folder.check_destination(to, overwrite)
    rows = None
    if options.makes(*CALIBRATED):
        rows = calibration_rows(table, options.calibration_size, seed)
    conversion = Conversion(model, table, preprocessing, judge, rows, options, deployed)
    questions = Questions(table, preprocessing, table.indices(split), judge.draw)
    measured = table.take(questions.rows)
    try:
        with (
            folder.new_folder(to, overwrite) as partial,
            temporary_folder(partial.parent) as outputs,
            Answers(questions, judge.shape, outputs) as asked,
        ):
            asked.ask(reference)
            runtimes = [asked.ask(_make(conversion, partial, target)) for target in targets]
            budget, candidates = _make_candidates(conversion, partial, budget, asked)
            runtimes += candidates
            expected, *answers = asked.collect(f"Comparing on {split}")
            if judge.kind == "probabilities":
                require_probabilities(expected, f"The model {model.name!r}", exclusive=judge.classifies)
            keras_score = judge.measure(expected, measured)[judge.metric]
            gate = Gate(
                folder=partial,
                reference=reference,
                expected=expected,
                questions=questions,
                measured=measured,
                judge=judge,
                keras_score=keras_score,
                again=split == "test",
                outputs=outputs,
            )
            proven = [
                replace(gate.prove(target, runtime, given), note=conversion.notes.get(target.file, ""))
                for target, runtime, given in zip((*targets, *budget), runtimes, answers, strict=True)
            ]
            proven = gate.look_again(proven, runtimes, answers)
            artefacts = (
                *proven[: len(targets)],
                *choose_within(proven[len(targets) :], options.accuracy_budget, judge),
            )
            kept = {one.file for one in artefacts}
            report = ExportReport(
                path=to,
                split=split,
                images=len(measured),
                threads=os.cpu_count() or 1,
                metric=judge.metric,
                keras_score=keras_score,
                keras_milliseconds=latency(reference, preprocessing, judge.draw is not None),
                artefacts=artefacts,
                tried=tuple(one for one in proven if one.file not in kept),
                calibration=_calibration_report(table, rows, options.calibration_size, seed),
                versions=_versions(),
            )
            for one in report.tried:
                (partial / one.file).unlink()
            if report.passed or options.allow_parity_failure:
                runtimes = [
                    runtime for runtime, one in zip(runtimes, proven, strict=True) if one.file in kept
                ]
                chosen = golden.choose_rows(table, split, seed)
                images = golden.write_inputs(partial, table, chosen, preprocessing, judge.draw)
                golden.write_expectations(
                    partial,
                    images,
                    report.artefacts,
                    runtimes,
                    scale_of(judge, expected),
                    same_numbers(judge),
                )
                made = make_targets(partial, options, report.artefacts, images.pixels, gate.one)
                report = replace(report, targets=made)
                _write_texts(partial, report, preprocessing, judge, about, scripts, options.clients)
            else:
                folder.keep_only_evidence(partial)
                (partial / layout.PARITY).write_text(_json(report.to_dict()), encoding="utf-8")
    except OSError as error:
        raise ExportError(f"Cannot write the export {to}: {error.strerror or error}.") from error
    _conclude(report, options.allow_parity_failure)
    return report


def _titled(about: About, options: ExportOptions) -> About:
    """With the title and the data licence of the options, where these tell them."""
    licence = options.data_licence
    return replace(
        about,
        title=options.title or about.title,
        data_licence=about.data_licence if licence is None else licence,
    )


def _make(conversion: Conversion, folder: Path, target: Target) -> Runner:
    log.info("Converting to %s (%s)", target.file, target.precision)
    conversion.write(folder / target.file, target.precision)
    return load_runner(folder / target.file)


def _make_candidates(
    conversion: Conversion, folder: Path, budget: Sequence[Target], asked: Answers
) -> tuple[list[Target], list[Runner]]:
    """Those precisions that the model can be converted to, asked, with a warning for each it cannot.

    Raises ``ExportError`` when there is a budget and no precision to meet it with.
    """
    made, runtimes = [], []
    for target in budget:
        try:
            runtime = _make(conversion, folder, target)
        except ExportError as error:
            (folder / target.file).unlink(missing_ok=True)
            log.warning("%s is left out: %s", target.precision, error)
            continue
        runtimes.append(asked.ask(runtime))
        made.append(target)
    if budget and not made:
        names = ", ".join(one.precision for one in budget)
        raise ExportError(f"The model {conversion.model.name!r} can be converted to none of {names}.")
    return made, runtimes


def _calibration_report(
    table: ImageTable, rows: np.ndarray | None, asked: int, seed: int
) -> CalibrationReport | None:
    if rows is None:
        return None
    per_class = {}
    if table.label_mode == "classes":
        counts = np.bincount(table.labels[rows], minlength=len(table.classes))
        per_class = {name: int(count) for name, count in zip(table.classes, counts, strict=True)}
    return CalibrationReport(
        images=len(rows),
        asked=asked,
        seed=seed,
        per_class=per_class,
        fingerprint=table.take(rows).fingerprint(),
    )


def _versions() -> dict[str, str]:
    packages = ("keras-transfer", "keras", "tensorflow", "ai-edge-litert", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _write_texts(
    folder: Path,
    report: ExportReport,
    preprocessing: Preprocessing,
    judge: Judge,
    about: About,
    scripts: Sequence[Path],
    languages: Sequence[str],
) -> None:
    """The texts of a bundle. ``bundle.json`` comes last: it holds the hashes of the others."""
    (folder / layout.LABELS).write_text("".join(f"{name}\n" for name in judge.names), encoding="utf-8")
    if not any(one.file in layout.TFLITE.values() for one in report.artefacts):
        scripts = ()
    for script in scripts:
        shutil.copyfile(script, folder / script.name)
    content = manifest.manifest(report, judge, preprocessing, about, scripts[-1].name if scripts else None)
    clients.write(folder, languages, content)
    content["files"] = manifest.listed(folder)
    (folder / layout.CARD).write_text(card(content), encoding="utf-8")
    (folder / layout.BUNDLE).write_text(_json(content), encoding="utf-8")


def _json(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _conclude(report: ExportReport, allowed: bool) -> None:
    """Say what failed: as a warning when the user allows it, as an error otherwise."""
    for artefact in report.artefacts:
        for doubt in artefact.doubts:
            log.warning("%s: %s", artefact.file, doubt)
    failed = [f"{artefact.file}: {reason}" for artefact in report.artefacts for reason in artefact.reasons]
    if not failed:
        return
    text = "An artefact does not answer like the Keras model on the "
    text += f"{report.images} {report.split} images.\n  " + "\n  ".join(failed)
    if allowed:
        log.warning("%s\nIt was kept, as you asked.", text)
        return
    raise ParityError(
        f"{text}\nNothing was exported; the evidence is in {report.path / layout.PARITY}. Choose another precision or "
        "more calibration images, or keep it all the same (--allow-parity-failure)."
    )
