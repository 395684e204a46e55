"""Which images int8 is calibrated on: a sample of the training split that looks like all of it."""

from __future__ import annotations

import logging

import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.records.export_options import ExportOptions, check_calibration_size

log = logging.getLogger("keras_transfer")

IMAGES, BATCH = ExportOptions.calibration_size, 8
"""How many images by default, and how many at a time."""


def calibration_rows(table: ImageTable, size: int = IMAGES, seed: int = 0) -> np.ndarray:
    """A stratified sample of the training images, the same for the same seed.

    Every class gets its share (largest remainder), and at least one image where ``size`` allows.

    Args:
        table: the images.
        size: how many; all training images when there are fewer.

    Returns:
        int64 row numbers of ``table``, sorted.

    Raises:
        UsageError: ``size`` below 1, or no training images.
    """
    check_calibration_size(size)
    rows = table.indices("train")
    if not len(rows):
        raise UsageError(
            "int8 is calibrated on training images, and the data have none in the split 'train'."
        )
    if len(rows) < size:
        log.warning("int8 is calibrated on all %d training images; %d were asked for.", len(rows), size)
    return np.sort(stratified(table, rows, size, seed))


def stratified(table: ImageTable, rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """``size`` of the rows, each class its share (largest remainder, at least one where ``size`` allows); any of them
    where an image has not one class.

    The same for the same seed; all of them where there are fewer. int64, by class.
    """
    if len(rows) <= size:
        return rows
    rng = np.random.default_rng(seed)
    if table.label_mode != "classes":
        return np.sort(rng.choice(rows, size, replace=False))
    labels = table.labels[rows]
    classes, counts = np.unique(labels, return_counts=True)
    chosen = [
        rng.choice(rows[labels == label], share, replace=False)
        for label, share in zip(classes, _shares(counts, size), strict=True)
    ]
    return np.concatenate(chosen)


def _shares(counts: np.ndarray, size: int) -> np.ndarray:
    """``size`` places dealt out in proportion to ``counts``, none above its count."""
    ideal = counts * size / counts.sum()
    shares = np.floor(ideal).astype(np.int64)
    if size >= len(counts):
        shares = np.maximum(shares, 1)
    while shares.sum() < size:
        shares[np.argmax(np.where(shares < counts, ideal - shares, -np.inf))] += 1
    while shares.sum() > size:
        shares[np.argmax(np.where(shares > 1, shares - ideal, -np.inf))] -= 1
    return shares
