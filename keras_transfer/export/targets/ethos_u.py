"""Arm's Ethos-U: the ``.tflite`` compiled by Vela, which tells what the NPU takes."""

from __future__ import annotations

import csv
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keras_transfer.errors import ExportError
from keras_transfer.export.inspection import FileFacts, inspect_file
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.export.targets.vendor import on_cpu, place_of, require_placed, run_compiler
from keras_transfer.inference import LiteRTRunner
from keras_transfer.records.export_options import ACCELERATOR
from keras_transfer.records.layout import TARGETS

PROGRAM = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
WARNING = re.compile(r"operator: \w+, ofm: '(?P<tensor>.*)'\nReason: (?P<reason>.*)")
UNSAID = "Vela left it to the CPU without a word"


class EthosU(Target):
    """``*_vela.tflite`` beside Vela's two reports.

    No simulator of the NPU is in a package: the answers that are compared are those of Vela's input in LiteRT. What the
    NPU takes, its memory and its cycles are what Vela estimates, for its default system and memory.
    """

    allowed = None

    def make(self, source: Source) -> Made:
        """Compile the file.

        Raises ``ExportError`` when Vela fails, or an operator stays on the CPU and full placement is required.
        """
        accelerator = source.options.accelerator or ACCELERATOR
        folder, stem = source.own("ethos-u"), source.path.stem
        said = run_compiler(
            "vela",
            [
                sys.executable,
                "-c",
                PROGRAM,
                "--accelerator-config",
                accelerator,
                "--output-dir",
                str(folder),
                "--show-cpu-operations",
                "--verbose-performance",
                str(source.path),
            ],
        )
        compiled = folder / f"{stem}_vela.tflite"
        summary = next(folder.glob(f"{stem}_summary_*.csv"), None)
        if not compiled.is_file() or summary is None:
            raise ExportError(
                f"Vela {version('ethos-u-vela')} wrote no {compiled.name}: {said.strip()[-300:]}"
            )
        found = on_cpu(source.facts, left_on_cpu(source.facts, inspect_file(compiled), said))
        everything = len(source.facts.operators)
        if source.options.require_full_placement:
            require_placed("ethos-u", found, everything)
        return Made(
            files=tuple(sorted(f"{TARGETS}/ethos-u/{path.name}" for path in folder.glob(f"{stem}_*"))),
            measured={
                "accelerator": accelerator,
                "npu_operators": everything - len(found),
                "cpu_operators": len(found),
                "on_cpu": found,
                **estimates(summary),
                "file_bytes": compiled.stat().st_size,
            },
            versions={"ethos-u-vela": version("ethos-u-vela")},
        )

    def open(self, path: Path) -> LiteRTRunner:
        """Vela's input in LiteRT."""
        return LiteRTRunner(path)


def left_on_cpu(facts: FileFacts, compiled: FileFacts, said: str) -> dict[int, str]:
    """Why operators of Vela's input stay on the CPU, by their places in ``facts``.

    Which do is read from its output: everything there that is no command stream for the NPU.
    """
    reasons = {}
    for found in WARNING.finditer(said):
        tensor = found["tensor"]
        place = place_of(facts, tensor)
        if place is None:  # of a fused activation
            place = place_of(facts, tensor.removesuffix("_act"))
        if place is not None:
            reasons[place] = found["reason"].split(" (")[0]
    names = [
        compiled.tensors[index].name for one in compiled.operators if not one.custom for index in one.outputs
    ]
    places = [place for name in names if (place := place_of(facts, name)) is not None]
    return {place: reasons.get(place, UNSAID) for place in places}


def estimates(summary: Path) -> dict[str, Any]:
    """Vela's estimates: memory in bytes, cycles, and inferences a second at the clock of its default system."""
    with summary.open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    try:
        return {
            "sram_bytes": round(1024 * float(row["sram_memory_used"])),
            "flash_bytes": round(
                1024 * (float(row["on_chip_flash_memory_used"]) + float(row["off_chip_flash_memory_used"]))
            ),
            "dram_bytes": round(1024 * float(row["dram_memory_used"])),
            "cycles": round(float(row["cycles_total"])),
            "inferences_per_second": round(float(row["inferences_per_second"]), 1),
            "system": f"{row['system_config']}, {row['memory_mode']}",
        }
    except (KeyError, ValueError) as error:
        raise ExportError(f"Vela's summary has another form than expected ({error!r}).") from error
