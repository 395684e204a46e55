"""Coral's Edge TPU: judged by its compiler's published rules, and compiled where that is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from keras_transfer.errors import ExportError
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.export.targets.builtin import EDGETPU
from keras_transfer.export.targets.readiness import elsewhere
from keras_transfer.export.targets.vendor import on_cpu, require_placed, run_compiler
from keras_transfer.inference import LiteRTRunner
from keras_transfer.records.layout import TARGETS

COMPILER = "edgetpu_compiler"


class EdgeTPU(Target):
    """``*_edgetpu.tflite`` where ``edgetpu_compiler`` is on the path; the all-integer ``.tflite`` alone elsewhere.

    The answers that are compared are those of the compiler's input in LiteRT.
    """

    allowed = None

    def make(self, source: Source) -> Made:
        """Name what would run on the CPU, and compile.

        Raises ``ExportError`` when the compiler fails, or an operator would run on the CPU and full placement is
        required.
        """
        found = on_cpu(source.facts, elsewhere(source.facts, EDGETPU.rules))
        everything = len(source.facts.operators)
        if source.options.require_full_placement:
            require_placed("edgetpu", found, everything)
        measured = {"tpu_operators": everything - len(found), "cpu_operators": len(found), "on_cpu": found}
        program = shutil.which(COMPILER)
        if program is None:
            return Made((source.file,), measured={**measured, "compiled": False})
        folder = source.own("edgetpu")
        said = run_compiler(COMPILER, [program, "-s", "-o", str(folder), str(source.path)])
        compiled = folder / f"{source.path.stem}_edgetpu.tflite"
        if not compiled.is_file():
            raise ExportError(f"{COMPILER} wrote no {compiled.name}: {said.strip()[-300:]}")
        (folder / f"{COMPILER}.txt").write_text(said, encoding="utf-8")
        return Made(
            files=tuple(sorted(f"{TARGETS}/edgetpu/{path.name}" for path in folder.iterdir())),
            measured={**measured, "compiled": True, "file_bytes": compiled.stat().st_size},
            versions={COMPILER: next(iter(said.splitlines()), "unknown").strip()},
        )

    def open(self, path: Path) -> LiteRTRunner:
        """The compiler's input in LiteRT."""
        return LiteRTRunner(path)
