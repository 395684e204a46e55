"""Pixels when they are needed: a thread pool ahead of NumPy consumers, and a ``tf.data`` pipeline.

Both go through the same :func:`keras_transfer.preprocessing.decode` and ``Preprocessing.apply``; neither
holds more than a few batches, however many images there are.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_transfer.data.order import Sampling, epoch_rows, row_numbers
from keras_transfer.data.table import ImageTable
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_transfer.data.augmentation import Augmenter


def load_image(table: ImageTable, i: int, preprocessing: Preprocessing) -> np.ndarray:
    """Image ``i`` at the model's input size: uint8 (H, W, 3). ``DataError`` when it is gone or changed."""
    return table.images.load(i, preprocessing)


def batches(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int = 32,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    threads: int | None = None,
    ahead: int = 4,
) -> Generator[np.ndarray, None, None]:
    """Batches in order, decoded by threads while the consumer computes.

    Args:
        table: the images.
        preprocessing: gives the size.
        batch_size: images per batch; the last one may be smaller.
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
    rows = row_numbers(indices, len(table))
    _require_positive(batch_size=batch_size, ahead=ahead, **({} if threads is None else {"threads": threads}))
    return _batches(table, preprocessing, _batches_of_rows(rows, batch_size), threads, ahead * batch_size)


def input_batches(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int = 32,
    *,
    draw: Callable[[ImageTable], np.ndarray] | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Batches of what a model is given for the images of a table: their pixels, see :func:`batches`, or inputs drawn.

    Args:
        draw: of a model that generates: a table of N images to inputs float32 ``(N, ...)``
            (:meth:`keras_transfer.tasks.base.Task.draw_inputs`). None: the model looks at the images.
    """
    if draw is None:
        yield from batches(table, preprocessing, batch_size, indices=indices)
        return
    drawn = draw(table.take(row_numbers(indices, len(table))))
    for start in range(0, len(drawn), batch_size):
        yield drawn[start : start + batch_size]


def _batches_of_rows(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def _batches(
    table: ImageTable,
    preprocessing: Preprocessing,
    batches_of_rows: Iterable[np.ndarray],
    threads: int | None,
    ahead: int,
) -> Generator[np.ndarray, None, None]:
    """uint8 (B, H, W, 3) for every array of rows (which may never end), ``ahead`` images in advance."""
    for_rows, for_batches = itertools.tee(batches_of_rows)

    def one(i: int) -> np.ndarray:
        return load_image(table, i, preprocessing)

    rows = (i for batch in for_rows for i in batch.tolist())
    images = ordered_map(one, rows, threads=threads, ahead=ahead)
    try:
        for batch_of_rows in for_batches:
            batch = np.empty((len(batch_of_rows), *preprocessing.size, 3), np.uint8)
            for place in range(len(batch)):
                batch[place] = next(images)
            yield batch
    finally:
        images.close()


def tf_dataset(
    table: ImageTable,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    shuffle: bool = False,
    seed: int = 0,
    first_epoch: int = 0,
    repeat: bool = False,
    one_hot: bool = False,
    weights: bool | np.ndarray | None = False,
    labels: Any = None,
    augment: Any = None,
    sampling: Sampling = None,
) -> tf.data.Dataset:
    """Batches for ``keras.Model.fit``, decoded in parallel, in an order that the seed alone decides.

    The threads are :func:`batches`' own, not those of a ``map``: tf.data runs Python functions one after
    the other under ``tf.config.experimental.enable_op_determinism``.

    Args:
        indices: which rows; all by default.
        shuffle: epoch ``e`` has the rows in the permutation of (seed, e), whatever came before.
        first_epoch: the number of the first epoch, to take up a training.
        repeat: one iterator goes on from epoch to epoch without end, and every iterator starts with
            ``first_epoch``; otherwise an iterator is one epoch, and each new one the next. The last batch
            of an epoch may be smaller; no batch spans two.
        one_hot: classes as float32 (B, C) instead of int32 (B,).
        weights: yield the sample weights too: the table's (True), or these, float (N,) for the table's N rows.
        labels: yield these instead of the table's: an array of N rows, such as a teacher's probabilities; or
            targets that are loaded with each image (int32), which ``augment`` then varies together with it
            (:mod:`keras_transfer.data.targets`).
        augment: varies the images of step ``s`` of epoch ``e`` with the key (e, s), so that a training taken
            up at ``first_epoch`` sees what it would have seen. When it mixes images, float labels of
            classes are mixed with them (class indices and regression's values cannot be: those images are
            varied and not mixed), and so are the weights, such that a mixture's loss is the mixture of the
            weighted losses.
        sampling: float (len(indices),), at least 0, in proportion to how often each row is to be drawn: an
            epoch is as many rows as before, drawn with replacement from (seed, e). ``shuffle`` is implied. Or a
            function that gives an epoch's rows (:data:`keras_transfer.data.order.Order`).

    Yields:
        (images, labels) or (images, labels, weights): float32 (B, H, W, 3), RGB in [0, 255]; int32 (B,)
        for classes, float32 (B, C) of 0/1 for multilabel or ``one_hot``, float32 (B, T) for regression;
        float32 (B,).

    Raises:
        UsageError: an impossible size, index or sampling. While iterating, a file that is gone or has changed is a
            ``tf.errors.OpError`` that quotes the DataError.
    """
    import tensorflow as tf

    rows = row_numbers(indices, len(table))
    _require_positive(batch_size=batch_size)
    loaded = hasattr(labels, "load")
    if labels is None:
        targets: Any = label_array(table, one_hot)
    else:
        targets = labels if loaded else np.asarray(labels)
    if not loaded and np.issubdtype(targets.dtype, np.floating):
        targets = targets.astype(np.float32, copy=False)
    columns = [targets]
    if weights is not None and weights is not False:
        columns.append(np.asarray(table.weights if weights is True else weights, np.float32))
    for name, column in zip(("labels", "weights"), columns, strict=False):
        if len(column) != len(table):
            raise UsageError(f"{name} has {len(column)} rows; the table has {len(table)}. Give one for each.")
    epoch_rows(
        rows, seed, first_epoch, shuffle, sampling
    )  # an impossible sampling is refused now, not in a thread
    mixed = (
        not loaded and table.label_mode != "regression" and targets.ndim == 2 and targets.dtype == np.float32
    )
    iterators = itertools.count(first_epoch)

    def epoch(number: int) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        order = epoch_rows(rows, seed, number, shuffle, sampling)
        for step, chosen in enumerate(_batches_of_rows(order, batch_size)):
            yield (number, step), chosen

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        endless = repeat and len(rows) > 0
        numbers = itertools.count(first_epoch) if endless else [next(iterators)]
        plan, for_images = itertools.tee(itertools.chain.from_iterable(map(epoch, numbers)))
        chosen_rows = (chosen for _, chosen in for_images)
        with contextlib.closing(_batches(table, preprocessing, chosen_rows, None, 2 * batch_size)) as images:
            for pixels, (key, chosen) in zip(images, plan, strict=False):
                batch = (pixels, *(_values(column, chosen, preprocessing) for column in columns))
                if augment is None:
                    yield batch
                elif loaded:
                    yield (*augment(*batch[:2], key), *batch[2:])
                else:
                    yield _augmented(augment, key, mixed, *batch)

    shapes = [_values(column, rows[:1], preprocessing) for column in columns]
    signature = [
        tf.TensorSpec((None, *preprocessing.size, 3), tf.uint8 if augment is None else tf.float32),
        *(tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in shapes),
    ]
    return dataset_of_batches(
        generate, signature, None if repeat and len(rows) else -(-len(rows) // batch_size)
    )


def _values(column: Any, rows: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Some rows of a column: of an array, or of targets that are loaded."""
    if not hasattr(column, "load"):
        return column[rows]
    return np.stack([column.load(int(i), preprocessing) for i in rows]).astype(np.int32)


def dataset_of_batches(
    generate: Callable[[], Iterator[tuple[np.ndarray, ...]]],
    signature: Sequence[tf.TensorSpec],
    count: int | None,
) -> tf.data.Dataset:
    """What a generator yields, the first of each tuple as float32, prepared two batches ahead.

    Args:
        generate: called for every iterator.
        signature: of one of its tuples.
        count: tuples of an iterator; None: it never ends.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_generator(generate, output_signature=tuple(signature))
    cardinality = tf.data.INFINITE_CARDINALITY if count is None else count
    data = data.apply(tf.data.experimental.assert_cardinality(cardinality))
    data = data.map(lambda first, *rest: (tf.cast(first, tf.float32), *rest)).prefetch(2)
    # Nothing here is for tf.data to tune, and its tuning thread makes every iterator's end wait up to a second.
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _augmented(
    augment: Augmenter,
    key: tuple[int, int],
    mixed: bool,
    pixels: np.ndarray,
    labels: np.ndarray,
    *weights: np.ndarray,
) -> tuple[np.ndarray, ...]:
    pixels = augment.images(pixels, key)
    if not (mixed and augment.mixes):
        return (pixels, labels, *weights)
    if not weights:
        return augment.mix(pixels, labels, key)
    # The loss of a mixture is to be a·w₁·loss(y₁) + (1 - a)·w₂·loss(y₂). Cross-entropy is linear in the label,
    # so that is w·loss(y) with w = a·w₁ + (1 - a)·w₂ and y = (a·w₁·y₁ + (1 - a)·w₂·y₂) / w.
    weight = weights[0][:, np.newaxis]
    pixels, both = augment.mix(pixels, np.concatenate([labels * weight, weight], axis=1), key)
    summed, weight = both[:, :-1], both[:, -1:]
    return pixels, np.where(weight > 0, summed / np.where(weight > 0, weight, 1), labels), weight[:, 0]


def label_array(table: ImageTable, one_hot: bool) -> np.ndarray:
    """The labels as training takes them, see :func:`batches`: int32 (N,), or float32 (N, C) or (N, T)."""
    if table.label_mode == "classes" and not one_hot:
        return table.labels.astype(np.int32)
    if table.label_mode == "classes":
        return (table.labels[:, np.newaxis] == np.arange(len(table.classes))).astype(np.float32)
    return table.labels.astype(np.float32)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least 1.")
