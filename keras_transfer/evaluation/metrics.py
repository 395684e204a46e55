"""Classification metrics as one plain dictionary.

Counted from one confusion matrix: the guard asks for them hundreds of times, and scikit-learn, which the tests compare
with, checks its arguments anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from keras_transfer.errors import DataError
from keras_transfer.evaluation.calibration import expected_calibration_error

TOP_K = 5
SMALLEST = 1e-7
"""Probabilities are clipped here before the logarithm: float32 softmax outputs can be exactly 0."""


def classification_metrics(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Measure a classifier.

    Args:
        probabilities: float ``(N, C)``, each row sums to 1.
        labels: int ``(N,)``, true class indices.
        classes: the ``C`` class names in the order of the columns.

    Returns:
        JSON-able: ``images``; ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that occur),
        ``macro_f1`` (mean over the classes that occur), ``log_loss`` (nats; natural logarithm),
        ``calibration_error`` (of the predicted class's probability, in [0, 1]), ``top5_accuracy``
        (only with more than 5 classes), ``per_class`` {name: precision, recall, f1, images; a class that never
        occurs has recall and f1 None, one that is never predicted has precision None}, and ``confusion_matrix``
        (rows: truth, columns: prediction, counts).

    Raises:
        DataError: no images, or shapes that do not fit.
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if not len(labels):
        raise DataError("There are no images to measure on.")
    if probabilities.shape != (len(labels), len(classes)):
        raise DataError(
            f"The model gives outputs of shape {probabilities.shape}; {(len(labels), len(classes))} is expected "
            f"for {len(labels)} images and {len(classes)} classes."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("The model gives probabilities that are not finite numbers.")
    predicted = probabilities.argmax(axis=1)
    count = len(classes)
    confusion = np.bincount(labels.astype(np.int64) * count + predicted, minlength=count**2).reshape(
        count, count
    )
    right, support, answers = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = right / np.maximum(answers, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(answers + support, 1)
    occurs = support > 0
    clipped = np.clip(probabilities[np.arange(len(labels)), labels], SMALLEST, 1.0)
    result: dict[str, Any] = {
        "images": len(labels),
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": float(recall[occurs].mean()),
        "macro_f1": float(f1[occurs].mean()),
        "log_loss": float(-np.log(clipped).mean()),
        "calibration_error": expected_calibration_error(np.clip(probabilities, 0.0, 1.0), labels),
    }
    if len(classes) > TOP_K:
        result["top5_accuracy"] = float(
            metrics.top_k_accuracy_score(labels, probabilities, k=TOP_K, labels=np.arange(count))
        )
    result["per_class"] = {
        name: {
            "precision": float(precision[i]) if answers[i] else None,
            "recall": float(recall[i]) if occurs[i] else None,
            "f1": float(f1[i]) if occurs[i] else None,
            "images": int(support[i]),
        }
        for i, name in enumerate(classes)
    }
    result["confusion_matrix"] = confusion.tolist()
    return result
