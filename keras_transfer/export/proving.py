"""Proving artefacts: their answers against the Keras model's, on the test images and, where they cannot tell, more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.errors import DataError
from keras_transfer.export.measure import answers_of, collect_answers, latency, temporary_folder
from keras_transfer.export.parity import Judge, breaches, doubts, measure_parity, tolerance_for
from keras_transfer.export.questions import Questions
from keras_transfer.export.report import ArtefactReport
from keras_transfer.export.request import Target
from keras_transfer.hashing import size_and_sha256
from keras_transfer.inference import Runner
from keras_transfer.preprocessing import Preprocessing

LARGEST_AGAIN = 1 << 30
"""Bytes of outputs above which no validation images are added where the test images cannot tell."""


@dataclass(frozen=True)
class Gate:
    """What every artefact of an export is judged by.

    Attributes:
        folder: of the export.
        reference: the Keras model's runner.
        expected: its answers, ``(N, ...)``.
        questions: the images.
        measured: the rows of these.
        judge: what answers are worth.
        keras_score: of the Keras model.
        again: whether the validation images are asked where these cannot tell.
        outputs: a temporary folder.
    """

    folder: Path
    reference: Runner
    expected: np.ndarray
    questions: Questions
    measured: ImageTable
    judge: Judge
    keras_score: float | None
    again: bool
    outputs: Path

    def prove(self, target: Target, runtime: Runner, answers: np.ndarray) -> ArtefactReport:
        """An artefact's proof, by the images alone."""
        return _prove(
            self.folder,
            target,
            runtime,
            self.expected,
            answers,
            self.measured,
            self.judge,
            self.keras_score,
            self.questions.preprocessing,
        )

    def look_again(
        self, proven: list[ArtefactReport], runtimes: Sequence[Runner], answers: Sequence[np.ndarray]
    ) -> list[ArtefactReport]:
        """Proofs with the validation images, too, where these may be asked; see :func:`look_again`."""
        if not self.again:
            return proven
        questions = self.questions
        return look_again(
            proven,
            [self.reference, *runtimes],
            [self.expected, *answers],
            questions.table,
            questions.preprocessing,
            self.judge,
            self.outputs,
        )

    def one(self, file: str, precision: str, runtime: Runner) -> ArtefactReport:
        """The whole proof of a model that was made after the others."""
        with temporary_folder(self.outputs) as folder:
            answers = answers_of(runtime, self.questions, self.judge.shape, folder)
            found = self.prove(Target(file, precision), runtime, answers)
            return self.look_again([found], [runtime], [answers])[0]


def _prove(
    folder: Path,
    target: Target,
    runtime: Runner,
    reference: np.ndarray,
    answers: np.ndarray,
    measured: ImageTable,
    judge: Judge,
    keras_score: float | None,
    preprocessing: Preprocessing,
) -> ArtefactReport:
    path = folder / target.file
    size, sha256 = size_and_sha256(path)
    parity = measure_parity(reference, answers, judge, measured, keras_score=keras_score)
    tolerance = tolerance_for(target.precision, judge, reference)
    return ArtefactReport(
        file=target.file + ("/" if path.is_dir() else ""),
        precision=target.precision,
        bytes=size,
        sha256=sha256,
        inputs=runtime.inputs,
        outputs=runtime.outputs,
        metric=judge.metric,
        parity=parity,
        tolerance=tolerance,
        milliseconds=latency(runtime, preprocessing, judge.draw is not None),
        reasons=breaches(parity, tolerance, judge),
        doubts=doubts(parity, tolerance, judge),
    )


def look_again(
    proven: list[ArtefactReport],
    runtimes: Sequence[Runner],
    answers: Sequence[np.ndarray],
    table: ImageTable,
    preprocessing: Preprocessing,
    judge: Judge,
    outputs: Path,
) -> list[ArtefactReport]:
    """Where the test images cannot tell whether a loss is chance, the validation images are asked, too.

    No artefact learned from them: the Keras model's answers are the measure. ``runtimes`` and ``answers`` begin with
    the Keras model's.
    """
    places = [place for place, one in enumerate(proven, 1) if one.doubts]
    rows = table.indices("val")
    if not places or not len(rows) or judge.draw is not None or answers[0].nbytes > LARGEST_AGAIN:
        return proven
    folder = outputs / "again"
    folder.mkdir(exist_ok=True)
    asked = [0, *places]
    more = collect_answers(
        [runtimes[place] for place in asked],
        Questions(table, preprocessing, rows),
        judge.shape,
        folder,
        "Comparing on val",
    )
    both = [np.concatenate([answers[place], found]) for place, found in zip(asked, more, strict=True)]
    images = table.take(np.concatenate([table.indices("test"), rows]))
    result = list(proven)
    for place, given in zip(places, both[1:], strict=True):
        one = proven[place - 1]
        try:
            parity = measure_parity(both[0], given, judge, images)
        except DataError:  # a task may have learned from the validation images, and refuse to measure on them
            return proven
        result[place - 1] = replace(
            one,
            parity=replace(one.parity, loss=parity.loss, loss_low=parity.loss_low),
            reasons=breaches(parity, one.tolerance, judge),
            doubts=doubts(parity, one.tolerance, judge),
        )
    return result
