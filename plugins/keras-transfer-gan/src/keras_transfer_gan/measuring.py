"""From images to a run's metrics: made ones against real ones, through the features of one network."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.pipeline import batches
from keras_transfer.errors import DataError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer_gan.features import features_of
from keras_transfer_gan.metrics import diversity, fid, kid, nearest, precision_recall

log = logging.getLogger("keras_transfer")
LEAST = 4
"""Images of either kind below which nothing is measured."""


def spread(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` rows, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def pixels_of(table: ImageTable, size: tuple[int, int], channels: int, most: int | None = None) -> np.ndarray:
    """Images of a table at the networks' size: uint8 ``(N, H, W, channels)``, at most ``most`` of them."""
    rows = spread(len(table), most or len(table))
    found = list(batches(table, Preprocessing(size=size), 256, indices=rows))
    images = np.concatenate(found) if found else np.zeros((0, *size, 3), np.uint8)
    # Grey files have three equal channels; of colour files asked for in grey the luma is taken (ITU-R BT.601).
    if channels == 3:
        return images
    luma = images @ np.array([0.299, 0.587, 0.114], np.float64)
    return np.rint(luma).clip(0, 255).astype(np.uint8)[..., np.newaxis]


def compare(
    real: np.ndarray, made: np.ndarray, *, warn: bool = True, also: str | None = None
) -> dict[str, Any]:
    """Metrics of made images against real ones, both uint8 ``(N, H, W, C)``.

    Returns:
        ``kid_lite0`` with ``kid_lite0_error`` (its standard error) and ``kid_lite0_floor`` (that of two halves of the
        real images), ``fid_lite0`` (None with no more images than features), ``manifold_precision`` and
        ``manifold_recall``, ``diversity``,
        ``compared``: how many of either kind. With
        ``also``, the name of a backbone, ``kid_NAME``, ``kid_NAME_error`` and ``fid_NAME`` through that one, too.

    Raises:
        DataError: fewer than 4 of either kind.
    """
    count = min(len(real), len(made))
    if count < LEAST:
        raise DataError(
            f"{count} real images are too few to measure what was made against; at least {LEAST} are needed. "
            "Give more, "
            "or raise --test-fraction."
        )
    real, made = real[:count], made[:count]
    seen, looked = features_of(real), features_of(made)
    distance = kid(seen, looked)
    floor = kid(seen[::2], seen[1::2])
    width = seen.shape[1]
    if warn and count <= width:
        _warn_of_few(count, width)
    precision, recall = precision_recall(seen, looked)
    more: dict[str, Any] = {}
    if also is not None:
        theirs, ours = features_of(real, also), features_of(made, also)
        other = kid(theirs, ours)
        more = {
            f"kid_{also}": other.value,
            f"kid_{also}_error": other.error,
            f"fid_{also}": fid(theirs, ours),
        }
    return {
        "kid_lite0": distance.value,
        "kid_lite0_error": distance.error,
        "kid_lite0_floor": floor.value,
        "fid_lite0": fid(seen, looked),
        "manifold_precision": precision,
        "manifold_recall": recall,
        "diversity": diversity(seen, looked),
        "compared": count,
        **more,
    }


@lru_cache
def _warn_of_few(count: int, width: int) -> None:
    """Once for a number of images: an export measures every file."""
    log.warning(
        "%d images of either kind are compared on %s features. KID is an unbiased estimate for any number of "
        "images, but "
        "its standard error (kid_lite0_error) grows as they get fewer; FID needs more images than features, and "
        "is left "
        "out.",
        count,
        f"{width:,}",
    )


def memorised(made: np.ndarray, learned: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, float | None]:
    """For each made image the nearest training image, and how near they are on the whole.

    Args:
        made, learned, held_out: uint8 ``(N, H, W, C)``.

    Returns:
        Places in ``learned``, and the median distance of a made image to its nearest training image over that of a
        held-out real image to its own: far below 1, training images are copied. None without held-out images.
    """
    known = features_of(learned)
    places, distances = nearest(features_of(made), known)
    if not len(held_out):
        return places, None
    usual = float(np.median(nearest(features_of(held_out), known)[1]))
    return places, float(np.median(distances)) / usual if usual else None
