"""Multi-label metrics as one plain dictionary.

The guard asks for them hundreds of times, so they are counted here; the tests compare with scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_transfer.errors import DataError
from keras_transfer.evaluation.metrics import SMALLEST


def multilabel_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure a model that gives any number of labels per image.

    Args:
        probabilities: float ``(N, C)``, each in [0, 1] and independent of the others.
        labels: ``(N, C)`` of 0 and 1.
        classes: the ``C`` label names in the order of the columns.
        thresholds: float ``(C,)``: a label is given from this probability on; default 0.5 each.

    Returns:
        JSON-able: ``images``; ``mean_average_precision`` and ``macro_f1`` (means over the labels that occur; None
        when none does), ``micro_f1`` (over all images and labels together; 0 when nothing is given or true),
        ``subset_accuracy`` (share of images with all labels right), ``hamming_loss`` (share of the N x C decisions
        that are wrong), ``log_loss`` (nats, mean over images and labels), and ``per_class`` {name: precision,
        recall, f1, threshold, average_precision, images; a label that never occurs has recall, f1 and
        average_precision None, one that is never given has precision None}. All but ``log_loss`` are in [0, 1];
        ``mean_average_precision``, ``average_precision`` and ``log_loss`` do not depend on the thresholds.

    Raises:
        DataError: no images, or shapes or values that do not fit.
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if not len(labels):
        raise DataError("There are no images to measure on.")
    wanted = (len(labels), len(classes))
    if probabilities.shape != wanted or labels.shape != wanted:
        raise DataError(
            f"The model gives outputs of shape {probabilities.shape} and the labels have shape {labels.shape}; "
            f"{wanted} is expected for {len(labels)} images and {len(classes)} labels."
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # also true for NaN
        raise DataError("The model gives probabilities that are not numbers from 0 to 1.")
    cuts = np.full(len(classes), 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
    if cuts.shape != (len(classes),):
        raise DataError(f"There are {cuts.size} thresholds and {len(classes)} labels; one each is expected.")
    truth, given = labels > 0, probabilities >= cuts
    per_class = {
        name: _one_label(truth[:, i], given[:, i], probabilities[:, i], float(cuts[i]))
        for i, name in enumerate(classes)
    }
    clipped = np.clip(np.where(truth, probabilities, 1 - probabilities), SMALLEST, 1.0)
    return {
        "images": len(labels),
        "mean_average_precision": _mean(per_class, "average_precision"),
        "micro_f1": _f1(truth, given),
        "macro_f1": _mean(per_class, "f1"),
        "subset_accuracy": float((truth == given).all(axis=1).mean()),
        "hamming_loss": float((truth != given).mean()),
        "log_loss": float(-np.log(clipped).mean()),
        "per_class": per_class,
    }


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """The mean precision over the recalls that are reached: ``sum of (R_n - R_(n-1)) * P_n``, without interpolation.

    Args:
        truth: bool ``(N,)``, at least one of them true.
        scores: float ``(N,)``; images of one score are taken together.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])


def _one_label(truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray, cut: float) -> dict[str, Any]:
    right, answers, images = int((truth & given).sum()), int(given.sum()), int(truth.sum())
    return {
        "precision": right / answers if answers else None,
        "recall": right / images if images else None,
        "f1": _f1(truth, given) if images else None,
        "threshold": cut,
        "average_precision": average_precision(truth, probabilities) if images else None,
        "images": images,
    }


def _f1(truth: np.ndarray, given: np.ndarray) -> float:
    """Twice the hits over what is true and what is given; 0 where neither is."""
    return float(2 * (truth & given).sum() / max(truth.sum() + given.sum(), 1))


def _mean(per_class: dict[str, dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in per_class.values() if row[name] is not None]
    return float(np.mean(values)) if values else None
