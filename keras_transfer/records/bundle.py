"""``bundle.json``: what a bundle says about itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from keras_transfer.records.contract import ModelContract, Origin, options_of
from keras_transfer.records.export_options import INPUT_RANGES, PIXELS
from keras_transfer.records.fields import DamagedError, Fields
from keras_transfer.records.layout import ARTEFACTS, CARRIED, EXPECTED, LABELS, SCRIPT, TARGETS, TFLITE

KIND = "keras-transfer bundle"
SCHEMA = 1
MOST_NUMBERS = 256_000_000
"""An image's output may have so many."""


@dataclass(frozen=True)
class Tolerance:
    """What an artefact may lose; ``None`` means that it is measured and not judged.

    Attributes:
        max_difference: largest absolute difference of a number.
        agreement: smallest share of equal decisions.
        drop: largest loss of the judge's metric against the Keras model: 0.01 is one point of accuracy; a share of the
            Keras model's where less is better.
    """

    max_difference: float | None = None
    agreement: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class ArtefactRecord:
    """A model in a bundle.

    Attributes:
        file: its name; a SavedModel folder's ends in ``/``.
        precision: ``float32``, ``float16``, ``dynamic``, ``int8`` or ``int16x8``.
        bytes: its size.
        tolerance: what the export allowed it to lose.
        passed: whether it lost no more.
        input_range: what black and white are in its input; 0 and 255 in bundles of earlier versions, and where it takes
            no pixels.
    """

    file: str
    precision: str
    bytes: int
    tolerance: Tolerance
    passed: bool
    input_range: tuple[float, float] = INPUT_RANGES[PIXELS]


@dataclass(frozen=True)
class TargetRecord:
    """What a target made of a model in a bundle.

    Attributes:
        target: its name.
        source: the ``.tflite`` it is made from.
        allowed: how far its answers may be from LiteRT's.
        model: the file it opens; empty: ``source``.
        artefact: that file as a model of the bundle; None where its answers were compared on the golden images alone.
        refused: why nothing was made of this source; empty where something was.
    """

    target: str
    source: str
    allowed: float
    model: str = ""
    artefact: ArtefactRecord | None = None
    refused: str = ""

    @classmethod
    def parse(cls, row: Any) -> TargetRecord:
        """Raises :class:`~keras_transfer.records.fields.DamagedError`; the text names the field."""
        fields = Fields(row, TARGETS)
        source, allowed = fields.text("source"), fields.get("allowed", int, float)
        if source not in TFLITE.values():
            raise DamagedError(f"a target is made from {source!r}, which is no .tflite of an export")
        name, model = fields.text("target"), fields.get("model", str, default="")
        if model and not model.startswith(f"{TARGETS}/{name}/"):
            raise DamagedError(f"the target {name!r} opens {model!r}, which is not in {TARGETS}/{name}/")
        artefact = fields.get("artefact", dict, type(None), default=None)
        if artefact is not None:
            if wrong := _wrong_facts(artefact):
                raise DamagedError(wrong)
            if artefact["file"] != (model or source):
                raise DamagedError(
                    f"the target {name!r} was judged by {artefact['file']!r}, which it does not open"
                )
        return cls(
            name,
            source,
            float(allowed),
            model,
            None if artefact is None else _artefact(artefact),
            fields.get("refused", str, default=""),
        )


@dataclass(frozen=True)
class BundleRecord:
    """A bundle.

    Attributes:
        title: what the model is called, None where nobody said.
        contract: of the model.
        generates: its models take numbers and make images.
        metric: the metric that decides.
        script: the file to run, None where there is none.
        artefacts: the models, in the order of the export.
        files: {relative POSIX path: size in bytes and SHA-256}.
        carried: files that were put into the bundle after the export.
        origin: the distribution of the task, None where it is not known.
        model: the trained network's hash, None where it is not known.
        targets: what was made for other runtimes; none in bundles of earlier versions.
    """

    title: str | None
    contract: ModelContract
    generates: bool
    metric: str
    script: str | None
    artefacts: tuple[ArtefactRecord, ...]
    files: Mapping[str, Mapping[str, Any]]
    carried: tuple[str, ...]
    origin: Origin | None
    model: str | None
    targets: tuple[TargetRecord, ...] = ()

    @classmethod
    def parse(cls, info: Any) -> BundleRecord:
        """From the content of ``bundle.json``.

        Raises :class:`~keras_transfer.records.fields.DamagedError`; the text names the field.
        """
        fields = Fields(info)
        if wrong := _wrong_form(fields.values):
            raise DamagedError(wrong)
        output = fields.inner("output")
        targets = tuple(TargetRecord.parse(row) for row in fields.get(TARGETS, list, default=[]))
        for target in targets:
            if target.model and target.model not in info["files"]:
                raise DamagedError(f"the model {target.model!r} of a target is not among 'files'")
        training = Fields(fields.get("training", dict, default={}), "training")
        return cls(
            title=fields.maybe_text("title"),
            contract=ModelContract(
                task=fields.text("task"),
                options=options_of(fields.mapping("options")),
                notes=fields.mapping("notes"),
                kind=output.text("kind"),
                shape=output.wholes("shape"),
                names=fields.texts("labels"),
                pixels=fields.mapping("preprocessing"),
            ),
            generates=fields.get("input", str, default="") == "numbers",
            metric=output.text("metric"),
            script=fields.maybe_text("script"),
            artefacts=tuple(_artefact(row) for row in info["artefacts"]),
            files=fields.mapping("files"),
            carried=fields.texts(CARRIED, default=[]),
            origin=Origin.parse(training, "plugin"),
            model=training.maybe_text("model"),
            targets=targets,
        )


def _artefact(row: Mapping[str, Any]) -> ArtefactRecord:
    tolerance = Tolerance(**row["tolerance"])
    passed, reach = row.get("passed") is True, tuple(row.get("input_range", INPUT_RANGES[PIXELS]))
    return ArtefactRecord(row["file"], row["precision"], row["bytes"], tolerance, passed, reach)


def _wrong_form(info: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields that are relied on, or None."""
    labels, artefacts, files = info.get("labels"), info.get("artefacts"), info.get("files")
    if not _texts(labels):
        return "'labels' is not a list of names"
    wrong = _wrong_output(info)
    if wrong:
        return wrong
    if not isinstance(files, dict) or LABELS not in files or EXPECTED not in files:
        return f"'files' does not list {LABELS} and {EXPECTED}"
    for name, row in files.items():
        if not _inside(name):
            return f"the name {name!r} leads outside the bundle"
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("bytes"), int)
            or not isinstance(row.get("sha256"), str)
        ):
            return f"{name!r} has no size and hash"
    if "script" in info and not _right_script(info["script"], files):
        return "'files' does not list the script"
    if not isinstance(artefacts, list) or not artefacts:
        return "'artefacts' is not a list of models"
    for row in artefacts:
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            return "an artefact has no file and precision"
        wrong = _wrong_artefact(row, files)
        if wrong:
            return wrong
    return None


def _right_script(script: Any, files: Mapping[str, Any]) -> bool:
    """A file of the bundle; None where there is none to run."""
    return SCRIPT not in files if script is None else isinstance(script, str) and script in files


def _wrong_output(info: Mapping[str, Any]) -> str | None:
    output = info.get("output")
    if not isinstance(output, dict) or not _texts(
        [info.get("task"), output.get("kind"), output.get("metric")]
    ):
        return "'task' and 'output' do not say what the models give"
    shape = output.get("shape")
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) < 8
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        return "the shape of the output is not a list of sizes"
    if shape[-1] != len(info["labels"]) or math.prod(shape) > MOST_NUMBERS:
        return "the shape of the output does not fit 'labels'"
    if not isinstance(info.get("options"), dict) or not isinstance(info.get("notes"), dict):
        return "'options' and 'notes' of the task are missing"
    return None


def _wrong_artefact(row: Mapping[str, Any], files: Mapping[str, Any]) -> str | None:
    name = row["file"]
    if name not in ARTEFACTS:
        return f"{name!r} is not an artefact of an export; known are {', '.join(sorted(ARTEFACTS))}"
    if not (name in files or (name.endswith("/") and any(file.startswith(name) for file in files))):
        return f"the artefact {name!r} is not among 'files'"
    return _wrong_facts(row)


def _wrong_facts(row: Mapping[str, Any]) -> str | None:
    """What is wrong with what is said of a model, or None."""
    if not _texts([row.get("file"), row.get("precision")]):
        return "an artefact has no file and precision"
    name = row["file"]
    if row["precision"] not in TFLITE:
        return f"the artefact {name!r} has the unknown precision {row['precision']!r}"
    if not isinstance(row.get("bytes"), int):
        return f"the artefact {name!r} has no size"
    if row.get("input_range", [0, 255]) not in [list(reach) for reach in INPUT_RANGES.values()]:
        return f"the input of {name!r} has the unknown range {row['input_range']!r}"
    tolerance = row.get("tolerance")
    fields = {field.name for field in dataclasses.fields(Tolerance)}
    if not isinstance(tolerance, dict) or set(tolerance) != fields:
        return f"the artefact {name!r} has no tolerance"
    if not all(value is None or type(value) in (int, float) for value in tolerance.values()):
        return f"the tolerance of {name!r} is not a number"
    return None


def _texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def _inside(name: str) -> bool:
    """A plain relative POSIX path: no ``..``, no drive, no backslash."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:\0")
