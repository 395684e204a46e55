"""The networks nobody has ImageNet weights for: do they learn from random weights, and in a minute?

    python benchmarks/from_nothing.py [--backbones alexnet ...] [--report docs/results.md]

Crops of two photographs (scikit-learn's china.jpg and flower.jpg), 96x96, at 32 pixels or what the network needs: 120
to learn from, 12 to choose the epoch, 60 to be measured on, ``--strategy scratch``, AlexNet's own augmentation. The
time is that of the training, checkpoints and all, in a process that has trained before. Exit code 1 unless each network
needs less than a minute and is above chance: at least 40 of 60 right, which guessing reaches less than once in
a hundred times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from reporting import machine, write_section
from sklearn.datasets import load_sample_image

from keras_transfer.catalog import CATALOG
from keras_transfer.workflow.train import train

CROP, COUNTS = 96, {"train": 60, "val": 6, "test": 30}
EPOCHS, BATCH = 2, 8
MINUTE, ABOVE_CHANCE = 60.0, 40


def write_crops(folder: Path) -> Path:
    """``split/class/number.png``."""
    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photo = load_sample_image(f"{name}.jpg")
        for split, count in COUNTS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                y, x = (rng.integers(0, side - CROP) for side in photo.shape[:2])
                crop = Image.fromarray(photo[y : y + CROP, x : x + CROP])
                crop.save(folder / split / name / f"{number}.png")
    return folder


def measure(data: Path, folder: Path, name: str) -> tuple[int, int, float]:
    """Image size, right answers on the test crops, and seconds."""
    size = max(CATALOG[name].min_size, 32)
    run = train(
        data,
        folder / name,
        backbone=name,
        strategy="scratch",
        image_size=size,
        epochs=EPOCHS,
        batch_size=BATCH,
        patience=EPOCHS,
        augment="alexnet",
    )
    found = run.info["metrics"]["test"]
    return size, round(found["accuracy"] * found["images"]), run.info["seconds"]["training"]


def main() -> int:
    known = [spec.name for spec in CATALOG.values() if not spec.pretrained]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbones", nargs="+", choices=known, default=known, metavar="BACKBONE")
    parser.add_argument("--report", type=Path, help="write the table into this page")
    options = parser.parse_args()
    tests = 2 * COUNTS["test"]
    lines = ["| network | pixels | right | seconds |", "|---|---|---|---|"]
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_crops(folder / "data")
        measure(data, folder / "first", known[0])  # what a process does once
        for name in options.backbones:
            keras.backend.clear_session()
            size, right, seconds = measure(data, folder, name)
            lines.append(f"| `{name}` | {size} | {right} of {tests} | {seconds:.0f} |")
            print(lines[-1], flush=True)
            passed &= right >= ABOVE_CHANCE and seconds < MINUTE
    if options.report:
        steps = EPOCHS * 2 * COUNTS["train"] // BATCH
        about = f"""    python benchmarks/from_nothing.py --report docs/results.md

Each network is trained from random weights (`--strategy scratch`) in {steps} steps with batches of {BATCH} crops, cut
from two photographs. Guessing gets {ABOVE_CHANCE} of {tests} right less than once in a hundred times. The time is that
of the training with its checkpoints, in a process that has trained before.
"""
        write_section(
            options.report,
            "Networks without pretrained weights",
            "\n".join([about, *lines, "", f"Machine: {machine()}."]),
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
