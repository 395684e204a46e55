"""How far an image is from what a model has learned: which measure is best, and from which value on it is unknown.

The measures are in :mod:`keras_transfer.training.unfamiliarity_layers`. ``auto`` plays the case that matters: each
class is left out in turn (of more than ten classes: a tenth of them), the measures are fitted on four fifths of the
other images, and have to tell the class that is left out from the remaining fifth. The threshold is the value that a
wanted share of images exceeds that the measure has not learned from: validation images, or, where they are too few, the
training images out of fold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from keras_transfer.errors import UsageError
from keras_transfer.training.unfamiliarity_layers import (
    METHODS,
    NEED_CLASSES,
    NEED_LOGITS,
    Head,
    Measure,
    measure,
)

log = logging.getLogger("keras_transfer")

CANDIDATES = ("joint", "relative", "mahalanobis", "knn", "vim")
"""What ``auto`` tries; of equals the first."""
PARTS, FOLDS = 10, 5
"""Parts of the classes that are left out in turn at most, and folds of the images."""
ENOUGH = 50
"""Images from which a threshold is taken; more, where a small share is to be rejected."""
MOST = 4000
"""Training images a measure is fitted on at most, drawn by the seed: more change nothing but the time."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A measure with its threshold: an image whose unfamiliarity exceeds it is unknown.

    Attributes:
        method: of the measure.
        measure: features to unfamiliarity.
        threshold: in its unit.
        reject: the share of familiar images that was to exceed it.
        chosen_on: why this method: ``"asked for"``, ``"classes left out"``, or what prevented a choice.
        threshold_from: which images the threshold comes from, in words.
        trials: by method, the mean AUROC over the classes that were left out.
    """

    method: str
    measure: Measure
    threshold: float
    reject: float
    chosen_on: str
    threshold_from: str
    trials: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the measure's weights."""
        return {
            "method": self.method,
            "threshold": self.threshold,
            "reject": self.reject,
            "chosen_on": self.chosen_on,
            "threshold_from": self.threshold_from,
            "trials": self.trials,
            "components": self.measure.components,
            "shrinkage": self.measure.shrinkage,
            "bytes": self.measure.bytes,
        }


def fit_detector(
    method: str,
    features: np.ndarray,
    labels: np.ndarray | None,
    *,
    train: np.ndarray,
    val: np.ndarray,
    head: Head | None = None,
    before: Callable[[], Head | None] | None = None,
    reject: float = 0.05,
    seed: int = 0,
) -> Detector:
    """Choose a measure, fit it on the training images, and find its threshold.

    Args:
        method: ``auto``, or one of :data:`METHODS`.
        features: float ``(N, D)``.
        labels: int ``(N,)`` classes; None where an image has none, or several.
        train, val: rows; ``val`` may be empty.
        head: of a classifier's logits.
        before: gives the head as it is without the images of ``val``, where ``head`` has learned from them: the
            threshold of what is made of logits is found with it.
        reject: share of familiar images that is to be unknown, above 0 and below 1.
        seed: of the folds, of the parts, and of what is drawn.

    Raises:
        UsageError, DataError: see :func:`~keras_transfer.training.unfamiliarity_layers.measure`.
    """
    if not 0 < reject < 1:
        raise UsageError(f"reject={reject} was given; a share above 0 and below 1 is expected.")
    if method not in ("auto", *METHODS):
        raise UsageError(f"The method {method!r} was given; one of auto, {', '.join(METHODS)} is expected.")
    if len(train) > MOST:
        train = np.sort(np.random.default_rng(seed).choice(train, MOST, replace=False))
    trials: dict[str, float] = {}
    why = "asked for"
    if method == "auto":
        method, why, trials = _chosen(features, labels, train, head, seed)
    fitted = measure(method, features[train], _of(labels, train), head=head, seed=seed)
    if fitted.shrinkage is not None and len(train) < features.shape[1]:
        log.info(
            "%d images are fewer than the %d features: the covariance of %d components is shrunk by %.0f %%.",
            len(train),
            features.shape[1],
            fitted.components,
            100 * fitted.shrinkage,
        )
    asked, other = fitted, head
    if before is not None and method in NEED_LOGITS:
        other = before()
        asked = measure(method, features[train], _of(labels, train), head=other, seed=seed)
    scores, source = _familiar(method, asked, features, labels, train, val, other, reject, seed)
    return Detector(method, fitted, threshold_of(scores, reject), reject, why, source, trials)


def threshold_of(scores: np.ndarray, reject: float) -> float:
    """The value that a share of scores ``(n,)`` exceeds; of new images it is that share on average.

    The ``ceil((n + 1) (1 - reject))``-th smallest (Vovk et al. 2005), the largest where they are too few.
    """
    place = int(np.ceil((len(scores) + 1) * (1 - reject) - 1e-9))
    return float(np.sort(scores)[min(place, len(scores)) - 1])


def _of(labels: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if labels is None else labels[rows]


def _chosen(
    features: np.ndarray, labels: np.ndarray | None, train: np.ndarray, head: Head | None, seed: int
) -> tuple[str, str, dict[str, float]]:
    if labels is None:
        return "mahalanobis", "the images have no classes to leave out", {}
    classes, counts = np.unique(labels[train], return_counts=True)
    if len(classes) < 2 or len(train) < 4 * FOLDS or counts.max() < FOLDS:
        return "mahalanobis", "too few images to leave classes out", {}
    names = [name for name in CANDIDATES if name not in NEED_LOGITS or head is not None]
    if len(classes) == 2 and head is not None:
        return "joint", "two classes: one that remains has no logits", {}
    if len(classes) == 2:  # the one that remains is all images
        names = [name for name in names if name in ("mahalanobis", "knn")]
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in names}
    for part in np.array_split(rng.permutation(classes), min(PARTS, len(classes))):
        away = np.isin(labels[train], part)
        rest, outside = rng.permutation(train[~away]), train[away]
        cut = max(len(rest) // FOLDS, 1)
        judged, fit = rest[:cut], rest[cut:]
        if len(fit) < 2 or (len(classes) > 2 and len(np.unique(labels[fit])) < 2):
            continue
        proxy = _proxy(features[fit], labels[fit]) if head is not None else None
        truth = np.repeat([0, 1], [len(judged), len(outside)])
        for name in names:
            one = measure(name, features[fit], labels[fit], head=proxy, seed=seed)
            scores = one(features[np.concatenate([judged, outside])])
            found[name].append(float(roc_auc_score(truth, scores)))
    trials = {name: float(np.mean(values)) for name, values in found.items() if values}
    if not trials:
        return "mahalanobis", "too few images to leave classes out", {}
    return max(trials, key=lambda name: trials[name]), "classes left out", trials


def _proxy(x: np.ndarray, y: np.ndarray) -> Head:
    """A quick head of the classes that remain: the model's own has learned from all of them."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.maximum(deviation, max(float(np.median(deviation)), 1e-6))
    fitted = LogisticRegression(C=0.003, max_iter=60, tol=1e-2).fit((x - mean) / deviation, y)
    kernel, bias = fitted.coef_.T / deviation[:, np.newaxis], fitted.intercept_
    if kernel.shape[1] == 1:
        kernel, bias = (
            np.concatenate([-kernel / 2, kernel / 2], axis=1),
            np.concatenate([-bias / 2, bias / 2]),
        )
    return kernel, bias - mean @ kernel


def _familiar(
    method: str,
    fitted: Measure,
    features: np.ndarray,
    labels: np.ndarray | None,
    train: np.ndarray,
    val: np.ndarray,
    head: Head | None,
    reject: float,
    seed: int,
) -> tuple[np.ndarray, str]:
    """Unfamiliarity of images that the measure has not learned from, and which they are."""
    wanted = max(ENOUGH, int(np.ceil(1 / reject)))
    if len(val) >= wanted:
        return fitted(features[val]), f"{len(val)} validation images"
    rows = np.concatenate([train, val])
    if len(rows) < 4:
        log.warning(
            "%d images are too few for a threshold: none of them is unknown, whatever --reject says.",
            len(rows),
        )
        return fitted(features[rows]), f"{len(rows)} images that were learned from"
    cut = KFold(min(FOLDS, len(rows)), shuffle=True, random_state=seed)
    parts = []
    for fit, judged in cut.split(rows):
        learned = _of(labels, rows[fit])
        one_class = learned is not None and len(np.unique(learned)) < 2
        name = "mahalanobis" if method in NEED_CLASSES and one_class else method
        parts.append(
            measure(name, features[rows[fit]], learned, head=head, seed=seed)(features[rows[judged]])
        )
    log.info(
        "%d validation images are too few for the threshold of unknown images (%d could tell): it is found by "
        "cross-validation on %d images.",
        len(val),
        wanted,
        len(rows),
    )
    return np.concatenate(parts), f"{len(rows)} images, cross-validated"


__all__ = ["CANDIDATES", "METHODS", "NEED_LOGITS", "Detector", "fit_detector", "threshold_of"]
