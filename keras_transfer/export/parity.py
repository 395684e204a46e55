"""Whether an exported model answers like the Keras model it was made from, and how much each precision may differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.evaluation.metrics import classification_metrics
from keras_transfer.records import Tolerance
from keras_transfer.wording import is_share

CLASSIFICATION = ("balanced_accuracy", "macro_f1", "log_loss", "calibration_error")
BUILT_IN = ("classification", "multilabel", "regression")
SCALES = {"probabilities": 1.0, "images": 255.0}
SAME_NUMBERS = 1e-4
"""float32: of the scale of the numbers, which is 1 for probabilities."""
SAME_LEVELS = 1.01 / 255
"""float32: of the scale of images, which are whole numbers: what is rounded up here may be rounded down there."""


@dataclass(frozen=True)
class Judge:
    """How the outputs of a task are judged; by default those of a classifier.

    Attributes:
        names: of the outputs, in order.
        task: its name.
        kind: what the outputs are: ``probabilities``, ``values``, ``score``, ``embeddings`` ...
        shape: of one image's output.
        metric: the metric that decides.
        higher: whether more of it is better.
        drop: how much of it int8 and the other reduced precisions may lose: an amount where more is better, a share of
            Keras's where less is.
        others: metrics that are told besides.
        measure: ``(outputs (N, ...), table of N images)`` to metrics.
        decide: outputs ``(N, ...)`` to what they come to ``(N, ...)``, which artefacts must agree on; None: they are
            numbers, and nothing is decided.
        draw: of a model that generates: a table of N images to the N inputs it is given instead of them.
        options: of the task, JSON-able, and ``notes``, what its training left: for whoever opens a bundle.
        standalone: see :class:`keras_transfer.tasks.base.TaskSpec`.
    """

    names: tuple[str, ...]
    task: str = "classification"
    kind: str = "probabilities"
    shape: tuple[int, ...] = ()
    metric: str = "accuracy"
    higher: bool = True
    drop: float = 0.01
    others: Sequence[str] = CLASSIFICATION
    measure: Callable[[np.ndarray, ImageTable], Mapping[str, Any]] = lambda outputs, table: (
        classification_metrics(outputs, table.labels, table.classes)
    )
    decide: Callable[[np.ndarray], np.ndarray | None] = lambda outputs: outputs.argmax(axis=-1)
    draw: Callable[[ImageTable], np.ndarray] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    standalone: str = ""

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", (len(self.names),))

    @property
    def classifies(self) -> bool:
        """Whether an image has one class: the most probable one."""
        return self.task == "classification"


@dataclass(frozen=True)
class Parity:
    """Two models' outputs for the same images, compared.

    Attributes:
        images: how many.
        agreement: share of equal decisions (most probable classes), in [0, 1]; None when nothing is decided.
        max_difference: largest absolute difference of a number; infinite when the candidate's are not finite.
        mean_difference: mean absolute difference.
        score: the judge's metric for the candidate (for classifiers its accuracy, in [0, 1]); None when its numbers are
            not finite, or nothing could be measured.
        keras_score: the same for the Keras model.
        loss: how much of the judge's metric the candidate loses, in the units of :class:`Tolerance`'s ``drop``; None
            when it cannot be measured.
        loss_low: the loss that the images prove: the lower end of a one-sided 95 % interval of the paired difference;
            None where nothing is lost.
        finite: whether all of the candidate's numbers are.
        metrics: the judge's other metrics for the candidate, and of embeddings ``cosine``, the mean cosine to the Keras
            model's; empty when its numbers are not finite.
    """

    images: int
    agreement: float | None
    max_difference: float
    mean_difference: float
    score: float | None
    keras_score: float | None
    finite: bool
    metrics: Mapping[str, Any] = field(default_factory=dict)
    loss: float | None = None
    loss_low: float | None = None


EMBEDDINGS = "embeddings"
"""The kind of outputs that are compared by their direction."""
AGREES = 0.9
"""Of reduced precision: the share of decisions that must be equal whatever the metric says. A poor model loses little
by answering otherwise."""
ONE_SIDED = 1.6448536269514722
"""Standard deviations of a one-sided 95 % interval."""
PARTS = 10
"""Parts of the images that are left out in turn, to see how much a metric varies."""
SOME = 32
"""Images that are compared at a time."""
SAME_DECISIONS, SAME_PIXELS = 1.0, 0.999
"""float32: the share of equal decisions, where an image has one, and where it has many."""


def tolerance_for(precision: str, judge: Judge, reference: np.ndarray) -> Tolerance:
    """What an artefact of this precision may lose against the Keras model's outputs. A SavedModel is float32."""
    decided = judge.decide(reference[:1])
    if precision != "float32":
        return Tolerance(drop=judge.drop, agreement=None if decided is None else AGREES)
    agreement = None if decided is None else SAME_DECISIONS if decided.ndim == 1 else SAME_PIXELS
    return Tolerance(max_difference=same_numbers(judge) * scale_of(judge, reference), agreement=agreement)


def same_numbers(judge: Judge) -> float:
    """How far a float32 number may be from Keras's, as a share of the scale (:func:`scale_of`)."""
    return SAME_LEVELS if judge.kind == "images" else SAME_NUMBERS


def scale_of(judge: Judge, reference: np.ndarray) -> float:
    """1 for probabilities, 255 for images; of other numbers the largest absolute one."""
    if judge.kind in SCALES:
        return SCALES[judge.kind]
    return max(float(reference.max(initial=0.0)), -float(reference.min(initial=0.0))) or 1.0


def measure_parity(
    reference: np.ndarray,
    candidate: np.ndarray,
    judge: Judge,
    table: ImageTable,
    *,
    keras_score: float | None = None,
) -> Parity:
    """Compare an artefact's outputs with the Keras model's.

    Args:
        reference: the Keras model's, float ``(N, ...)``.
        candidate: the artefact's, for the same images in the same order.
        judge: what they are worth.
        table: the N images.
        keras_score: the judge's metric of ``reference``, where it is known already.

    Raises:
        UsageError: no images, or shapes that do not fit each other.
    """
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    if not len(reference) or candidate.shape != reference.shape:
        raise UsageError(
            f"Outputs of shapes {reference.shape} (Keras) and {candidate.shape} (artefact) cannot be compared; two "
            "equal shapes with at least one image are expected."
        )
    if len(table) != len(reference):
        raise UsageError(f"{len(reference)} outputs need {len(reference)} images, not {len(table)}.")
    finite, largest, total, equal, decisions = True, 0.0, 0.0, 0, 0
    for start in range(0, len(reference), SOME):  # a few images at a time: outputs may be larger than memory
        one, other = reference[start : start + SOME], candidate[start : start + SOME]
        finite &= bool(np.isfinite(other).all())
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
        largest, total = max(largest, float(difference.max())), total + float(difference.sum())
        expected, given = judge.decide(one), judge.decide(other)
        if expected is not None and given is not None:
            equal, decisions = equal + int(np.sum(given == expected)), decisions + expected.size
    measured = judge.measure(candidate, table) if finite else {}
    others = {name: measured[name] for name in judge.others if name in measured}
    if judge.kind == EMBEDDINGS and finite:
        others["cosine"] = mean_cosine(reference, candidate)
    if keras_score is None:
        keras_score = judge.measure(reference, table)[judge.metric]
    loss = _loss(keras_score, measured.get(judge.metric), judge)
    low = None if loss is None or loss <= 0 else _lowest_loss(reference, candidate, judge, table, loss)
    return Parity(
        images=len(reference),
        agreement=equal / decisions if decisions else None,
        max_difference=largest if finite else float("inf"),
        mean_difference=total / reference.size if finite else float("inf"),
        score=measured.get(judge.metric),
        keras_score=keras_score,
        finite=finite,
        metrics=others,
        loss=loss,
        loss_low=low,
    )


def _loss(before: float | None, after: float | None, judge: Judge) -> float | None:
    """What is lost: an amount where more is better, a share of Keras's where less is."""
    if before is None or after is None:
        return None
    if judge.higher:
        return before - after
    return (after - before) / abs(before) if before else (0.0 if after <= before else float("inf"))


def _lowest_loss(
    reference: np.ndarray, candidate: np.ndarray, judge: Judge, table: ImageTable, loss: float
) -> float:
    """The lower end of a one-sided 95 % interval of the loss, from differences image by image.

    Accuracy: Agresti & Min 2005 (Wald with half an image added to each cell). Other metrics: the jackknife over ten
    parts of the images.
    """
    count = len(reference)
    if judge.classifies and judge.metric == "accuracy":
        right = [outputs.argmax(axis=-1) == table.labels for outputs in (reference, candidate)]
        lost, won = int(np.sum(right[0] & ~right[1])) + 0.5, int(np.sum(right[1] & ~right[0])) + 0.5
        count += 2
        deviation = np.sqrt(max(0.0, lost + won - (lost - won) ** 2 / count)) / count
        return float((lost - won) / count - ONE_SIDED * deviation)
    parts = min(PARTS, count)
    if parts < 2:
        return -float("inf")
    losses = []
    for part in range(parts):
        rows = np.flatnonzero(np.arange(count) % parts != part)
        left = table.take(rows)
        scores = [judge.measure(outputs[rows], left)[judge.metric] for outputs in (reference, candidate)]
        one = _loss(scores[0], scores[1], judge)
        if one is None or not np.isfinite(one):
            return -float("inf")
        losses.append(one)
    deviation = np.sqrt((parts - 1) / parts * np.sum((np.array(losses) - np.mean(losses)) ** 2))
    return float(loss - ONE_SIDED * deviation)


def mean_cosine(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The mean over images of the cosine of two models' embeddings ``(N, D)``."""
    products = np.sum(reference.astype(np.float64) * candidate, axis=1)
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    return float(np.mean(products / np.maximum(lengths, 1e-12)))


def breaches(parity: Parity, tolerance: Tolerance, judge: Judge) -> tuple[str, ...]:
    """What is wrong with an artefact, one sentence each; empty when it may be delivered.

    A loss beyond the allowance counts where the images prove it; otherwise see :func:`doubts`.
    """
    number = "probability" if judge.kind == "probabilities" else "number"
    if not parity.finite:
        plural = "probabilities" if judge.kind == "probabilities" else "numbers"
        return (f"It gives {plural} that are not finite numbers.",)
    reasons = []
    limit = tolerance.max_difference
    if limit is not None and parity.max_difference > limit:
        reasons.append(f"A {number} differs by {parity.max_difference:.2g}; at most {limit:.0e} is allowed.")
    if (
        tolerance.agreement is not None
        and parity.agreement is not None
        and _agreement_high(parity, tolerance) < tolerance.agreement
    ):
        what, some = "Its decision", ""
        if judge.classifies:
            other = round((1 - parity.agreement) * parity.images)
            what, some = "The most probable class", f" of the images ({other} of {parity.images} differ)"
        reasons.append(
            f"{what} agrees on {parity.agreement:.2%}{some}; {100 * tolerance.agreement:g}% is required."
        )
    reasons += _drop(parity, tolerance, judge)
    return tuple(reasons)


def _agreement_high(parity: Parity, tolerance: Tolerance) -> float:
    """The agreement; where less than all is required, the upper end of a one-sided 95 % interval (Wilson)."""
    share, count = float(parity.agreement or 0.0), parity.images
    if tolerance.agreement is None or tolerance.agreement >= SAME_PIXELS:
        return share
    square = ONE_SIDED**2 / count
    spread = ONE_SIDED * np.sqrt(share * (1 - share) / count + square / (4 * count))
    return float((share + square / 2 + spread) / (1 + square))


def doubts(parity: Parity, tolerance: Tolerance, judge: Judge) -> tuple[str, ...]:
    """What the images cannot tell, one sentence each: a loss beyond the allowance that may be chance."""
    if not parity.finite or tolerance.drop is None or parity.loss is None or parity.loss_low is None:
        return ()
    allowed = tolerance.drop + 1e-9
    if parity.loss <= allowed or parity.loss_low > allowed:
        return ()
    name = judge.metric.replace("_", " ")
    told = (
        f"{name.capitalize()} is worse by {_amount(parity.loss, judge)} on {parity.images} images, and "
        f"{_allowed(tolerance.drop, judge)} is allowed"
    )
    wide = parity.loss - parity.loss_low
    if not np.isfinite(wide):
        return (f"{told}: so few images cannot tell whether that is chance.",)
    needed = parity.images * (wide / max(parity.loss - tolerance.drop, 1e-3)) ** 2
    step = 10 ** max(1, int(np.log10(needed)) - 1)
    return (
        f"{told}: these images cannot tell whether that is chance; about {-(-int(needed) // step) * step} could.",
    )


def _amount(loss: float, judge: Judge) -> str:
    """A loss: points of an accuracy, a share of Keras's where less is better, else the number."""
    if judge.higher and not is_share(judge.metric):
        return f"{loss:.3g}"
    return f"{100 * loss:.2f} {'points' if judge.higher else '%'}"


def _allowed(drop: float, judge: Judge) -> str:
    """What may be lost, in the same units, which are named there."""
    return f"{drop if judge.higher and not is_share(judge.metric) else 100 * drop:g}"


def _whose(judge: Judge) -> str:
    """Where the allowance comes from, for the author of a task."""
    return "" if judge.task in BUILT_IN else f" (the task {judge.task!r} says so: TaskSpec.drop)"


def _drop(parity: Parity, tolerance: Tolerance, judge: Judge) -> list[str]:
    name = judge.metric.replace("_", " ")
    if tolerance.drop is None:
        return []
    if parity.score is None or parity.keras_score is None:
        return [f"{name.capitalize()} cannot be measured on these images, so nothing is proven."]
    if parity.loss_low is not None and parity.loss_low <= tolerance.drop + 1e-9:
        return []
    # 1e-9: a loss of exactly the limit may be delivered, whatever the rounding of the two numbers.
    if judge.higher:
        drop = parity.keras_score - parity.score
        if drop <= tolerance.drop + 1e-9:
            return []
        lost = (
            f" ({round(drop * parity.images)} of {parity.images} images)"
            if judge.metric == "accuracy"
            else ""
        )
        form = ".2%" if is_share(judge.metric) else ".4g"
        return [
            f"{name.capitalize()} falls from {parity.keras_score:{form}} to {parity.score:{form}}, by "
            f"{_amount(drop, judge)}{lost}; at most {_allowed(tolerance.drop, judge)} is allowed{_whose(judge)}."
        ]
    if parity.score <= parity.keras_score + tolerance.drop * abs(parity.keras_score) + 1e-9:
        return []
    return [
        f"{name.capitalize()} rises from {parity.keras_score:.4g} to {parity.score:.4g}; at most {tolerance.drop:.0%} "
        f"more is allowed{_whose(judge)}."
    ]
