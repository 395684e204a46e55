"""Checking a bundle again: its files, and its golden vectors through every artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.decoding import ImageError, decode
from keras_transfer.errors import BundleError
from keras_transfer.export.bundle import Bundle, unlisted
from keras_transfer.export.golden import sampled
from keras_transfer.export.metadata import attached_labels
from keras_transfer.inference import Runner, SavedModelRunner
from keras_transfer.inference.saved_model_runner import BYTES
from keras_transfer.records.layout import BUNDLE


@dataclass(frozen=True)
class ArtefactCheck:
    """An artefact's answers to the golden images against the recorded ones.

    Attributes:
        file: name in the bundle.
        precision: as exported.
        difference: largest absolute difference of a number.
        tolerance: what is allowed.
        metrics: on the user's images, empty without.
        reasons: what is wrong, one sentence each.
    """

    file: str
    precision: str
    difference: float
    tolerance: float
    metrics: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What was checked and found.

    Attributes:
        path: the bundle.
        files: how many have their recorded hash.
        golden: how many golden images.
        pixel_difference: how far the pixels are from the recorded ones, of 255.
        artefacts: one each.
        data: the user's images (source, split, how many), None without.
        metrics: names of what was measured on them, the one that decides first.
        reasons: what is wrong with the bundle as a whole.
    """

    path: Path
    files: int
    golden: int
    pixel_difference: int
    artefacts: tuple[ArtefactCheck, ...]
    data: Mapping[str, Any] | None
    metrics: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reasons and not any(one.reasons for one in self.artefacts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "bundle": str(self.path),
            "passed": self.passed,
            "files": self.files,
            "golden": self.golden,
            "pixel_difference": self.pixel_difference,
            "data": None if self.data is None else dict(self.data),
            "metrics": list(self.metrics),
            "reasons": list(self.reasons),
            "artefacts": [
                {
                    "file": one.file,
                    "precision": one.precision,
                    "difference": one.difference if np.isfinite(one.difference) else None,
                    "tolerance": one.tolerance,
                    "passed": not one.reasons,
                    "reasons": list(one.reasons),
                    **one.metrics,
                }
                for one in self.artefacts
            ],
        }


def check_pixels(bundle: Bundle, golden: Mapping[str, Any]) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """The recorded pixels uint8 ``(N, H, W, 3)``, how far those made here are from them, and what is wrong.

    Of a bundle that generates: the recorded inputs float32 ``(N, ...)``, which nothing has to be made into.
    """
    if bundle.generates:
        return np.asarray(golden["inputs"], np.float32), 0, ()
    recorded, furthest = [], 0
    for row in golden["images"]:
        try:
            expected = decode(bundle.path / row["input"])
            given = bundle.preprocessing.load(bundle.path / row["image"])
        except ImageError as error:
            raise BundleError(
                f"A golden image, {row['image']} or {row['input']}, is not an image: {error}."
            ) from error
        if expected.shape != given.shape:
            return np.zeros(0), 255, (f"{row['input']} has shape {expected.shape}, not {given.shape}.",)
        furthest = max(furthest, int(np.abs(given.astype(int) - expected).max()))
        recorded.append(expected)
    allowed = golden["pixel_tolerance"]
    reasons: tuple[str, ...] = ()
    if furthest > allowed:
        reasons = (
            f"Preprocessing gives pixels that differ by up to {furthest} from the recorded ones; at most {allowed} is "
            "allowed. Is another version of Pillow installed?",
        )
    return np.stack(recorded), furthest, reasons


def check_artefact(
    bundle: Bundle, golden: Mapping[str, Any], file: str, runtime: Runner, pixels: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """How far an artefact's answers are from the recorded ones, and what is wrong."""
    if not len(pixels):
        return float("inf"), ("It was not run: the golden pixels do not fit.",)
    allowed = golden["tolerances"][file]
    step = golden["step"]
    answers = runtime.predict(pixels)
    if answers.shape[1:] != bundle.shape:
        return float("inf"), (f"It gives {answers.shape[1:]}, and {BUNDLE} says {bundle.shape}.",)
    difference = _furthest(sampled(answers, step), golden["expected"][file])
    reasons = [*_beyond(difference, allowed, _number(bundle)), *_other_labels(bundle, file)]
    (low, high), listed = runtime.inputs[0].normalization.range, bundle.artefact(file).input_range
    if (low, high) != listed:
        listed_words = f"from {listed[0]:g} to {listed[1]:g}"
        reasons.append(f"Its input goes from {low:g} to {high:g}, and {BUNDLE} says {listed_words}.")
    recorded = golden["encoded"].get(file)
    if recorded is not None and isinstance(runtime, SavedModelRunner):
        encoded = [(bundle.path / row["image"]).read_bytes() for row in golden["images"]]
        given = runtime.predict_encoded(encoded)
        off = float("inf") if given is None else _furthest(sampled(np.array(given), step), recorded)
        reasons += _beyond(off, allowed, f"{_number(bundle)} of the signature {BYTES}")
        difference = max(difference, off)
    return difference, tuple(reasons)


def _number(bundle: Bundle) -> str:
    return "A probability" if bundle.record.contract.kind == "probabilities" else "A number"


def bundle_reasons(bundle: Bundle) -> tuple[str, ...]:
    """Files that no export wrote."""
    strangers = unlisted(bundle.path, bundle.record.files)
    if not strangers:
        return ()
    shown = ", ".join(strangers[:3]) + (" ..." if len(strangers) > 3 else "")
    return (f"The bundle holds files that no export wrote: {shown}. Remove them.",)


def _other_labels(bundle: Bundle, file: str) -> list[str]:
    """Clients such as MediaPipe name the classes by the labels inside a ``.tflite``."""
    if not file.endswith(".tflite"):
        return []
    attached = attached_labels((bundle.path / file).read_bytes())
    if attached == bundle.labels:
        return []
    if attached is None and bundle.record.contract.kind != "probabilities":
        return []  # bundles of earlier versions
    return [f"The labels inside the file are not those of {BUNDLE}."]


def _furthest(answers: np.ndarray, recorded: Any) -> float:
    expected = np.asarray(recorded, np.float64)
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        return float("inf")
    return float(np.abs(answers - expected).max())


def _beyond(difference: float, allowed: float, what: str) -> list[str]:
    if difference <= allowed:
        return []
    return [f"{what} differs by {difference:.2g} from the recorded one; at most {allowed:g} is allowed."]
