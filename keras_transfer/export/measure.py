"""Asking the Keras model and every artefact the same questions, and timing them."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_transfer import progress
from keras_transfer.data.pipeline import input_batches
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import DataError, ExportError
from keras_transfer.inference import Runner
from keras_transfer.preprocessing import Preprocessing

BATCH = 32
WARM_UP, MOST_RUNS, LEAST_RUNS, SECONDS = 3, 30, 5, 2.0
"""Latency: the median of at most 30 runs, fewer for a slow model (2 seconds, at least 5), after 3 unmeasured ones."""


def collect_answers(
    runtimes: Sequence[Runner],
    table: ImageTable,
    preprocessing: Preprocessing,
    split: str,
    shape: tuple[int, ...],
    folder: Path,
    draw: Callable[[ImageTable], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """What every runtime answers to the images of a split, in one pass: an image is decoded once for all.

    Args:
        runtimes: the Keras model's first, then those of the artefacts.
        shape: of one image's output, ``(C,)`` for a classifier.
        folder: a temporary one. The outputs are kept there: where a pixel has one, all of them are larger than memory.
        draw: of models that generate: see :func:`keras_transfer.data.pipeline.input_batches`.

    Returns:
        Outputs float32 ``(N, *shape)``, one array a runtime: read-only views of files in ``folder``.

    Raises:
        DataError: the Keras model gives numbers that are not finite, or an image cannot be read any more.
        ExportError: an artefact's output has another shape.
        OSError: the outputs cannot be written.
    """
    indices = table.indices(split)
    paths = [folder / f"outputs_{place}.float32" for place in range(len(runtimes))]
    source = input_batches(table, preprocessing, BATCH, draw=draw, indices=indices)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for batch in progress.track(source, f"Comparing on {split}", total=-(-len(indices) // BATCH)):
            for place, (runtime, file) in enumerate(zip(runtimes, files, strict=True)):
                given = runtime.predict(batch)
                if given.shape != (len(batch), *shape):
                    raise ExportError(
                        f"An artefact gives {given.shape} for {len(batch)} images; {(len(batch), *shape)} is expected."
                    )
                if not place and not np.isfinite(given).all():
                    raise DataError(
                        "The Keras model gives numbers that are not finite (broken weights?). Train it again."
                    )
                file.write(np.ascontiguousarray(given, np.float32).data)
    return [np.asarray(np.memmap(path, np.float32, "r", shape=(len(indices), *shape))) for path in paths]


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """For :func:`collect_answers`; gone afterwards. ``parent``: None: where the system keeps such."""
    with tempfile.TemporaryDirectory(
        prefix=".keras-transfer.outputs-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def latency(runtime: Runner, preprocessing: Preprocessing, generates: bool = False) -> float:
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
