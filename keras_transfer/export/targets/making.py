"""Making targets, and proving what they made: on the golden images, and as artefacts where they are models."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from keras_transfer.discovery import import_object
from keras_transfer.errors import ExportError, ParityError, PluginError
from keras_transfer.export.inspection import FileFacts, inspect_file
from keras_transfer.export.report import ArtefactReport, TargetReport
from keras_transfer.export.targets.base import Made, Source, Target, furthest
from keras_transfer.export.targets.plan import source_precisions
from keras_transfer.export.targets.readiness import judge
from keras_transfer.export.targets.specs import TargetSpec, target_spec
from keras_transfer.inference import Runner
from keras_transfer.litert import LiteRTModel
from keras_transfer.records import ExportOptions
from keras_transfer.records.layout import EXPECTED, TARGETS

log = logging.getLogger("keras_transfer")

Prove = Callable[[str, str, Runner], ArtefactReport]
"""From a file, its precision and what runs it to its proof: the gate of the export, on the same images."""
Snapshot = dict[str, tuple[int, int]]


def make_targets(
    folder: Path,
    options: ExportOptions,
    artefacts: Sequence[ArtefactReport],
    pixels: np.ndarray,
    prove: Prove | None = None,
) -> tuple[TargetReport, ...]:
    """Make what the options' targets need of an export in ``folder``, and prove it.

    Args:
        folder: has the ``.tflite`` files and ``golden/golden.json``.
        options: of the export, see :func:`keras_transfer.export.targets.plan.with_targets`.
        artefacts: what was exported.
        pixels: of the golden images, uint8 ``(N, H, W, 3)``.
        prove: judges models on all images of the export; None: the golden images are all there are.

    Raises:
        ExportError: a target's runtime refuses the model, or a limit is broken; the message names the layer.
        ParityError: the answers in a target's runtime are not those of LiteRT, or of the Keras model.
        PluginError: a target writes what is not its own.
    """
    made = []
    names = dict.fromkeys(options.targets)
    tolerances = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))["tolerances"] if names else {}
    files = {one.precision: one.file for one in artefacts if one.file.endswith(".tflite")}
    for name in names:
        spec = target_spec(name)
        for place, precision in enumerate(source_precisions(spec, options)):
            file = files[precision]
            log.info("Making %s from %s", name, file)
            try:
                facts = inspect_file(folder / file)
                require_taken(facts, spec)
                answers = LiteRTModel(folder / file, reference=True).predict(pixels)
                source = Source(folder, file, facts, pixels, answers, tolerances[file], options)
                with own_files_alone(folder, name):
                    made.append(_proven(spec, source, precision, prove))
            except (ExportError, ParityError) as error:
                if not place or spec.sources != "agreeing":
                    raise type(error)(f"Nothing was exported. {error}") from error
                log.warning("%s from %s is left out: %s", name, file, error)
                made.append(TargetReport(name, file, precision, refused=str(error)))
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
    if made.model and made.model not in made.files:
        raise PluginError(f"The target {name!r} opens {made.model!r}, which is not among its files.")


def load_target(spec: TargetSpec) -> Target:
    """The target that a spec's factory names."""
    return import_object(spec.factory)()


def allowed_of(target: Target, tolerance: float) -> float:
    """How far a golden answer may be off; ``tolerance``: see :attr:`Source.tolerance`."""
    return tolerance if target.allowed is None else target.allowed


def beyond(name: str, difference: float, allowed: float) -> str:
    """That a golden answer is too far off, in a sentence."""
    limit = f"at most {allowed:g} is allowed" if allowed else "they must be equal"
    return f"{name}: an answer to a golden image differs by {difference:.2g} from LiteRT's reference kernels; {limit}."


@contextmanager
def own_files_alone(folder: Path, name: str) -> Iterator[None]:
    """What a target writes into its folder is gone where it fails.

    Raises ``PluginError`` where a file was written that is not in its folder, or that an earlier one had made.
    """
    before = _snapshot(folder)
    own = f"{TARGETS}/{name}/"
    try:
        yield
    except BaseException:
        for file in _snapshot(folder).keys() - before.keys():
            if file.startswith(own):
                (folder / file).unlink()
        if (folder / own).is_dir() and not any((folder / own).iterdir()):
            (folder / own).rmdir()
        raise
    after = _snapshot(folder)
    for file in sorted(after.keys() | before.keys()):
        if after.get(file) != before.get(file) and (file in before or not file.startswith(own)):
            what = "which was there before" if file in before else f"which is not in {own}"
            raise PluginError(f"The target {name!r} wrote {file!r}, {what}.")


def _snapshot(folder: Path) -> Snapshot:
    """Size and time of every file, by its name."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _proven(spec: TargetSpec, source: Source, precision: str, prove: Prove | None) -> TargetReport:
    target = load_target(spec)
    made = target.make(source)
    require_own_files(spec.name, source, made)
    allowed = allowed_of(target, source.tolerance)
    runner = target.open(source.folder / (made.model or source.file))
    difference = furthest(runner.predict(source.pixels), source.answers)
    if not difference <= allowed:
        raise ParityError(beyond(spec.name, difference, allowed))
    artefact = prove(made.model or source.file, precision, runner) if target.compared and prove else None
    runner.close()
    if artefact is not None and artefact.reasons and not source.options.allow_parity_failure:
        raise ParityError(
            f"{spec.name} ({source.file}) does not answer like the Keras model: " + " ".join(artefact.reasons)
        )
    return TargetReport(
        target=spec.name,
        source=source.file,
        precision=precision,
        files=made.files,
        model=made.model,
        runtime=runner.name,
        images=len(source.pixels),
        difference=difference,
        allowed=allowed,
        measured=made.measured,
        versions=made.versions,
        artefact=artefact,
    )
