"""Segmentation metrics from confusion matrices that are added up image by image, in NumPy.

There are two ways to average, and they differ: *over the data set* (all pixels in one confusion matrix, then IoU, the
way PASCAL VOC and Cityscapes count) and *per image* (IoU of each image, then the mean over images, where a small object
in one image weighs as much as a large one in another). Names of the second kind begin with ``per_image_``.

A class that is neither in the truth nor in the prediction has no IoU: it is None, and left out of means. Pixels whose
truth is the ignore index count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from keras_transfer.errors import DataError, UsageError
from keras_transfer_segmentation.classes import IGNORE_INDEX

BOUNDARY_TOLERANCE = 2.0


def confusion_matrix(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> np.ndarray:
    """Count pixels: int64 ``(C, C)``, rows are the truth, columns the prediction.

    Args:
        truth: whole numbers of any shape, class indices or ``ignore_index``.
        prediction: class indices, of the same shape. Under ignored pixels they may be anything.

    Raises:
        DataError: other shapes, no whole numbers, or values that do not belong to a class.
    """
    truth, prediction = _checked(truth, prediction)
    counts = truth != ignore_index
    truth, prediction = truth[counts].astype(np.int64), prediction[counts].astype(np.int64)
    for what, values in (("truth", truth), ("prediction", prediction)):
        if values.size and not (values.min() >= 0 and values.max() < num_classes):
            raise DataError(
                f"The {what} has values from {values.min()} to {values.max()}; expected class indices from 0 to "
                f"{num_classes - 1}" + (f", or {ignore_index} to ignore a pixel." if what == "truth" else ".")
            )
    return np.bincount(truth * num_classes + prediction, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: ``(..., C, C)`` to float64 ``(..., C)``; NaN for an absent class."""
    hits, truth, predicted = _sums(matrix)
    return _ratio(hits, truth + predicted - hits)


def dice(matrix: np.ndarray) -> np.ndarray:
    """Twice the intersection over the sum of sizes (the F1 score of the pixels), as :func:`iou`."""
    hits, truth, predicted = _sums(matrix)
    return _ratio(2 * hits, truth + predicted)


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of pixels whose class is right, in [0, 1]; NaN without pixels."""
    return _ratio(_sums(matrix)[0].sum(axis=-1), matrix.sum(axis=(-2, -1)))


def frequency_weighted_iou(matrix: np.ndarray) -> np.ndarray:
    """The mean of the IoUs, each weighted by how many pixels its class has in the truth; NaN without pixels."""
    truth = _sums(matrix)[1]
    return _ratio(np.nansum(truth * np.nan_to_num(iou(matrix)), axis=-1), truth.sum(axis=-1))


def boundary_f1(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    tolerance: float = BOUNDARY_TOLERANCE,
    ignore_index: int = IGNORE_INDEX,
) -> np.ndarray:
    """How well the outlines of one image's classes agree, float64 ``(C,)`` in [0, 1].

    Csurka et al. 2013, What is a good evaluation measure for semantic segmentation? (BMVC): precision is the share of
    predicted boundary pixels at most ``tolerance`` pixels (Euclidean) from a true one, recall the reverse. A boundary
    pixel of a class has one of its four neighbours in another class; the image's edge and ignored pixels make none.
    NaN for a class without boundary in both; 0 where only one has one.

    Args:
        truth, prediction: whole numbers (H, W), as for :func:`confusion_matrix`.
    """
    truth, prediction = _checked(truth, prediction)
    if truth.ndim != 2:
        raise DataError(f"The boundary F1 is of one image (H, W); the truth is {truth.shape}.")
    counts = truth != ignore_index
    scores = np.full(num_classes, np.nan)
    for index in range(num_classes):
        true, predicted = (_boundary(mask == index, counts) for mask in (truth, prediction))
        if true.any() and predicted.any():
            precision, recall = _near(predicted, true, tolerance), _near(true, predicted, tolerance)
            scores[index] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        elif true.any() or predicted.any():
            scores[index] = 0.0
    return scores


class SegmentationMetrics:
    """Adds up images and gives all metrics at the end. Needs the memory of one matrix and a few numbers per image.

    Args:
        classes: the ``C`` class names.
        ignore_index: truth of pixels that do not count.
        boundary_tolerance: pixels, at least 0; None leaves the boundary F1 out, which takes most of the time.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        ignore_index: int = IGNORE_INDEX,
        boundary_tolerance: float | None = BOUNDARY_TOLERANCE,
    ) -> None:
        if boundary_tolerance is not None and not boundary_tolerance >= 0:
            raise UsageError(f"boundary_tolerance is {boundary_tolerance!r}; expected pixels, at least 0.")
        self.classes = tuple(classes)
        self.ignore_index = ignore_index
        self.boundary_tolerance = boundary_tolerance
        self._matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self._per_image: list[list[float]] = []
        self._boundaries: list[np.ndarray] = []

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add one image.

        Args:
            truth: whole numbers (H, W), class indices or the ignore index.
            prediction: class indices (H, W); probabilities are to be reduced by ``argmax`` first.

        Raises:
            DataError: as :func:`confusion_matrix`.
        """
        matrix = confusion_matrix(truth, prediction, len(self.classes), self.ignore_index)
        self._matrix += matrix
        if not matrix.any():  # nothing counts: no evidence, so no image
            return
        image = (np.nanmean(iou(matrix)), np.nanmean(dice(matrix)), pixel_accuracy(matrix))
        self._per_image.append([float(value) for value in image])
        if self.boundary_tolerance is not None:
            scores = boundary_f1(
                truth, prediction, len(self.classes), self.boundary_tolerance, self.ignore_index
            )
            self._boundaries.append(scores)

    def result(self) -> dict[str, Any]:
        """All metrics of the images so far, JSON-able; shares in [0, 1].

        ``images`` (those with pixels that count), ``pixels``; over the data set ``mean_iou``, ``mean_dice``,
        ``pixel_accuracy``, ``frequency_weighted_iou``; ``per_image_mean_iou``, ``per_image_mean_dice``,
        ``per_image_pixel_accuracy``; ``boundary_f1`` (the mean over classes of their mean over the images where they
        have a boundary; None if nowhere) and ``boundary_tolerance``; ``per_class`` {name: iou, dice, boundary_f1,
        precision, recall, pixels in the truth, predicted_pixels; None where undefined}; ``confusion_matrix``
        (rows: truth, columns: prediction).

        Raises:
            DataError: no pixels were counted.
        """
        matrix = self._matrix
        if not matrix.any():
            raise DataError("There are no pixels to measure on: no images, or all of them ignored.")
        hits, truth, predicted = _sums(matrix)
        columns = {
            "iou": iou(matrix),
            "dice": dice(matrix),
            "precision": _ratio(hits, predicted),
            "recall": _ratio(hits, truth),
        }
        result: dict[str, Any] = {
            "images": len(self._per_image),
            "pixels": int(matrix.sum()),
            "mean_iou": float(np.nanmean(columns["iou"])),
            "mean_dice": float(np.nanmean(columns["dice"])),
            "pixel_accuracy": float(pixel_accuracy(matrix)),
            "frequency_weighted_iou": float(frequency_weighted_iou(matrix)),
        }
        names = ("per_image_mean_iou", "per_image_mean_dice", "per_image_pixel_accuracy")
        result.update(zip(names, np.mean(self._per_image, axis=0).tolist(), strict=True))
        if self.boundary_tolerance is not None:
            columns["boundary_f1"] = _mean_without_nan(np.array(self._boundaries))
            result["boundary_f1"] = _none_for_nan(_mean_without_nan(columns["boundary_f1"]))
            result["boundary_tolerance"] = float(self.boundary_tolerance)
        result["per_class"] = {
            name: {
                **{column: _none_for_nan(values[i]) for column, values in columns.items()},
                "pixels": int(truth[i]),
                "predicted_pixels": int(predicted[i]),
            }
            for i, name in enumerate(self.classes)
        }
        result["confusion_matrix"] = matrix.tolist()
        return result


def _checked(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    for what, values in (("truth", truth), ("prediction", prediction)):
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError(f"The {what} is {values.dtype}; expected whole numbers, class indices.")
    if truth.shape != prediction.shape:
        raise DataError(
            f"The truth is {truth.shape} and the prediction {prediction.shape}; expected the same shape."
        )
    return truth, prediction


def _sums(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: pixels that are right, pixels in the truth, pixels predicted."""
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) > 0)


def _mean_without_nan(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis; NaN where there is nothing, without NumPy's warning."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _none_for_nan(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _boundary(inside: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pixels inside that have a neighbour (of four) outside; neither of the two is ignored."""
    return inside & counts & ndimage.binary_dilation(~inside & counts)


def _near(pixels: np.ndarray, others: np.ndarray, tolerance: float) -> float:
    """Share of ``pixels`` at most ``tolerance`` from the nearest of ``others``."""
    distance = ndimage.distance_transform_edt(~others)
    return float((distance[pixels] <= tolerance).mean())
