"""What targets made in a bundle, asked again about its golden images."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from keras_transfer.errors import ExportError, PluginError, UsageError
from keras_transfer.export.bundle import Bundle
from keras_transfer.export.targets.base import furthest
from keras_transfer.export.targets.making import beyond, load_target
from keras_transfer.export.targets.specs import target_spec
from keras_transfer.export.verify import ArtefactCheck
from keras_transfer.inference import Runner
from keras_transfer.litert import LiteRTModel
from keras_transfer.records import TargetRecord, Tolerance

log = logging.getLogger("keras_transfer")


@dataclass(frozen=True)
class TargetCheck:
    """A target asked again.

    Attributes:
        check: its answers to the golden images.
        runner: what gave them.
        tolerance: what its export allowed it to lose on all images; None: the golden ones decide alone.
    """

    check: ArtefactCheck
    runner: Runner
    tolerance: Tolerance | None


def check_targets(bundle: Bundle, pixels: np.ndarray) -> list[TargetCheck]:
    """Ask what targets made in a bundle again about the golden pixels; with a warning where a runtime is missing."""
    checks = []
    for record in bundle.record.targets:
        if record.refused:
            continue
        try:
            spec = target_spec(record.target)
            spec.require()
        except (UsageError, PluginError, ExportError) as error:
            log.warning("%s of %s is not run again. %s", record.target, record.source, error)
            continue
        if not spec.factory:
            log.warning("%s of %s is not run again: it makes nothing here.", record.target, record.source)
            continue
        runner = load_target(spec).open(bundle.path / (record.model or record.source))
        check = _checked(bundle, record, runner, pixels)
        tolerance = None if record.artefact is None else record.artefact.tolerance
        checks.append(TargetCheck(check, runner, tolerance))
    return checks


def _checked(bundle: Bundle, record: TargetRecord, runner: Runner, pixels: np.ndarray) -> ArtefactCheck:
    reasons: tuple[str, ...] = ()
    if not len(pixels):
        difference, reasons = float("inf"), ("It was not run: the golden pixels do not fit.",)
    else:
        answers = LiteRTModel(bundle.path / record.source, reference=True).predict(pixels)
        difference = furthest(runner.predict(pixels), answers)
        if not difference <= record.allowed:
            reasons = (beyond(record.target, difference, record.allowed),)
    name = f"{record.target} ({record.source})"
    precision = bundle.artefact(record.source).precision
    return ArtefactCheck(name, precision, difference, record.allowed, reasons=reasons)
