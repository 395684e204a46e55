"""Training batches from cached activations: the layers above a boundary learn without running those below it.

::

    with frozen_dropout_off(model):
        boundary = find_boundary(model)
        lower, upper = cut_at(model, boundary)      # they share the model's layers: training upper trains model
        kept = activations(table, lower, preprocessing=preprocessing, indices=train)
        upper.fit(SplitFeed(kept).dataset(labels, rows=train, batch_size=32, shuffle=True))

Epochs, order and batches are those of ``data.pipeline.tf_dataset``, so without augmentation the weights become those
of a training through the whole frozen network, but for the rounding to float16.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.backbones.cost import macs
from keras_transfer.data.order import Sampling, epoch_rows, row_numbers
from keras_transfer.data.pipeline import dataset_of_batches
from keras_transfer.errors import UsageError
from keras_transfer.features.activations import Activations
from keras_transfer.features.boundary import cut_at
from keras_transfer.inference.engines import CONVERSION_SECONDS, COSTS

WORTHWHILE = 1.25
"""How many times faster a training must be estimated to be before activations are cached unasked."""


@dataclass(frozen=True)
class SplitFeed:
    """Batches of activations. ``activations``: from ``features.activations.activations``."""

    activations: Activations

    def dataset(
        self,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        *,
        rows: Sequence[int] | np.ndarray | None = None,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        first_epoch: int = 0,
        repeat: bool = False,
        sampling: Sampling = None,
    ) -> tf.data.Dataset:
        """Batches for ``fit`` on the upper part of a model. Epoch ``e`` sees view ``e % V`` of every image.

        Args:
            labels: ``(N, ...)``, one for every row of the table, in the form the loss asks for: float32 (N, C) of
                0/1, float32 (N, T), or int32 (N,).
            weights: float32 (N,), sample weights; None: none are given.
            rows: rows of the table, in order; all by default.
            batch_size: images per batch; the last one of an epoch may be smaller.
            shuffle: epoch ``e`` has the rows in the permutation of (seed, e).
            seed: of the order.
            first_epoch: the number of the first epoch, to take up a training.
            repeat: one iterator goes on from epoch to epoch without end, and every iterator starts with
                ``first_epoch``; otherwise an iterator is one epoch, and each new one the next.
            sampling: float (n,), at least 0, in proportion to how often each row is to be drawn, with replacement; or
                a function that gives an epoch's rows (:data:`keras_transfer.data.order.Order`).

        Yields:
            (activations, labels) or (activations, labels, weights): float32 ``(B, ...)``, labels as given,
            float32 (B,).

        Raises:
            UsageError: rows without activations, an impossible batch size, or labels, weights or a sampling of another
                length.
        """
        kept = self.activations
        numbers = row_numbers(rows, len(kept.places))
        kept.take(
            numbers[kept.places[numbers] < 0]
        )  # a row without activations is refused now, not in epoch 3
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise UsageError(f"batch_size is {batch_size!r}; a whole number of at least 1 is expected.")
        columns = [np.asarray(labels), *([] if weights is None else [np.asarray(weights, np.float32)])]
        if any(len(column) != len(kept.places) for column in columns):
            raise UsageError(
                f"Labels and weights have the lengths {[len(column) for column in columns]}; the table's "
                f"{len(kept.places)} rows are expected."
            )
        epoch_rows(numbers, seed, first_epoch, shuffle, sampling)  # an impossible sampling is refused now
        iterators = itertools.count(first_epoch)

        def generate() -> Iterator[tuple[np.ndarray, ...]]:
            endless = repeat and len(numbers) > 0
            for epoch in itertools.count(first_epoch) if endless else [next(iterators)]:
                order = epoch_rows(numbers, seed, epoch, shuffle, sampling)
                for start in range(0, len(order), batch_size):
                    batch = order[start : start + batch_size]
                    yield (kept.take(batch, epoch % kept.views), *(column[batch] for column in columns))

        signature = [
            tf.TensorSpec((None, *kept.shape), kept.values.dtype),
            *(tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in columns),
        ]
        count = None if repeat and len(numbers) else -(-len(numbers) // batch_size)
        return dataset_of_batches(generate, signature, count)


def worthwhile(
    model: keras.Model, boundary: str | None, images: int, views: int, epochs: int
) -> tuple[bool, str]:
    """Whether keeping the activations at a boundary is clearly faster than a training without.

    An image costs its forward multiply-adds in the frozen part and three times those in the part that trains
    (forward, and backward to weights and to inputs), in every epoch. With the cache the frozen part costs once for
    every view (at the fast engine's speed, see ``engines.COSTS``), and a conversion. With
    EfficientNet-Lite0 on two cores it says 1.2, 1.6 and 3.2 times faster an epoch where 1.1, 2.1 to 2.9 and 6.7 were
    found (below block5a, block6a and block7a), before frozen
    normalization was folded, which makes the frozen part cheaper: then less is gained.

    Args:
        model: the classifier.
        boundary: from ``boundary.find_boundary``.
        images: in the training split.
        views: augmented views of each.
        epochs: passes over the images.

    Returns:
        The answer, and one sentence that says why.

    Raises:
        UsageError: no such layer, or one that cannot be cut at.
    """
    if boundary is None:
        return False, "Nothing below the layers that train stays the same, so there is nothing to cache."
    lower, upper = (macs(part) / 1e9 for part in cut_at(model, boundary))
    plain, fast = COSTS["keras"].per_gmac, COSTS["litert"]
    without = images * epochs * plain * (lower + 3 * upper)
    once = CONVERSION_SECONDS + fast.start + images * views * fast.per_gmac * lower
    cached = once + images * epochs * plain * 3 * upper
    gain = without / cached if cached else 1.0
    share = lower / (lower + upper) if lower + upper else 0.0
    facts = f"{share:.0%} of the network lies below {boundary}, and {epochs} epochs of {images} images"
    if gain >= WORTHWHILE:
        return True, f"{facts} are estimated {gain:.1f} times faster with its activations cached."
    return False, f"{facts} gain too little from cached activations (estimated {gain:.1f} times as fast)."
