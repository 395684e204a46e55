"""How fast a bundle's artefacts are on this machine, each in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export import standalone
from keras_transfer.export.bundle import Bundle

PERCENTILES = (50, 90, 99)
TIMEOUT = 600
MADE = (".onnx", ".xml")
"""What is timed of what was made for other runtimes; a file of a fixed batch is not."""


@dataclass(frozen=True)
class Timing:
    """One artefact with one number of threads.

    Attributes:
        file: name in the bundle.
        precision: as exported.
        threads: cores it might use.
        bytes: size on disk.
        load: milliseconds from the file to a model that can be asked.
        first: milliseconds of the first answer, which prepares the others.
        p50: milliseconds an image in batches of one: the median; ``p90`` and ``p99`` the slower ones.
        p90: see ``p50``.
        p99: see ``p50``.
        throughput: images/s in batches of 8.
        memory: MB, the largest resident size of the process while it answered one image at a time.
        memory_added: MB of that which came after importing the runtime.
        ratio: how many times as fast as ``keras.Model.predict`` with as many threads (medians); None where the bundle
            has no ``model.keras``.
        runs: how many answers the percentiles are of.
    """

    file: str
    precision: str
    threads: int
    bytes: int
    load: float
    first: float
    p50: float
    p90: float
    p99: float
    throughput: float
    memory: float
    memory_added: float
    ratio: float | None
    runs: int


def benchmark(
    bundle: Bundle, *, threads: Sequence[int] = (), seconds: float = 2.0, rounds: int = 1
) -> dict[str, Any]:
    """Time every artefact, and every model for ONNX Runtime and OpenVINO, one after the other, ``rounds`` times.

    Args:
        bundle: an opened bundle.
        threads: numbers of threads; by default 1 and all cores.
        seconds: how long each is asked for single images, and again for batches.
        rounds: more rounds even out what else the machine does.

    Returns:
        JSON-able: ``machine`` and ``timings``, one row an artefact and number of threads (:class:`Timing`).

    Raises:
        UsageError: an impossible number.
        ExportError: an artefact could not be run.
    """
    counts = tuple(dict.fromkeys(threads)) or tuple(dict.fromkeys((1, os.cpu_count() or 1)))
    if min(counts) < 1 or rounds < 1 or not seconds > 0:
        raise UsageError(
            f"threads {list(counts)}, rounds {rounds} and seconds {seconds} were given; positive numbers are expected."
        )
    models = [*bundle.artefacts, *(one for one in bundle.made if one.file.endswith(MADE))]
    plan = [(one, count) for _ in range(rounds) for count in counts for one in models]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one, count in progress.track(plan, "Timing", total=len(plan)):
        found.setdefault((one.file, count), []).append(
            _measure(bundle.path / one.file, count, seconds, one.input_range)
        )
    medians = {key: float(np.median(_times(parts))) for key, parts in found.items()}
    timings = []
    for one in models:
        for count in counts:
            keras = medians.get(("model.keras", count))
            ratio = None if keras is None else keras / medians[one.file, count]
            timings.append(_timing(one, count, found[one.file, count], ratio))
    return {"bundle": str(bundle.path), "machine": _machine(), "timings": [vars(row) for row in timings]}


def _timing(artefact: Any, threads: int, parts: list[dict[str, Any]], ratio: float | None) -> Timing:
    times = _times(parts)
    p50, p90, p99 = (float(value) for value in np.percentile(times, PERCENTILES))
    memory = max(part["peak_megabytes"] for part in parts)
    return Timing(
        file=artefact.file,
        precision=artefact.precision,
        threads=threads,
        bytes=artefact.bytes,
        load=float(np.median([part["load_milliseconds"] for part in parts])),
        first=float(np.median([part["first_milliseconds"] for part in parts])),
        p50=p50,
        p90=p90,
        p99=p99,
        throughput=float(np.median([part["images_per_second"] for part in parts])),
        memory=memory,
        memory_added=memory - min(part["runtime_megabytes"] for part in parts),
        ratio=ratio,
        runs=len(times),
    )


def _times(parts: list[dict[str, Any]]) -> list[float]:
    return [value for part in parts for value in part["milliseconds"]]


def _measure(path: Path, threads: int, seconds: float, reach: tuple[float, float]) -> dict[str, Any]:
    script = Path(standalone.__file__).with_name("measure.py")
    command = [sys.executable, str(script), str(path), "--threads", str(threads), "--seconds", str(seconds)]
    command += [f"--black={reach[0]}", f"--white={reach[1]}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT + 3 * seconds)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{path} did not answer within {TIMEOUT + 3 * seconds:.0f} s.") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"{path} cannot be timed: {words}")
    return json.loads(lines[-1])


def _machine() -> str:
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
