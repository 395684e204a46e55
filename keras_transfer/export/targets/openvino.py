"""OpenVINO: the ``.tflite`` as an IR, or read directly, proven on the CPU."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keras_transfer.errors import ExportError
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.inference.openvino_file import APART, OpenVINOFileRunner, read_file
from keras_transfer.inference.openvino_runner import import_openvino, words
from keras_transfer.records.layout import TARGETS


class OpenVINO(Target):
    """``.xml`` and ``.bin`` for each precision; the ``.tflite`` itself where only that agrees.

    Both are the same graph and compute equally fast. The IR is opened several times as fast: nothing is converted.
    """

    allowed = None
    compared = True

    def make(self, source: Source) -> Made:
        """Write the IR, and drop it where it answers worse than the ``.tflite`` that OpenVINO reads by itself.

        Where OpenVINO's own settings are far off and it is nearer without fusing integers, the IR says so.
        """
        stem = source.path.stem
        path = source.own("openvino") / f"{stem}.xml"
        files = tuple(f"{TARGETS}/openvino/{stem}.{kind}" for kind in ("xml", "bin"))
        direct, direct_seconds = _asked(source.path, source)
        write(source.path, path)
        found, seconds = _asked(path, source)
        measured: dict[str, Any] = {"tflite_open_milliseconds": round(1000 * direct_seconds, 1)}
        versions = {"openvino": version("openvino")}
        if not source.near(found):
            write(source.path, path, apart=True)
            off, again = _asked(path, source)
            if off < found:
                found, seconds = off, again
                measured["settings"] = ", ".join(f"{key}={value}" for key, value in APART.items())
            else:
                write(source.path, path)
        if not found <= max(direct, source.tolerance):
            for file in files:
                (source.folder / file).unlink()
            return Made((source.file,), measured={**measured, "reads": "tflite"}, versions=versions)
        size = sum((source.folder / file).stat().st_size for file in files)
        measured |= {"open_milliseconds": round(1000 * seconds, 1), "file_bytes": size, "reads": "ir"}
        return Made(files, files[0], measured, versions)

    def open(self, path: Path) -> OpenVINOFileRunner:
        """OpenVINO on the CPU, in the number types of the file."""
        return OpenVINOFileRunner(path)


def write(path: Path, to: Path, *, apart: bool = False) -> None:
    """Write a ``.tflite`` as an IR; float32 stays float32. ``apart``: see :func:`read_file`.

    Raises ``ExportError`` where OpenVINO cannot read it; its own words are in the message.
    """
    openvino = import_openvino()
    try:
        openvino.save_model(read_file(openvino.Core(), path, apart=apart), to, compress_to_fp16=False)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"OpenVINO {openvino.__version__} refuses {path.name}: {words(error)}") from error


def _asked(path: Path, source: Source) -> tuple[float, float]:
    """How far a file's answers are from LiteRT's, and the seconds it took to open it."""
    start = time.perf_counter()
    runner = OpenVINOFileRunner(path)
    seconds = time.perf_counter() - start
    given = source.distance(runner.predict(source.pixels))
    runner.close()
    return given, seconds
