"""Two real data sets from files to proven bundles: every precision's accuracy, and whether `verify` passes.

    python benchmarks/bundles.py [--fashion FOLDER] [--json]

ELPV solar cells (extra ``demo``; 224 px, a quarter to test on) and the first 3,000 training images of Fashion-MNIST
(FOLDER holds the IDX files; Debian: package dataset-fashion-mnist), written as PNG files and read at 96 px, a fifth to
test on. EfficientNet-Lite0, seed 0, a probe; then the same with its head fitted on int8 features (``--deploy int8``).
Prints the table of docs/results.md as Markdown. Exit code 1 unless every float32 file agrees with Keras within 1e-4 on
every image, int8 is within 1 point of it, and every bundle is verified, its data included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.paths import atomic_write
from keras_transfer.workflow.demo import cell_table, elpv_folder
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.train import train
from keras_transfer.workflow.verify import verify

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
COLUMNS = ("float32", "float16", "dynamic", "int8", "int16x8")
GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
)
SAMPLE = 3000


def write_garments(source: Path, folder: Path) -> Path:
    """The first images of Fashion-MNIST's training part as PNG files, one folder per class."""
    pixels, labels = (
        np.frombuffer(gzip.decompress((source / f"train-{name}-ubyte.gz").read_bytes()), np.uint8)
        for name in ("images-idx3", "labels-idx1")
    )
    images = pixels[16:].reshape(-1, 28, 28)[:SAMPLE]
    for name in GARMENTS:
        (folder / name).mkdir(parents=True)
    for place, (image, label) in enumerate(zip(images, labels[8 : 8 + SAMPLE], strict=True)):
        Image.fromarray(image).save(folder / GARMENTS[label] / f"{place:05d}.png")
    return folder


def measure(source: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    """Train, export in every precision, verify; then the same with a head that was fitted for int8."""
    result: dict[str, Any] = {}
    for name, deploy, precisions in (("", None, PRECISIONS), ("_for_int8", "int8", ("float32", "int8"))):
        run = train(source, folder / f"run{name}", strategy="probe", deploy=deploy, **settings)
        report = export_run(run, folder / f"edge{name}", precisions=precisions, allow_parity_failure=True)
        content = report.to_dict()
        result[f"images{name}"], result[f"keras{name}"] = content["images"], report.keras_score
        result[f"artefacts{name}"] = {row["file"]: row for row in content["artefacts"]}
        result[f"verified{name}"] = verify(report.path, run_table(run), split="test").passed
    return result


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| test images | Keras | " + " | ".join(COLUMNS) + " | int8 with `--deploy int8` | `verify` |",
        "|---|" + "---|" * (len(COLUMNS) + 3),
    ]
    for name, one in found.items():
        rows = {row["precision"]: row for file, row in one["artefacts"].items() if file.endswith(".tflite")}
        cells = [one["keras"], *(rows[column]["accuracy"] for column in COLUMNS)]
        cells.append(one["artefacts_for_int8"]["model_int8.tflite"]["accuracy"])
        verified = "passes" if one["verified"] and one["verified_for_int8"] else "FAILS"
        shown = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
        lines.append(f"| {name}, {one['images']} | {shown} | {verified} |")
    return "\n".join(lines)


def sound(one: dict[str, Any]) -> bool:
    """Whether a data set's bundles keep what the documents promise."""
    exact = all(
        row["agreement"] == 1 and row["max_difference"] <= 1e-4
        for row in one["artefacts"].values()
        if row["precision"] == "float32"
    )
    close = [
        one[f"keras{name}"] - one[f"artefacts{name}"]["model_int8.tflite"]["accuracy"]
        for name in ("", "_for_int8")
    ]
    return exact and max(close) <= 0.01 and one["verified"] and one["verified_for_int8"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cells, images = folder / "cells.csv", elpv_folder()
        atomic_write(cells, cell_table(images))
        found["solar cells (ELPV)"] = measure(
            cells, folder / "elpv", image_root=str(images), val_fraction=0.0, test_fraction=0.25
        )
        garments = write_garments(options.fashion, folder / "garments")
        found["garments (Fashion-MNIST)"] = measure(garments, folder / "fashion", image_size=96)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(table(found))
        for name, one in found.items():
            differences = (
                row["max_difference"] for row in one["artefacts"].values() if row["precision"] == "float32"
            )
            print(f"{name}: float32 differs from Keras by at most {max(differences):.1e}")
    return 0 if all(sound(one) for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
