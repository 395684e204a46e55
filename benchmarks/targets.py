"""Every target and every precision on real data: taken or not, agreement with Keras, accuracy, size, speed, memory.

    python benchmarks/targets.py --network mobilenet --data elpv [--weights FILE] [--fashion FOLDER] [--images 1200]
        [--seconds 10] [--results benchmarks/targets.jsonl] [--report docs/targets.md]

A probe on EfficientNet-Lite0 or MobileNet (FILE: weights of keras.applications' MobileNet) with ELPV (160 px; the extra
``demo``) or of Fashion-MNIST (96 px; FOLDER holds the IDX files, Debian: package dataset-fashion-mnist), on so many
images, a quarter of them to test on. Every precision is converted once. Then every target that
`keras-transfer targets` lists is asked: its rules, and where it makes something and its package is installed, the files
are made, opened, and given test images for so many seconds (at least 8 images). The results file keeps a line for each
network and data set; the report is made of it.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bundles import write_garments
from reporting import keep_result, machine, read_results, write_section

from keras_transfer.errors import KerasTransferError
from keras_transfer.export.calibration import calibration_rows
from keras_transfer.export.conversion import Conversion
from keras_transfer.export.golden import TOLERANCES
from keras_transfer.export.inspection import inspect_file
from keras_transfer.export.parity import Judge
from keras_transfer.export.targets.base import Source
from keras_transfer.export.targets.making import load_target
from keras_transfer.export.targets.readiness import judge
from keras_transfer.export.targets.specs import TargetSpec, all_targets
from keras_transfer.inference import KerasRunner, LiteRTRunner, Runner
from keras_transfer.litert import LiteRTModel
from keras_transfer.paths import atomic_write
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions
from keras_transfer.records.layout import ALL_INTEGER, TFLITE
from keras_transfer.workflow.demo import cell_table, elpv_folder
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.train import train

SIZES = {"elpv": 160, "fashion": 96}
GOLDEN, LEAST, TIMED = 8, 8, 15
PROCESSES = ("tflite-micro",)
"""Runtimes that are started anew for every call: their time says nothing."""
REPORT = """    python benchmarks/targets.py --network NETWORK --data DATA --results FILE --report docs/targets.md

A probe on each network; {sizes}; {images} images, a quarter of them to test on. The files are those of an export.
"Agreement" and "accuracy" are of the images that the runtime was given within {seconds:g} seconds; their number stands
behind. "Time" is that of one image against LiteRT float32, measured in turns; "size" that of the model's file, and
"memory" what the runtime or the compiler tells. A file that a target refuses has the reason.

{table}

Machine: {machine}.
"""


def trained(network: str, data: str, folder: Path, options: argparse.Namespace) -> Any:
    """The run of a probe."""
    settings: dict[str, Any] = {"backbone": network, "image_size": SIZES[data], "strategy": "probe"}
    if network == "mobilenet":
        settings["weights"] = options.weights
    if data == "elpv":
        source, images = folder / "cells.csv", elpv_folder()
        head, *rows = cell_table(images).splitlines()
        few = np.random.default_rng(0).permutation(len(rows))[: options.images]
        atomic_write(source, "\n".join([head, *(rows[row] for row in few)]) + "\n")
        settings |= {"image_root": str(images)}
    else:
        source = write_garments(options.fashion, folder / "garments")
        for path in sorted(source.glob("*/*.png"), key=lambda path: path.name)[options.images :]:
            path.unlink()
    return train(source, folder / "run", test_fraction=0.25, **settings)


def takes(spec: TargetSpec, precision: str) -> bool:
    """Whether a target is for a precision; all-integer is int8 of which no number is a float."""
    if precision == ALL_INTEGER:
        return "int8" in spec.precisions or precision in spec.precisions
    return precision in spec.precisions and not (precision == "int8" and spec.all_integer)


def first_words(text: str) -> str:
    """The first sentence, without what would break a table."""
    return text.split(". ")[0].replace("|", "/").replace("\n", " ")[:160]


class Asked:
    """What runtimes answer to test images, and how fast, against Keras and LiteRT float32."""

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, expected: np.ndarray, base: Runner, seconds: float
    ) -> None:
        self.pixels, self.labels, self.expected, self.base, self.seconds = (
            pixels,
            labels,
            expected,
            base,
            seconds,
        )

    def ask(self, runner: Runner) -> dict[str, Any]:
        """Images, agreement, accuracy, and the time as a ratio."""
        answers, start, step = [], time.perf_counter(), LEAST
        while sum(map(len, answers)) < len(self.pixels) and (
            not answers or time.perf_counter() - start < self.seconds
        ):
            done = sum(map(len, answers))
            answers.append(runner.predict(self.pixels[done : done + step]).argmax(axis=1))
        given = np.concatenate(answers)
        count = len(given)
        return {
            "images": count,
            "agreement": float(np.mean(given == self.expected[:count].argmax(axis=1))),
            "accuracy": float(np.mean(given == self.labels[:count])),
            "keras": float(np.mean(self.expected[:count].argmax(axis=1) == self.labels[:count])),
            "ratio": None if runner.name in PROCESSES else self._ratio(runner),
        }

    def _ratio(self, runner: Runner) -> float:
        times: dict[int, list[float]] = {0: [], 1: []}
        for _ in range(TIMED):
            for place, one in enumerate((self.base, runner)):
                start = time.perf_counter()
                one.predict(self.pixels[:1])
                times[place].append(time.perf_counter() - start)
        return statistics.median(times[1][3:]) / statistics.median(times[0][3:])


def through(
    spec: TargetSpec, folder: Path, precision: str, asked: Asked, options: ExportOptions
) -> dict[str, Any]:
    """One file through one target."""
    file = TFLITE[precision]
    row: dict[str, Any] = {
        "target": spec.name,
        "precision": precision,
        "bytes": (folder / file).stat().st_size,
    }
    facts = inspect_file(folder / file)
    ready = judge(facts, spec)
    row["state"] = ready.state
    if ready.state == "refused" or not spec.factory or spec.installed is None:
        told = (
            "by its rules, nothing is made here"
            if not spec.factory
            else f"by its rules, {spec.package} is missing"
        )
        return row | {"why": first_words(" ".join(ready.reasons)) if ready.state == "refused" else told}
    golden = asked.pixels[:GOLDEN]
    try:
        target = load_target(spec)
        answers = LiteRTModel(folder / file, reference=True).predict(golden)
        made = target.make(Source(folder, file, facts, golden, answers, TOLERANCES[precision], options))
        model = vars(made).get("model") or file
        parts = (
            [name for name in made.files if Path(name).stem == Path(model).stem] if model != file else [model]
        )
        row["bytes"] = sum((folder / name).stat().st_size for name in parts)
        row["memory"] = {
            name: value for name, value in made.measured.items() if "arena" in name or "sram" in name
        }
        runner = target.open(folder / model)
        row |= asked.ask(runner)
        runner.close()
    except KerasTransferError as error:
        row |= {"state": "refused", "why": first_words(str(error))}
    return row


def measure(network: str, data: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every target and precision, for one network and one data set."""
    run = trained(network, data, folder, options)
    table, model = run_table(run), run.load_model()
    preprocessing = Preprocessing.from_dict(run.info["preprocessing"])
    export = ExportOptions(formats=("tflite",), precisions=tuple(TFLITE))
    rows = calibration_rows(table)
    conversion = Conversion(model, table, preprocessing, Judge(tuple(table.classes)), rows, export)
    bundle = folder / "bundle"
    bundle.mkdir()
    for precision, file in TFLITE.items():
        conversion.write(bundle / file, precision)
    test = np.random.default_rng(0).permutation(table.indices("test"))
    pixels = np.stack([table.images.load(int(row), preprocessing) for row in test])
    expected = KerasRunner(model).predict(pixels)
    base = LiteRTRunner(bundle / TFLITE["float32"])
    asked = Asked(pixels, table.labels[test], expected, base, options.seconds)
    found = []
    for spec in all_targets():
        for precision in (one for one in TFLITE if takes(spec, one)):
            found.append(through(spec, bundle, precision, asked, export))
            print(f"{network} {data}: {found[-1]}", flush=True)
    return {"network": network, "data": data, "rows": found}


def table_of(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| network, data | target | precision | taken | agreement | accuracy (Keras), images | size | time | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        for row in one["rows"]:
            name = f"{one['network']}, {one['data']}"
            cells = ["-", "-", f"{row['bytes'] / 1e6:.1f} MB", "-", "-"]
            if "images" in row:
                memory = ", ".join(
                    f"{each.removesuffix('_bytes')} {value / 1024:.0f} KiB"
                    for each, value in row["memory"].items()
                )
                ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
                score = f"{row['accuracy']:.1%} ({row['keras']:.1%}), {row['images']}"
                cells = [f"{row['agreement']:.1%}", score, cells[2], ratio, memory or "-"]
            taken = row["state"] + (f": {row['why']}" if "why" in row else "")
            lines.append(f"| {' | '.join([name, row['target'], row['precision'], taken, *cells])} |")
    return "\n".join(lines)


def main() -> int:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=("efficientnet_lite0", "mobilenet"))
    parser.add_argument("--data", choices=tuple(SIZES))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--images", type=int, default=1200, help="of the data set")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/targets.jsonl"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.network and options.data:
        with tempfile.TemporaryDirectory() as folder:
            new = measure(options.network, options.data, Path(folder), options)
        keep_result(options.results, new, ("network", "data"))
    results = read_results(options.results)
    print(table_of(results))
    if options.report:
        sizes = ", ".join(f"{name} at {size} px" for name, size in SIZES.items())
        text = REPORT.format(
            sizes=sizes,
            seconds=options.seconds,
            images=options.images,
            table=table_of(results),
            machine=machine(),
        )
        write_section(options.report, "Every target, measured", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
