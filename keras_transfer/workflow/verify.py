"""Verifying a bundle: hashes, golden vectors, and on request every artefact on images of the user's."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.kept import keep_pixels
from keras_transfer.export.bundle import Bundle, load_bundle
from keras_transfer.export.measure import collect_answers, temporary_folder
from keras_transfer.export.parity import Judge, breaches, doubts, measure_parity
from keras_transfer.export.questions import Questions
from keras_transfer.export.targets.checking import check_targets
from keras_transfer.export.verify import (
    ArtefactCheck,
    Verification,
    bundle_reasons,
    check_artefact,
    check_pixels,
)
from keras_transfer.inference import Runner
from keras_transfer.records import Tolerance
from keras_transfer.tasks.checked import CheckedTask
from keras_transfer.tasks.loading import Changes, changed_options, require_installed, task_with_notes
from keras_transfer.workflow.evaluate import check_split, labelled, rows_of
from keras_transfer.workflow.judging import judge_for

log = logging.getLogger("keras_transfer")


def verify(
    bundle: str | os.PathLike[str] | Bundle,
    data: Any = None,
    *,
    split: str | None = None,
    task_options: Changes = (),
) -> Verification:
    """Check a bundle: every file's hash, the golden images through every artefact, and with ``data`` its metrics.

    With ``data`` every artefact is also compared with the bundle's first float32 artefact on those images, under the
    tolerances of the export.

    Args:
        bundle: a bundle folder.
        data: anything ``load_data`` takes, or an ``ImageTable`` with the bundle's classes.
        split: ``train``, ``val``, ``test`` or ``all``; default: ``test`` where the data come with one, else ``all``.
        task_options: as for :func:`keras_transfer.workflow.evaluate.evaluate`.

    Raises:
        UsageError: there is no bundle, an unknown split, or task options that cannot be set here.
        BundleError: a file is missing or not the one that was exported.
        DataError: the data cannot be used.
    """
    opened = load_bundle(bundle.path if isinstance(bundle, Bundle) else bundle)
    check_split(split)
    table = None
    judge = Judge(opened.labels)
    if data is not None:
        task, judge = _task_and_judge(opened, task_options)
        with keep_pixels(opened.preprocessing):
            table = labelled(data, task, str(opened.path), opened.labels)
        split = split or ("test" if len(table.indices("test")) else "all")
        table = table.take(rows_of(table, split))
    golden = opened.golden()
    pixels, furthest, reasons = check_pixels(opened, golden)
    reasons = (*bundle_reasons(opened), *reasons)
    runtimes = [opened.runtime(one.file) for one in opened.artefacts]
    checks = []
    for one, runtime in zip(opened.artefacts, runtimes, strict=True):
        difference, wrong = check_artefact(opened, golden, one.file, runtime, pixels)
        checks.append(
            ArtefactCheck(one.file, one.precision, difference, golden["tolerances"][one.file], reasons=wrong)
        )
    tolerances = [one.tolerance for one in opened.artefacts]
    made = check_targets(opened, pixels)
    compared = [one for one in made if one.tolerance is not None]
    described = None
    if table is not None:
        described = {"source": table.source, "split": split, "images": len(table)}
        asked = [*checks, *(one.check for one in compared)]
        runtimes += [one.runner for one in compared]
        tolerances += [one.tolerance for one in compared if one.tolerance is not None]
        found = _measure(opened, asked, runtimes, tolerances, table, judge)
        checks = found[: len(checks)]
        measured = {one.file: one for one in found[len(checks) :]}
        made = [replace(one, check=measured.get(one.check.file, one.check)) for one in made]
    checks += [one.check for one in made]
    return Verification(
        opened.path,
        len(opened.record.files),
        len(golden["images"]),
        furthest,
        tuple(checks),
        described,
        () if described is None else (judge.metric, *judge.others),
        reasons,
    )


def _task_and_judge(bundle: Bundle, changes: Changes) -> tuple[CheckedTask, Judge]:
    """The bundle's task, with its options (but for ``changes``) and what its training had noted."""
    contract = bundle.record.contract
    require_installed(contract.task, str(bundle.path), bundle.record.origin)
    contract = replace(contract, options=changed_options(contract.task, contract.options, changes))
    spec, task = task_with_notes(contract)
    return task, judge_for(spec, task, contract)


def _measure(
    bundle: Bundle,
    checks: list[ArtefactCheck],
    runtimes: list[Runner],
    tolerances: list[Tolerance],
    table: ImageTable,
    judge: Judge,
) -> list[ArtefactCheck]:
    questions = Questions(table, bundle.preprocessing, np.arange(len(table)), judge.draw)
    with temporary_folder() as folder:
        answers = collect_answers(runtimes, questions, bundle.shape, folder, "Comparing")
        return _judged(checks, answers, tolerances, table, judge)


def _judged(
    checks: list[ArtefactCheck],
    answers: list[np.ndarray],
    tolerances: list[Tolerance],
    table: ImageTable,
    judge: Judge,
) -> list[ArtefactCheck]:
    floats = [place for place, one in enumerate(checks) if one.precision == "float32"]
    result = []
    for one, given, tolerance in zip(checks, answers, tolerances, strict=True):
        metrics: dict[str, Any] = {}
        wrong: tuple[str, ...] = ()
        if np.isfinite(given).all():
            measured = judge.measure(given, table)
            metrics = {name: measured[name] for name in (judge.metric, *judge.others)}
        if floats:
            parity = measure_parity(answers[floats[0]], given, judge, table)
            metrics |= {"agreement": parity.agreement, "max_difference": parity.max_difference}
            metrics |= {name: parity.metrics[name] for name in ("cosine",) if name in parity.metrics}
            wrong = breaches(parity, tolerance, judge)
            for doubt in doubts(parity, tolerance, judge):
                log.warning("%s: %s", one.file, doubt)
        result.append(replace(one, metrics=metrics, reasons=(*one.reasons, *wrong)))
    return result
