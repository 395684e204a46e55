"""TensorFlow's and the converter's chatter stays away from the user."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def quiet_tensorflow() -> None:
    """Set the environment that silences TensorFlow and selects it as Keras's backend.

    Only values the user has not set are touched, and it works only before the first
    ``import tensorflow``: the command line and the heavy modules call it first.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def import_tensorflow() -> None:
    """Import TensorFlow and swallow what it logs meanwhile: some of it comes before any log level is read."""
    with captured_output():
        import tensorflow  # noqa: F401


class Captured:
    """What was written while :func:`captured_output` was active, as text, after the block has ended."""

    text = ""


@contextlib.contextmanager
def captured_output() -> Iterator[Captured]:
    """Catch everything written to standard output and error, by C++ code too (file descriptors 1 and 2).

    The text is in ``.text`` after the block, so that an error can quote it. Affects the whole process:
    nothing else should be printing meanwhile.
    """
    captured = Captured()
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as sink:
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield captured
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, target)
                os.close(copy)
            sink.seek(0)
            captured.text = sink.read().decode("utf-8", "replace")
