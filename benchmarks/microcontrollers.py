"""Which file of a bundle does a microcontroller or an NPU take, and what runs beside the NPU?

    pip install ethos-u-vela==5.2.0 tflite-micro==0.dev20261023182759
    python benchmarks/microcontrollers.py BUNDLE... [--accelerator ethos-u55-128]

TFLite Micro's reference kernels are asked the golden images through every ``.tflite`` of every bundle, in the smallest
arena that will do (to 1 KiB), and Vela, Arm's compiler for Ethos-U NPUs, compiles it. Needs neither TensorFlow nor this
package: a bundle is enough. Prints a row of Markdown for each file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KIB = 1024
MOST = 64 * KIB * KIB
"""Bytes: no microcontroller has such an arena."""


def ask_micro(file: Path, arena: int) -> float:
    """In this process: TFLite Micro's answers to the golden images, and how far they are from the recorded ones."""
    import numpy as np
    from PIL import Image
    from tflite_micro.python.tflite_micro import runtime

    bundle = file.parent
    golden = json.loads((bundle / "golden" / "golden.json").read_text(encoding="utf-8"))
    model = runtime.Interpreter.from_file(str(file), arena_size=arena)
    source, target = model.get_input_details(0), model.get_output_details(0)
    furthest = 0.0
    for row, expected in zip(golden["images"], golden["expected"][file.name], strict=True):
        pixels = np.asarray(Image.open(bundle / row["input"]))[np.newaxis]
        model.set_input(pixels.astype(source["dtype"]), 0)
        model.invoke()
        answer = np.asarray(model.get_output(0), np.float32)
        scales = target["quantization_parameters"]["scales"]
        if len(scales):
            answer = (answer - target["quantization_parameters"]["zero_points"][0]) * scales[0]
        furthest = max(furthest, float(np.abs(answer.ravel()[:: golden["step"]] - expected).max()))
    return furthest


def micro(file: Path) -> str:
    """TFLite Micro: the smallest arena and the difference, or why not. In processes of their own: it may end them."""

    def attempt(arena: int) -> tuple[str | None, str]:
        command = [sys.executable, __file__, "--one", str(file), str(arena)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if line.strip()]
        wrong = [line for line in said if not line.startswith((" ", "Traceback"))]
        return (done.stdout.strip() or None) if done.returncode == 0 else None, " ".join(wrong[:1])

    difference, reason = attempt(MOST)
    if difference is None:
        return f"refused: {reason or 'it ended without a word'}"
    low, high = 0, MOST // KIB
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if attempt(middle * KIB)[0] is not None else (middle, high)
    return f"runs in {high} KiB, differs by {float(difference):.1e}"


def vela(file: Path, accelerator: str) -> str:
    """Vela: how many operators it leaves to the CPU, and the memory the NPU works in."""
    with tempfile.TemporaryDirectory() as folder:
        program = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, str(file), "--accelerator-config", accelerator]
        done = subprocess.run([*command, "--output-dir", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"refused: {''.join(done.stderr.strip().splitlines()[-1:])}"
    counts = [re.search(rf"{kind} operators = (\d+)", done.stdout) for kind in ("CPU", "NPU")]
    memory = re.search(r"Total SRAM used\s+([\d.]+) KiB", done.stdout)
    if None in counts or memory is None:
        return "no operator on the NPU"
    cpu, npu = (int(found[1]) for found in counts if found)
    return f"{cpu} of {cpu + npu} operators on the CPU, {float(memory[1]):.0f} KiB SRAM"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--accelerator", default="ethos-u55-128")
    parser.add_argument("--one", nargs=2, metavar=("FILE", "ARENA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(ask_micro(Path(options.one[0]), int(options.one[1])))
        return 0
    if not options.bundles:
        parser.error("give the folder of a bundle")
    print(f"| file | TFLite Micro | Vela, {options.accelerator} |\n|---|---|---|")
    for bundle in options.bundles:
        for file in sorted(bundle.glob("*.tflite")):
            print(f"| `{bundle.name}/{file.name}` | {micro(file)} | {vela(file, options.accelerator)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
