"""The contract of a target: it makes files from a finished ``.tflite``, and opens them in the runtime they are for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.export.inspection import FileFacts
from keras_transfer.inference import Runner
from keras_transfer.records import ExportOptions
from keras_transfer.records.layout import TARGETS

NEAR = 0.2
"""Of what is allowed: a runtime's own settings are kept where its answers are no further off."""


@dataclass(frozen=True)
class Source:
    """What a target is made from.

    Attributes:
        folder: the bundle; a target writes into ``targets/NAME`` in it.
        file: the ``.tflite`` in it.
        facts: what that holds.
        pixels: the golden images as the model takes them, uint8 ``(N, H, W, 3)``.
        answers: LiteRT's, by its reference kernels, float32 ``(N, ...)``.
        tolerance: how far a number may be from the recorded one on another machine.
        options: of the export.
    """

    folder: Path
    file: str
    facts: FileFacts
    pixels: np.ndarray
    answers: np.ndarray
    tolerance: float
    options: ExportOptions

    @property
    def path(self) -> Path:
        """Of the ``.tflite``."""
        return self.folder / self.file

    def own(self, target: str) -> Path:
        """The folder of a target's files in the bundle, made where it is not there."""
        folder = self.folder / TARGETS / target
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def distance(self, given: np.ndarray) -> float:
        """The largest absolute difference of answers ``(N, ...)`` from LiteRT's; infinite where they do not fit."""
        return furthest(given, self.answers)

    def near(self, distance: float) -> bool:
        """Whether answers are so near that nothing nearer has to be looked for."""
        return distance <= NEAR * self.tolerance


def furthest(given: np.ndarray, answers: np.ndarray) -> float:
    """The largest absolute difference; infinite for other shapes, and numbers that are not finite."""
    if given.shape != answers.shape or not np.isfinite(given).all():
        return float("inf")
    return float(np.abs(given.astype(np.float64) - answers).max())


@dataclass(frozen=True)
class Made:
    """What a target made.

    Attributes:
        files: names in the bundle.
        model: of them, the one that :meth:`Target.open` opens; empty: the ``.tflite`` itself.
        measured: what its runtime told: bytes, cycles ... JSON-able.
        versions: of what made and ran it.
    """

    files: tuple[str, ...]
    model: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


class Target(ABC):
    """A way to make files for a runtime, and to run them in it."""

    allowed: float | None = 0.0
    """How far an answer in its runtime may be from LiteRT's reference kernels on the golden images; 0: equal; None: as
    far as the file's precision allows on another machine (:attr:`Source.tolerance`)."""
    compared: bool = False
    """Whether its answers to all images that the artefacts are compared on are judged, too, as those of an artefact."""

    @abstractmethod
    def make(self, source: Source) -> Made:
        """Write the files.

        Raises ``ExportError`` where the runtime refuses the model or a limit is broken; the message names the layer.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """The model of a bundle in the target's runtime; ``path``: of what :attr:`Made.model` names.

        Raises ``ExportError`` where the runtime refuses it.
        """
