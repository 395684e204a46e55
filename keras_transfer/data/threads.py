"""A thread pool that runs a bounded distance ahead of whoever consumes its results."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def default_threads() -> int:
    """One thread a usable core, at most 16: Pillow and hashlib release the interpreter's lock."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(16, usable))


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], *, threads: int | None = None, ahead: int = 64
) -> Generator[R, None, None]:
    """``map`` over threads, in order, with at most ``ahead`` items started and not yet consumed.

    An exception of ``function`` is raised at its item's place. Closing the generator (or letting it go)
    cancels what has not started and waits for the rest, so no thread outlives it.
    """
    pool = ThreadPoolExecutor(threads or default_threads(), thread_name_prefix="keras_transfer")
    waiting: collections.deque[Future[R]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= max(1, ahead):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
