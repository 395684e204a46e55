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
DECODED = 64
"""Images decoded at once."""
SEARCHED = 2048
"""Training images that are searched at once."""


def spread(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` rows, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def pixels_of(
    table: ImageTable, preprocessing: Preprocessing, channels: int, into: np.ndarray | None = None
) -> np.ndarray:
    """Images of a table at the networks' size: uint8 ``(N, H, W, channels)``, written ``into`` where that is given."""
    if into is None:
        into = np.empty((len(table), *preprocessing.size, channels), np.uint8)
    start = 0
    for batch in batches(table, preprocessing, DECODED):
        into[start : start + len(batch)] = batch if channels == 3 else _luma(batch)
        start += len(batch)
    return into


def _luma(images: np.ndarray) -> np.ndarray:
    """Grey files have three equal channels; of colour files asked for in grey the luma is taken (ITU-R BT.601)."""
    luma = images @ np.array([0.299, 0.587, 0.114], np.float64)
    return np.rint(luma).clip(0, 255).astype(np.uint8)[..., np.newaxis]


def require_enough(table: ImageTable, while_training: bool) -> None:
    """Before a training: whether there are images to measure against, at its end and on the way.

    Raises:
        DataError: too few in the split that is measured.
    """
    counts = {split: len(table.indices(split)) for split in ("train", "val", "test")}
    val = "val" if counts["val"] else "train"
    measured = "test" if counts["test"] else val
    for split, needed, instead in (
        (measured, True, ""),
        (val, while_training, " --measure-every 0 measures only at the end."),
    ):
        if needed and counts[split] < LEAST:
            more = "" if split == "train" else f", or raise --{split}-fraction"
            raise DataError(
                f"The {split} split has {counts[split]} images, which are too few to compare generated ones with: at "
                f"least {LEAST} are needed. Give more images{more}.{instead}"
            )


def generative_metrics(
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
            f"{count} real images are too few to compare generated ones with; at least {LEAST} are needed. "
            "Give more, "
            "or raise --test-fraction."
        )
    real, made = real[:count], made[:count]
    seen, looked = features_of(real), features_of(made, keep=False)
    width = seen.shape[1]
    if warn and count <= width:
        _warn_of_few(count, width)
    precision, recall = precision_recall(seen, looked)
    more: dict[str, Any] = {}
    if also is not None:
        theirs, ours = features_of(real, also), features_of(made, also, keep=False)
        other = kid(theirs, ours)
        more = {
            f"kid_{also}": other.value,
            f"kid_{also}_error": other.error,
            f"fid_{also}": fid(theirs, ours),
        }
    return {
        **_kernel_distances(seen, looked),
        "fid_lite0": fid(seen, looked),
        "manifold_precision": precision,
        "manifold_recall": recall,
        "diversity": diversity(seen, looked),
        "compared": count,
        **more,
    }


def compare_kernels(real: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Of :func:`compare` the kernel distances alone, for at least 4 images of either kind, as many real as made."""
    return _kernel_distances(features_of(real), features_of(made, keep=False))


def _kernel_distances(seen: np.ndarray, looked: np.ndarray) -> dict[str, Any]:
    distance, floor = kid(seen, looked), kid(seen[::2], seen[1::2])
    return {
        "kid_lite0": distance.value,
        "kid_lite0_error": distance.error,
        "kid_lite0_floor": floor.value,
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
        made, learned, held_out: uint8 ``(N, H, W, C)``; ``learned`` is looked through a part at a time.

    Returns:
        Places in ``learned``, and the median distance of a made image to its nearest training image over that of a
        held-out real image to its own: far below 1, training images are copied. None without held-out images.
    """
    asked = features_of(made, keep=False)
    if len(held_out):
        asked = np.concatenate([asked, features_of(held_out)])
    places, distances = np.zeros(len(asked), np.int64), np.full(len(asked), np.inf)
    for start in range(0, len(learned), SEARCHED):
        there, far = nearest(asked, features_of(learned[start : start + SEARCHED]))
        nearer = far < distances
        places[nearer], distances[nearer] = start + there[nearer], far[nearer]
    count = len(made)
    usual = float(np.median(distances[count:])) if len(held_out) else 0.0
    return places[:count], float(np.median(distances[:count])) / usual if usual else None
