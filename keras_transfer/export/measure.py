"""Asking the Keras model and every artefact the same questions, and timing them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from keras_transfer import progress
from keras_transfer.data.pipeline import input_batches
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import DataError, ExportError
from keras_transfer.export.runtimes import Runtime
from keras_transfer.preprocessing import Preprocessing

BATCH = 32
WARM_UP, MOST_RUNS, LEAST_RUNS, SECONDS = 3, 30, 5, 2.0
"""Latency: the median of at most 30 runs, fewer for a slow model (2 seconds, at least 5), after 3 unmeasured ones."""


def collect_answers(
    runtimes: Sequence[Runtime],
    table: ImageTable,
    preprocessing: Preprocessing,
    split: str,
    shape: tuple[int, ...],
    draw: Callable[[ImageTable], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """What every runtime answers to the images of a split, in one pass: an image is decoded once for all.

    Args:
        runtimes: the Keras model's first, then those of the artefacts.
        shape: of one image's output, ``(C,)`` for a classifier.
        draw: of models that generate: see :func:`keras_transfer.data.pipeline.input_batches`.

    Returns:
        Outputs float32 ``(N, *shape)``, one array a runtime.

    Raises:
        DataError: the Keras model gives numbers that are not finite, or an image cannot be read any more.
        ExportError: an artefact's output has another shape.
    """
    indices = table.indices(split)
    answers = [np.empty((len(indices), *shape), np.float32) for _ in runtimes]
    start = 0
    source = input_batches(table, preprocessing, BATCH, draw=draw, indices=indices)
    for batch in progress.track(source, f"Comparing on {split}", total=-(-len(indices) // BATCH)):
        for runtime, store in zip(runtimes, answers, strict=True):
            given = runtime.predict(batch)
            if given.shape != (len(batch), *shape):
                raise ExportError(
                    f"An artefact gives {given.shape} for {len(batch)} images; {(len(batch), *shape)} is expected."
                )
            store[start : start + len(batch)] = given
        start += len(batch)
    if not np.isfinite(answers[0]).all():
        raise DataError(
            "The Keras model gives numbers that are not finite (broken weights?). Train it again."
        )
    return answers


def latency(runtime: Runtime, preprocessing: Preprocessing, generates: bool = False) -> float:
    """Median milliseconds of a batch of one (a mid-grey image, or zeros: the time does not depend on the numbers)."""
    image = np.full((1, *preprocessing.size, 3), 127, np.uint8)
    if generates:
        image = np.zeros((1, *runtime.inputs[0].shape[1:]), np.float32)
    for _ in range(WARM_UP):
        runtime.predict(image)
    times: list[float] = []
    while len(times) < LEAST_RUNS or (len(times) < MOST_RUNS and sum(times) < SECONDS):
        start = time.perf_counter()
        runtime.predict(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
