"""Making targets, and proving what they made on the golden images; the same again when a bundle is verified."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transfer.discovery import import_object
from keras_transfer.errors import ExportError, ParityError, PluginError, UsageError
from keras_transfer.export.bundle import Bundle
from keras_transfer.export.inspection import FileFacts, inspect_file
from keras_transfer.export.report import ArtefactReport, TargetReport
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.export.targets.plan import source_precision
from keras_transfer.export.targets.readiness import judge
from keras_transfer.export.targets.specs import TargetSpec, target_spec
from keras_transfer.export.verify import ArtefactCheck
from keras_transfer.litert import LiteRTModel
from keras_transfer.records import ExportOptions
from keras_transfer.records.layout import EXPECTED, TARGETS

log = logging.getLogger("keras_transfer")


def make_targets(
    folder: Path, options: ExportOptions, artefacts: Sequence[ArtefactReport], pixels: np.ndarray
) -> tuple[TargetReport, ...]:
    """Make what the options' targets need of an export in ``folder``, and prove it.

    Args:
        folder: has the ``.tflite`` files and ``golden/golden.json``.
        options: of the export, see :func:`keras_transfer.export.targets.plan.with_targets`.
        artefacts: what was exported.
        pixels: of the golden images, uint8 ``(N, H, W, 3)``.

    Raises:
        ExportError: a target's runtime refuses the model, or a limit is broken; the message names the layer.
        ParityError: the answers in a target's runtime are not those of LiteRT.
    """
    made = []
    tolerances = (
        json.loads((folder / EXPECTED).read_text(encoding="utf-8"))["tolerances"] if options.targets else {}
    )
    for name in dict.fromkeys(options.targets):
        spec = target_spec(name)
        precision = source_precision(spec, options)
        file = next(
            one.file for one in artefacts if one.precision == precision and one.file.endswith(".tflite")
        )
        log.info("Making %s from %s", name, file)
        facts = inspect_file(folder / file)
        require_taken(facts, spec)
        answers = LiteRTModel(folder / file, reference=True).predict(pixels)
        source = Source(folder, file, facts, pixels, answers, tolerances[file], options)
        made.append(_proven(spec, source))
    return tuple(made)


def require_taken(facts: FileFacts, spec: TargetSpec) -> None:
    """Raise ``ExportError`` with what a target's rules refuse in a file: operators, named with their layers."""
    found = judge(facts, spec)
    if found.state == "refused":
        raise ExportError(f"The target {spec.name!r} does not take the model. " + " ".join(found.reasons))


def require_own_files(name: str, source: Source, made: Made) -> None:
    """Raise ``PluginError`` where a target names a file that is not there, or not in its own folder."""
    own = f"{TARGETS}/{name}/"
    for file in made.files:
        if file != source.file and not (file.startswith(own) and (source.folder / file).is_file()):
            raise PluginError(
                f"The target {name!r} names the file {file!r}; files in {own} are expected, and {source.file}."
            )


def check_targets(bundle: Bundle, pixels: np.ndarray) -> list[ArtefactCheck]:
    """Ask what targets made in a bundle again about the golden pixels; with a warning where a runtime is missing."""
    checks = []
    for record in bundle.record.targets:
        try:
            spec = target_spec(record.target)
            spec.require()
        except (UsageError, PluginError, ExportError) as error:
            log.warning("%s of %s is not run again. %s", record.target, record.source, error)
            continue
        if not spec.factory:
            log.warning("%s of %s is not run again: it makes nothing here.", record.target, record.source)
            continue
        precision = bundle.artefact(record.source).precision
        reasons: tuple[str, ...] = ()
        if not len(pixels):
            difference, reasons = float("inf"), ("It was not run: the golden pixels do not fit.",)
        else:
            path = bundle.path / record.source
            answers = LiteRTModel(path, reference=True).predict(pixels)
            _, difference = _asked(load_target(spec), path, pixels, answers)
            if not difference <= record.allowed:
                reasons = (_beyond(record.target, difference, record.allowed),)
        name = f"{record.target} ({record.source})"
        checks.append(ArtefactCheck(name, precision, difference, record.allowed, reasons=reasons))
    return checks


def load_target(spec: TargetSpec) -> Target:
    """The target that a spec's factory names."""
    return import_object(spec.factory)()


def _proven(spec: TargetSpec, source: Source) -> TargetReport:
    target = load_target(spec)
    made = target.make(source)
    require_own_files(spec.name, source, made)
    runtime, difference = _asked(target, source.path, source.pixels, source.answers)
    if not difference <= target.allowed:
        raise ParityError(f"Nothing was exported. {_beyond(spec.name, difference, target.allowed)}")
    return TargetReport(
        target=spec.name,
        source=source.file,
        files=made.files,
        runtime=runtime,
        images=len(source.pixels),
        difference=difference,
        allowed=target.allowed,
        measured=made.measured,
        versions=made.versions,
    )


def _asked(target: Target, path: Path, pixels: np.ndarray, answers: np.ndarray) -> tuple[str, float]:
    """The name of the target's runtime, and how far its answers are from these."""
    runner = target.open(path)
    difference = _furthest(runner.predict(pixels), answers)
    runner.close()
    return runner.name, difference


def _furthest(given: np.ndarray, answers: np.ndarray) -> float:
    if given.shape != answers.shape or not np.isfinite(given).all():
        return float("inf")
    return float(np.abs(given.astype(np.float64) - answers).max())


def _beyond(name: str, difference: float, allowed: float) -> str:
    limit = f"at most {allowed:g} is allowed" if allowed else "they must be equal"
    return f"{name}: an answer to a golden image differs by {difference:.2g} from LiteRT's reference kernels; {limit}."
