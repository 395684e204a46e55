"""What the checks of every kind of plugin share: the broken promise, the locked network, the fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HEAVY = ("tensorflow", "keras", "numpy")


class Broken(AssertionError):
    """A promise that a plugin does not keep."""


def require(kept: Any, sentence: str) -> None:
    """Raise :class:`Broken` unless ``kept``."""
    if not kept:
        raise Broken(sentence)


def require_light(entry: str, instead: str) -> None:
    """Import ``package.module:NAME`` in a fresh process; raise :class:`Broken` where that imports what is heavy.

    Args:
        entry: the value of an entry point.
        instead: what the author should do.
    """
    module, _, name = entry.partition(":")
    code = (
        f"import importlib, json, sys; getattr(importlib.import_module({module!r}), {name!r}); "
        f"print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]), file=sys.stderr)"
    )
    done = fresh_process(code)
    require(done.returncode == 0, f"{entry} cannot be imported on its own: {last_line(done.stderr)}")
    found = json.loads(last_line(done.stderr))
    require(not found, f"importing {entry} imports {', '.join(found)}; {instead}.")


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Any look-up or connection from this process is :class:`Broken`."""

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise Broken(
            f"the network was reached for ({arguments[-1] if arguments else ''}); nothing may be downloaded."
        )

    kept = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]


def fresh_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new Python that finds the modules this one finds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def answers_of(model: Path, pixels: np.ndarray, folder: Path) -> np.ndarray:
    """What a ``.keras`` file answers to pixels ``(B, H, W, 3)`` in a fresh process that imports Keras alone.

    Raises :class:`Broken` where it does not load. ``folder`` takes what the processes tell one another.
    """
    given, told = folder / "pixels.npy", folder / "answers.npy"
    np.save(given, pixels)
    code = (
        "import sys, numpy, keras\n"
        "model = keras.models.load_model(sys.argv[1], compile=False)\n"
        "numpy.save(sys.argv[3], numpy.asarray(model(numpy.load(sys.argv[2]), training=False)))"
    )
    done = fresh_process(code, str(model), str(given), str(told))
    require(done.returncode == 0, f"{model.name} does not load with Keras alone: {last_line(done.stderr)}")
    return np.load(told)


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."
