"""When some classes have many more images than others: weights, and sampling."""

from __future__ import annotations

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from keras_transfer.errors import DataError, UsageError


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How much each class must count for all to count the same.

    Args:
        labels: whole numbers (N,), class indices; or 0/1 (N, C), several labels per image.
        num_classes: the number of classes ``C``.

    Returns:
        float32 (C,). For (N,): scikit-learn's "balanced", images / (classes present * images of the class), whose
        mean over the images is 1; a class without images has 0. For (N, C): the weight of a label's positive
        images beside its negative ones, negatives / positives; 1 / N where there are no negatives, and 0 where
        there are no positives.

    Raises:
        UsageError: another shape.
        DataError: no image, or a label that is no class.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == num_classes and len(labels):
        if not np.all((labels == 0) | (labels == 1)):
            raise DataError("Several labels per image must be given as 0 or 1.")
        positives = labels.sum(axis=0, dtype=np.float64)
        negatives = np.maximum(len(labels) - positives, 1)
        ratio = np.divide(negatives, positives, out=np.zeros(num_classes), where=positives > 0)
        return ratio.astype(np.float32)
    found = _classes_found(labels)
    if found[0] < 0 or found[-1] >= num_classes:
        raise DataError(f"The labels go from {found[0]} to {found[-1]}; expected 0 to {num_classes - 1}.")
    weights = np.zeros(num_classes, np.float32)
    weights[found] = compute_class_weight("balanced", classes=found, y=labels)
    return weights


def sampling_probabilities(labels: np.ndarray) -> np.ndarray:
    """How likely each image must be drawn for every class present to be drawn equally often.

    Args:
        labels: whole numbers (N,), class indices.

    Returns:
        float64 (N,), which add up to 1: for ``tf_dataset(sampling=...)``.

    Raises:
        UsageError: another shape; with several labels per image, no sampling makes all equally likely.
        DataError: no image.
    """
    labels = np.asarray(labels)
    found = _classes_found(labels)
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / (len(found) * counts[place].astype(np.float64))


def _classes_found(labels: np.ndarray) -> np.ndarray:
    """The classes present, ascending: int (K,), K at least 1."""
    if labels.ndim != 1:
        raise UsageError(f"labels have the shape {labels.shape}; class indices (N,) are expected.")
    if not len(labels):
        raise DataError("There is no image to balance the classes by.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"labels are {labels.dtype}; class indices (whole numbers) are expected.")
    return np.unique(labels)
