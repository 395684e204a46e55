"""Whether an exported model answers like the Keras model it was made from, and how much each precision may differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from keras_transfer.errors import UsageError


@dataclass(frozen=True)
class Parity:
    """Two models' answers to the same images, compared.

    Attributes:
        images: how many.
        agreement: share of images with the same most probable class, in [0, 1].
        max_difference: largest absolute difference of a probability; infinite when the candidate's are not finite.
        mean_difference: mean absolute difference of the probabilities.
        accuracy: share of images the candidate gets right.
        keras_accuracy: share of images the Keras model gets right.
        finite: whether all of the candidate's probabilities are finite numbers.
    """

    images: int
    agreement: float
    max_difference: float
    mean_difference: float
    accuracy: float
    keras_accuracy: float
    finite: bool


@dataclass(frozen=True)
class Tolerance:
    """What an artefact may lose; ``None`` means that it is measured and not judged.

    Attributes:
        max_difference: largest absolute difference of a probability.
        agreement: smallest share of images with the same most probable class.
        accuracy_drop: largest loss of accuracy against the Keras model, as a share (0.01 is one point).
    """

    max_difference: float | None = None
    agreement: float | None = None
    accuracy_drop: float | None = None


_SAME_NUMBERS = Tolerance(max_difference=1e-4, agreement=1.0)
_ONE_POINT = Tolerance(accuracy_drop=0.01)

TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "float32": _SAME_NUMBERS,
        "float16": _ONE_POINT,
        "dynamic": _ONE_POINT,
        "int8": _ONE_POINT,
        "int16x8": _ONE_POINT,
    }
)
"""By precision. A SavedModel is float32."""


def compare(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Parity:
    """Compare an artefact's probabilities with the Keras model's.

    Args:
        reference: the Keras model's, float ``(N, C)``.
        candidate: the artefact's, for the same images in the same order.
        labels: int ``(N,)``, true class indices.

    Raises:
        UsageError: no images, or shapes that do not fit each other.
    """
    reference, candidate, labels = np.asarray(reference), np.asarray(candidate), np.asarray(labels)
    if reference.ndim != 2 or not len(reference) or candidate.shape != reference.shape:
        raise UsageError(
            f"Probabilities of shapes {reference.shape} (Keras) and {candidate.shape} (artefact) cannot be compared; "
            "two equal shapes (N, C) with at least one image are expected."
        )
    if labels.shape != (len(reference),):
        raise UsageError(f"{len(reference)} images need {len(reference)} labels, not {labels.shape}.")
    finite = bool(np.isfinite(candidate).all())
    difference = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
    chosen, expected = candidate.argmax(axis=1), reference.argmax(axis=1)
    return Parity(
        images=len(reference),
        agreement=float(np.mean(chosen == expected)),
        max_difference=float(difference.max()) if finite else float("inf"),
        mean_difference=float(difference.mean()) if finite else float("inf"),
        accuracy=float(np.mean(chosen == labels)),
        keras_accuracy=float(np.mean(expected == labels)),
        finite=finite,
    )


def breaches(parity: Parity, tolerance: Tolerance) -> tuple[str, ...]:
    """What is wrong with an artefact, one sentence each; empty when it may be delivered."""
    if not parity.finite:
        return ("It gives probabilities that are not finite numbers.",)
    reasons = []
    limit = tolerance.max_difference
    if limit is not None and parity.max_difference > limit:
        reasons.append(
            f"A probability differs by {parity.max_difference:.2g}; at most {limit:.0e} is allowed."
        )
    if tolerance.agreement is not None and parity.agreement < tolerance.agreement:
        other = round((1 - parity.agreement) * parity.images)
        reasons.append(
            f"The most probable class agrees on {parity.agreement:.2%} of the images ({other} of {parity.images} "
            f"differ); {tolerance.agreement:.0%} is required."
        )
    drop = parity.keras_accuracy - parity.accuracy
    # 1e-9: a loss of exactly the limit may be delivered, whatever the rounding of the two shares.
    if tolerance.accuracy_drop is not None and drop > tolerance.accuracy_drop + 1e-9:
        lost = round(drop * parity.images)
        reasons.append(
            f"Accuracy falls from {parity.keras_accuracy:.2%} to {parity.accuracy:.2%}, by {100 * drop:.2f} points "
            f"({lost} of {parity.images} images); at most {100 * tolerance.accuracy_drop:g} is allowed."
        )
    return tuple(reasons)
