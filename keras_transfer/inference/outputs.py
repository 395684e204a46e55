"""A model over a table of images: one function for whoever asks, and one for the fast runners of frozen features."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np

from keras_transfer import progress
from keras_transfer.data.pipeline import batches, input_batches, load_image
from keras_transfer.data.table import ImageTable
from keras_transfer.data.threads import ordered_map
from keras_transfer.inference.litert_runner import ParallelLiteRTRunner, chunks
from keras_transfer.inference.openvino_runner import OpenVINORunner
from keras_transfer.inference.runner import Runner
from keras_transfer.inference.tta import tta_predict
from keras_transfer.preprocessing import Preprocessing

BATCH = 32
_PARALLEL = (ParallelLiteRTRunner, OpenVINORunner)


def outputs(
    predict: Callable[[np.ndarray], np.ndarray],
    table: ImageTable,
    preprocessing: Preprocessing,
    label: str,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    views: int = 1,
    draw: Callable[[ImageTable], np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """A model's outputs for the images of a table, in order, streamed: float32 ``(b, ...)``, 32 images at a time.

    Args:
        predict: pixels ``(B, H, W, 3)`` in [0, 255] to outputs ``(B, ...)``, see :meth:`Runner.predict`.
        table: the images.
        preprocessing: how they become pixels.
        label: of the progress that is shown.
        indices: rows of the table; all by default.
        views: test-time augmentation, see :func:`keras_transfer.inference.tta.tta_views`.
        draw: of a model that generates, see :func:`keras_transfer.data.pipeline.input_batches`; it has no views.

    Raises:
        DataError: an image is gone, damaged or changed since the table was made.
    """
    count = len(table) if indices is None else len(indices)
    feed = input_batches(table, preprocessing, BATCH, draw=draw, indices=indices)
    for batch in progress.track(feed, label, -(-count // BATCH)):
        yield predict(batch) if draw is not None else tta_predict(predict, batch, views)


def stream(
    runner: Runner, table: ImageTable, preprocessing: Preprocessing, rows: np.ndarray, batch_size: int = BATCH
) -> Generator[np.ndarray, None, None]:
    """What a runner gives for rows of a table, in order, float32 ``(b, ...)``, any number at a time.

    Where a runner works on several images side by side, they are decoded by the thread that asks for the answer, so no
    thread takes another's core. Otherwise they are decoded by other threads, and two batches are in flight: none waits
    while a batch is handed over.
    """
    if not isinstance(runner, _PARALLEL):
        return over(runner, batches(table, preprocessing, batch_size, indices=rows))

    def one(some: np.ndarray) -> np.ndarray:
        return runner.step_of(np.stack([load_image(table, i, preprocessing) for i in some.tolist()]))

    return ordered_map(
        one, chunks(rows, min(runner.step, batch_size)), threads=runner.copies, ahead=4 * runner.copies
    )


def over(runner: Runner, blocks: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
    """What a runner gives for blocks of pixels, in order, any number at a time. ``blocks`` is read by one thread."""
    if not isinstance(runner, _PARALLEL):
        return ordered_map(runner.predict, blocks, threads=2, ahead=2)
    pieces = (piece for block in blocks for piece in chunks(block, runner.step))
    return ordered_map(runner.step_of, pieces, threads=runner.copies, ahead=4 * runner.copies)
