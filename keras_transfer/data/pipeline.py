"""Pixels when they are needed: a thread pool ahead of NumPy consumers, and a ``tf.data`` pipeline.

Both go through the same :func:`keras_transfer.preprocessing.decode` and ``Preprocessing.apply``; neither
holds more than a few batches, however many images there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.data.threads import default_threads, ordered_map
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf


def load_image(table: ImageTable, i: int, preprocessing: Preprocessing) -> np.ndarray:
    """Image ``i`` at the model's input size: uint8 (H, W, 3). ``DataError`` when it is gone or has changed."""
    return preprocessing.apply(table.images.load(i))


def batches(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int = 32,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    threads: int | None = None,
    ahead: int = 4,
) -> Iterator[np.ndarray]:
    """Batches in order, decoded by threads while the consumer computes.

    Args:
        table: the images.
        preprocessing: gives the size.
        batch_size: images a batch; the last one may be smaller.
        indices: which rows, in which order; all by default.
        threads: decoding threads; one a core by default.
        ahead: how many batches may be decoded and not yet consumed. Memory is
            ``(ahead + 1) * batch_size`` images at the model's size, plus one decoded file a thread.

    Yields:
        uint8 (B, H, W, 3), RGB in [0, 255]; each a new array.

    Raises:
        DataError: a file is gone, damaged, or changed since the table was made.
        UsageError: an impossible size or index.
    """
    rows = _rows(table, indices)
    _require_positive(batch_size=batch_size, ahead=ahead, **({} if threads is None else {"threads": threads}))
    return _batches(table, preprocessing, batch_size, rows, threads, ahead)


def _batches(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int,
    rows: np.ndarray,
    threads: int | None,
    ahead: int,
) -> Iterator[np.ndarray]:
    def one(i: int) -> np.ndarray:
        return load_image(table, i, preprocessing)

    images = ordered_map(one, rows.tolist(), threads=threads, ahead=ahead * batch_size)
    try:
        for start in range(0, len(rows), batch_size):
            batch = np.empty((min(batch_size, len(rows) - start), *preprocessing.size, 3), np.uint8)
            for place in range(len(batch)):
                batch[place] = next(images)
            yield batch
    finally:
        images.close()  # type: ignore[attr-defined]


def tf_dataset(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    shuffle: bool = False,
    seed: int = 0,
    epochs_reshuffle: bool = True,
    one_hot: bool = False,
    weights: bool = False,
) -> tf.data.Dataset:
    """Batches for ``keras.Model.fit``, decoded in parallel, in an order that the seed alone decides.

    Args:
        indices: which rows; all by default.
        shuffle: a new permutation of the rows; ``epochs_reshuffle=False`` keeps the first for every epoch.
        seed: of the permutations. Each new iterator over the data set counts as an epoch.
        one_hot: classes as float32 (B, C) instead of int32 (B,).
        weights: yield the sample weights too.

    Yields:
        (images, labels) or (images, labels, weights): float32 (B, H, W, 3), RGB in [0, 255]; int32 (B,)
        for classes, float32 (B, C) of 0/1 for multilabel or ``one_hot``, float32 (B, T) for regression;
        float32 (B,).

    Raises:
        UsageError: an impossible size or index. While iterating, a file that is gone or has changed is a
        ``tf.errors.OpError`` that quotes the DataError.
    """
    from keras_transfer.quiet import quiet_tensorflow

    quiet_tensorflow()
    import tensorflow as tf

    rows = _rows(table, indices)
    _require_positive(batch_size=batch_size)
    labels = _label_array(table, one_hot)
    epoch = itertools.count()
    height, width = preprocessing.size

    def order() -> Iterator[np.int64]:
        number = next(epoch) if epochs_reshuffle else 0
        yield from np.random.default_rng((seed, number)).permutation(rows) if shuffle else rows

    def load(i: np.ndarray) -> np.ndarray:
        return load_image(table, int(i), preprocessing)

    def example(i: tf.Tensor) -> tuple[tf.Tensor, ...]:
        pixels = tf.numpy_function(load, [i], tf.uint8)
        pixels.set_shape((height, width, 3))
        label = tf.numpy_function(lambda i: labels[i], [i], labels.dtype)
        label.set_shape(labels.shape[1:])
        if not weights:
            return pixels, label
        weight = tf.numpy_function(lambda i: table.weights[i], [i], tf.float32)
        weight.set_shape(())
        return pixels, label, weight

    def as_float(pixels: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (tf.cast(pixels, tf.float32), *rest)

    index = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec((), tf.int64))
    data = index.apply(tf.data.experimental.assert_cardinality(len(rows)))
    data = data.map(example, num_parallel_calls=default_threads(), deterministic=True)
    return data.batch(batch_size).map(as_float).prefetch(2)


def _label_array(table: ImageTable, one_hot: bool) -> np.ndarray:
    if table.kind == "classes" and not one_hot:
        return table.labels.astype(np.int32)
    if table.kind == "classes":
        return (table.labels[:, np.newaxis] == np.arange(len(table.classes))).astype(np.float32)
    return table.labels.astype(np.float32)


def _rows(table: ImageTable, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
    if indices is None:
        return np.arange(len(table), dtype=np.int64)
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
        raise UsageError("indices must be a list of whole row numbers.")
    rows = rows.astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= len(table)):
        raise UsageError(
            f"indices go from {rows.min()} to {rows.max()}; the table has rows 0 to {len(table) - 1}."
        )
    return rows


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least 1.")
