"""What an export found out: plain frozen data, written into ``bundle.json``, or as ``parity.json`` when it failed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_transfer.export.parity import Parity
from keras_transfer.litert import TensorInfo
from keras_transfer.records import Tolerance

SCHEMA = 1


@dataclass(frozen=True)
class ArtefactReport:
    """One exported model and its proof.

    Attributes:
        file: name in the export folder; a SavedModel folder ends in ``/``.
        precision: ``float32``, ``float16``, ``dynamic``, ``int8``, ``int16x8`` or ``all-integer``.
        bytes: size on disk.
        sha256: of the file; of a folder see :func:`keras_transfer.hashing.size_and_sha256`.
        inputs: what it takes: name, shape (-1 where free), dtype, quantization parameters.
        outputs: what it gives.
        metric: which metric decides; ``accuracy`` for classifiers.
        parity: its answers compared with the Keras model's, and its other metrics.
        tolerance: what it may lose.
        milliseconds: median time of one image (batch of 1) in its own runtime, after warming up.
        reasons: what is wrong, one sentence each; empty when it passed.
        doubts: what the images cannot tell, one sentence each.
        note: what was done to it beyond a conversion, one sentence; empty where nothing was.
    """

    file: str
    precision: str
    bytes: int
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metric: str
    parity: Parity
    tolerance: Tolerance
    milliseconds: float
    reasons: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it answers like the Keras model, within its tolerance."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """JSON-able and flat: the fields of this class and of its ``parity``."""
        return {
            "file": self.file,
            "precision": self.precision,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            **(
                {"input_range": list(self.inputs[0].normalization.range)}
                if len(self.inputs[0].shape) == 4
                else {}
            ),
            "metrics": dict(self.parity.metrics),
            **self._parity(),
            "milliseconds": self.milliseconds,
            "tolerance": dataclasses.asdict(self.tolerance),
            "passed": self.passed,
            "reasons": list(self.reasons),
            "doubts": list(self.doubts),
            **({"note": self.note} if self.note else {}),
        }

    def _parity(self) -> dict[str, Any]:
        parity = self.parity
        return {
            "images": parity.images,
            "agreement": parity.agreement,
            "max_difference": finite(parity.max_difference),
            "mean_difference": finite(parity.mean_difference),
            self.metric: parity.score,
            f"keras_{self.metric}": parity.keras_score,
            "loss": None if parity.loss is None else finite(parity.loss),
            "loss_low": None if parity.loss_low is None else finite(parity.loss_low),
            "finite": parity.finite,
        }


@dataclass(frozen=True)
class TargetReport:
    """What a target made, and what the golden images say of it.

    Attributes:
        target: its name.
        source: the ``.tflite`` it is made from.
        precision: of that.
        files: what it made, by names in the export folder.
        model: of them, the one that is opened; empty: ``source``.
        runtime: what answered.
        images: how many golden images it was asked.
        difference: largest absolute difference of a number from LiteRT's reference kernels, in the model's units.
        allowed: what it may be.
        measured: what its runtime told: bytes of memory ... JSON-able.
        versions: of what made and ran it.
        artefact: its proof on all images, where its answers to them are judged.
        refused: why nothing was made of this source; empty where something was.
    """

    target: str
    source: str
    precision: str
    files: tuple[str, ...] = ()
    model: str = ""
    runtime: str = ""
    images: int = 0
    difference: float = 0.0
    allowed: float = 0.0
    measured: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    artefact: ArtefactReport | None = None
    refused: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "target": self.target,
            "source": self.source,
            "precision": self.precision,
            "files": list(self.files),
            "model": self.model,
            "runtime": self.runtime,
            "images": self.images,
            "difference": self.difference,
            "allowed": self.allowed,
            "measured": dict(self.measured),
            "versions": dict(self.versions),
            "artefact": None if self.artefact is None else self.artefact.to_dict(),
            "refused": self.refused,
        }


@dataclass(frozen=True)
class CalibrationReport:
    """What int8 was calibrated on: training images per class (empty where they have none), and the sample's
    fingerprint."""

    images: int
    asked: int
    seed: int
    per_class: dict[str, int]
    fingerprint: str


@dataclass(frozen=True)
class ExportReport:
    """An export and its proof.

    Attributes:
        path: the folder.
        split: which images the artefacts were compared on.
        images: how many.
        threads: cores each runtime may use.
        metric: which metric decides; ``accuracy`` for classifiers.
        keras_score: that metric of the Keras model on those images; None where it cannot be measured.
        keras_milliseconds: median time of one image in Keras (a traced function).
        artefacts: in the order they were asked for.
        tried: what was made and measured, and not delivered because another precision was good enough, or better.
        calibration: None unless an int8 artefact was made.
        versions: of the software.
        targets: what was made for other runtimes.
    """

    path: Path
    split: str
    images: int
    threads: int
    metric: str
    keras_score: float | None
    keras_milliseconds: float
    artefacts: tuple[ArtefactReport, ...]
    tried: tuple[ArtefactReport, ...]
    calibration: CalibrationReport | None
    versions: dict[str, str]
    targets: tuple[TargetReport, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every artefact did."""
        return all(artefact.passed for artefact in self.artefacts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. Holds no path of this machine."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "split": self.split,
            "images": self.images,
            "threads": self.threads,
            "metric": self.metric,
            "keras": {self.metric: self.keras_score, "milliseconds": self.keras_milliseconds},
            "artefacts": [artefact.to_dict() for artefact in self.artefacts],
            "tried": [artefact.to_dict() for artefact in self.tried],
            "calibration": None if self.calibration is None else dataclasses.asdict(self.calibration),
            "versions": dict(self.versions),
            "targets": [target.to_dict() for target in self.targets],
        }


def finite(number: float) -> float | None:
    """JSON knows no infinity."""
    return number if math.isfinite(number) else None
