"""Asking the Keras model and every artefact the same questions, and timing them."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.errors import DataError, ExportError
from keras_transfer.export.questions import Questions, blank
from keras_transfer.inference import Runner
from keras_transfer.preprocessing import Preprocessing

WARM_UP, MOST_RUNS, LEAST_RUNS, SECONDS = 3, 30, 5, 2.0
"""Latency: the median of at most 30 runs, fewer for a slow model (2 seconds, at least 5), after 3 unmeasured ones."""


def collect_answers(
    runtimes: Sequence[Runner], questions: Questions, shape: tuple[int, ...], folder: Path, label: str
) -> list[np.ndarray]:
    """What every runtime answers to the same questions, in one pass: an image is decoded once for all.

    Args:
        runtimes: the Keras model's first, then those of the artefacts.
        questions: the images.
        shape: of one image's output, ``(C,)`` for a classifier.
        folder: a temporary one. The outputs are kept there: where a pixel has one, all of them are larger than memory.
        label: of the progress that is shown.

    Returns:
        Outputs float32 ``(N, *shape)``, one array a runtime: read-only views of files in ``folder``.

    Raises:
        DataError: the Keras model gives numbers that are not finite, or an image cannot be read any more.
        ExportError: an artefact's output has another shape.
        OSError: the outputs cannot be written.
    """
    batches = progress.track(questions, label, total=questions.batches)
    return _answers(dict(enumerate(runtimes)), batches, shape, folder)


def answers_of(runtime: Runner, questions: Questions, shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """What one artefact answers, as :func:`collect_answers`; ``folder``: an empty one."""
    return _answers({1: runtime}, questions, shape, folder)[0]


def _answers(
    runtimes: dict[int, Runner], batches: Iterable[np.ndarray], shape: tuple[int, ...], folder: Path
) -> list[np.ndarray]:
    """One pass. ``runtimes`` by their places: the Keras model's is 0."""
    count = 0
    paths = {place: folder / f"outputs_{place}.float32" for place in runtimes}
    with contextlib.ExitStack() as stack:
        files = {place: stack.enter_context(path.open("wb")) for place, path in paths.items()}
        for batch in batches:
            count += len(batch)
            for place, runtime in runtimes.items():
                given = runtime.predict(batch)
                if given.shape != (len(batch), *shape):
                    raise ExportError(
                        f"An artefact gives {given.shape} for {len(batch)} images; {(len(batch), *shape)} is expected."
                    )
                if not place and not np.isfinite(given).all():
                    raise DataError(
                        "The Keras model gives numbers that are not finite (broken weights?). Train it again."
                    )
                files[place].write(np.ascontiguousarray(given, np.float32).data)
    return [np.asarray(np.memmap(path, np.float32, "r", shape=(count, *shape))) for path in paths.values()]


class Answers:
    """Asks models that are made one after the other, in a thread of its own, while the next is made.

    Converting and tracing keep one core busy, a model that answers all of them: together they leave none idle. The
    answers do not depend on it. Models are asked one at a time, in the order of :meth:`ask`. Where the pixels are too
    many to be kept, all models are asked at the end, in one pass: an image is decoded once either way.

    Leaving the context stops the thread after the batch it is at.

    Args:
        questions: what every model is asked.
        shape: of one image's output, ``(C,)`` for a classifier.
        folder: see :func:`collect_answers`.
    """

    def __init__(self, questions: Questions, shape: tuple[int, ...], folder: Path) -> None:
        self._questions, self._shape, self._folder = questions, shape, folder
        self._waiting: list[Runner] = []
        self._asked: list[Future[list[np.ndarray]]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keras_transfer")
        self._left = threading.Event()

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: Any) -> None:
        self._left.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, runtime: Runner) -> Runner:
        """Ask a model, and give it back: the Keras model first, then the artefacts.

        Raises what the answers of an earlier one ended with, see :func:`collect_answers`.
        """
        if not self._questions.kept:
            self._waiting.append(runtime)
            return runtime
        for earlier in self._asked:
            if earlier.done():
                earlier.result()
        runtime.predict(self._questions.blank(runtime))  # traced here: Keras builds one graph at a time
        self._asked.append(self._pool.submit(self._answers_of, runtime, len(self._asked)))
        return runtime

    def collect(self, label: str) -> list[np.ndarray]:
        """The answers of all, in the order asked; errors and ``label``: see :func:`collect_answers`."""
        if self._waiting:
            return collect_answers(self._waiting, self._questions, self._shape, self._folder, label)
        asked = progress.track(self._asked, label, total=len(self._asked))
        return [answers for one in asked for answers in one.result()]

    def _answers_of(self, runtime: Runner, place: int) -> list[np.ndarray]:
        return _answers({place: runtime}, self._until_left(), self._shape, self._folder)

    def _until_left(self) -> Iterator[np.ndarray]:
        for batch in self._questions:
            if self._left.is_set():
                raise ExportError("The export ended before all answers were there.")  # nobody hears it
            yield batch


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """For :func:`collect_answers`; gone afterwards. ``parent``: None: where the system keeps such."""
    with tempfile.TemporaryDirectory(
        prefix=".keras-transfer.outputs-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def latency(runtime: Runner, preprocessing: Preprocessing, generates: bool = False) -> float:
    """Median milliseconds of a batch of one (a mid-grey image, or zeros: the time does not depend on the numbers)."""
    image = blank(runtime, preprocessing, generates)
    for _ in range(WARM_UP):
        runtime.predict(image)
    times: list[float] = []
    while len(times) < LEAST_RUNS or (len(times) < MOST_RUNS and sum(times) < SECONDS):
        start = time.perf_counter()
        runtime.predict(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
