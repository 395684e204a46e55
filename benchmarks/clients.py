"""How long each client's preprocessing of a photo of 12 megapixels takes, against Pillow's, in one run.

    python benchmarks/clients.py [--report docs/results.md]

The clients give the same bytes as Pillow (tests/export/test_clients.py), so time is all there is to compare. Pillow
is given the array that a decoder gives, as the clients are. Processor time is measured, so that other work on the
machine matters less; rounds alternate, and the best of each is taken. The goals: JavaScript at most 3 times Pillow's
time, Java 2, C++ 1.2.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from reporting import machine, write_section
from sklearn.datasets import load_sample_image

import keras_transfer
from keras_transfer.preprocessing import Preprocessing

GOALS = {"javascript": 3.0, "java": 2.0, "cpp": 1.2}
HEADING = "Preprocessing in other languages"
HERE = Path(__file__).with_name("clients")
SOURCES = Path(keras_transfer.__file__).parent / "export" / "clients"
WIDTH, HEIGHT = 4000, 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="of the model's input")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=6, help="photos a round; the first ones warm up")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = compiled(folder)
        lines = [
            "| photo | rule | filter | Pillow | JavaScript | Java | C++ |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind, rule, interpolation in (
            ("RGB", "squash", "bilinear"),
            ("RGB", "crop", "bicubic"),
            ("RGB", "pad", "lanczos"),
            ("RGBA", "squash", "bilinear"),
            ("RGB, turned", "squash", "bilinear"),
        ):
            row = measured(
                photo, kind, Preprocessing((options.size,) * 2, rule, interpolation), commands, options
            )
            lines.append(f"| {kind} | {rule} | {interpolation} | {' | '.join(row)} |")
            print(lines[-1], flush=True)
    goals = ", ".join(f"{name} {factor:g}" for name, factor in GOALS.items())
    text = (
        "    python benchmarks/clients.py --report docs/results.md\n\n"
        f"A photo of {WIDTH} x {HEIGHT} pixels to {options.size} px, milliseconds of one core and multiples of "
        f"Pillow's time; the bytes are the same. Goals: {goals}. {machine()}.\n\n" + "\n".join(lines)
    )
    if options.report is not None:
        write_section(options.report, HEADING, text)


def compiled(folder: Path) -> dict[str, list[str]]:
    """The command of each client's program."""
    java = [str(HERE / "Bench.java"), str(SOURCES / "java" / "Preprocess.java")]
    subprocess.run(["javac", "-d", str(folder), *java], check=True)
    cpp = ["g++", "-std=c++17", "-O2", "-I", str(SOURCES / "cpp"), str(HERE / "bench.cc")]
    subprocess.run([*cpp, "-o", str(folder / "bench")], check=True)
    return {
        "javascript": ["node", str(HERE / "bench.mjs"), str(SOURCES / "javascript" / "preprocess.mjs")],
        "java": ["java", "-cp", str(folder), "Bench"],
        "cpp": [str(folder / "bench")],
    }


def measured(
    photo: Image.Image,
    kind: str,
    contract: Preprocessing,
    commands: dict[str, list[str]],
    options: argparse.Namespace,
) -> list[str]:
    """The best time of Pillow and of each client, in the table's order."""
    picture = photo.convert("RGBA" if kind == "RGBA" else "RGB")
    turned = "turned" in kind
    best: dict[str, float] = {}
    with tempfile.NamedTemporaryFile() as file:
        pixels = np.array(picture)
        file.write(pixels.tobytes())
        file.flush()
        told = [
            file.name,
            WIDTH,
            HEIGHT,
            options.size,
            contract.resize,
            contract.interpolation,
            6 if turned else 1,
        ]
        for _ in range(options.rounds):
            keep(best, "pillow", [pillow(pixels, contract, turned) for _ in range(options.times)])
            for name, command in commands.items():
                done = subprocess.run(
                    [*command, *map(str, told), str(options.times)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                keep(best, name, [float(line) for line in done.stdout.split()])
    return [
        f"{best['pillow']:.0f}",
        *(f"{best[name]:.0f} ({best[name] / best['pillow']:.2f})" for name in commands),
    ]


def keep(best: dict[str, float], name: str, found: Sequence[float]) -> None:
    best[name] = min(*found, best.get(name, float("inf")))


def pillow(pixels: np.ndarray, contract: Preprocessing, turned: bool) -> float:
    """Milliseconds from a decoder's array to the model's pixels."""
    begin = time.process_time()
    if pixels.shape[2] == 4:
        picture = Image.fromarray(pixels)
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        pixels = np.array(Image.alpha_composite(white, picture).convert("RGB"))
    if turned:
        pixels = np.array(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_270))
    contract.apply(pixels)
    return 1000 * (time.process_time() - begin)


if __name__ == "__main__":
    main()
