"""How often the gate of an export refuses a sound int8 file on few test images, and lets a broken one pass.

    python benchmarks/gate.py [--image-size 96] [--draws 200] [--report docs/results.md]

A probe of EfficientNet-Lite0 on half of the ELPV solar cells (the extra ``demo``) and its int8 file answer the other
half. Small test sets are drawn from these answers, and the gate judges each: the real int8 file, and the same with a
share of its right decisions turned at random, until it has lost that many points against Keras on the whole half. It
may be delivered where it loses at most a point.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from reporting import machine, write_section

from keras_transfer import progress
from keras_transfer.export.parity import Judge, breaches, doubts, measure_parity, tolerance_for
from keras_transfer.inference import load_runner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.demo import cell_table, elpv_folder
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.train import outputs_for, train

SIZES = (57, 164, 400)
LOST = (0.0, 0.03, 0.05, 0.1)
REPORT = """    python benchmarks/gate.py --image-size {size} --draws {draws} --report docs/results.md

An export refuses a file of reduced precision if it loses more than one point of accuracy, or if fewer than 90 % of its
decisions agree with Keras, and chance does not explain it. Where the images cannot tell, the export accepts the file
and reports a doubt. For this table, a probe on EfficientNet-Lite0 at {size} px learns from half of the solar cells. It
and its int8 file classify the other half, {cells} cells. Keras is right on {keras:.1%}, int8 on {int8:.1%}, and
{agreement:.1%} of the decisions are equal. {draws} test sets of each size are drawn from these answers. The broken
files are simulated: right decisions of the int8 file are made wrong at random. An export also uses the validation
images where the test images cannot tell; they are not counted here. A file that is refused for its agreement can be
doubtful for its accuracy at the same time.

{table}

Machine: {machine}.
"""


def answers(folder: Path, image_size: int):
    """The test images, and what Keras and the int8 file answer to them."""
    images = elpv_folder()
    (folder / "cells.csv").write_text(cell_table(images))
    run = train(
        folder / "cells.csv",
        folder / "run",
        strategy="probe",
        image_size=image_size,
        val_fraction=0.0,
        test_fraction=0.5,
        image_root=str(images),
    )
    export_run(run, folder / "edge", formats=("tflite",), precisions=("int8",), allow_parity_failure=True)
    table = run_table(run)
    table = table.take(table.indices("test"))
    pixels = Preprocessing.from_dict(run.info["preprocessing"])
    reference = outputs_for(run.load_model(), table, pixels, "Keras")
    int8 = load_runner(folder / "edge" / "model_int8.tflite")
    parts = np.array_split(np.arange(len(table)), 64)
    batches = (np.stack([table.images.load(i, pixels) for i in rows]) for rows in parts)
    given = np.concatenate([int8.predict(batch) for batch in progress.track(batches, "int8", 64)])
    return table, reference, given


def turned(
    candidate: np.ndarray, reference: np.ndarray, labels: np.ndarray, points: float, seed: int
) -> np.ndarray:
    """The candidate with so many right decisions turned that it loses ``points`` (a share) against Keras."""
    result = candidate.copy()
    right = np.flatnonzero(candidate.argmax(axis=1) == labels)
    lost = float((reference.argmax(axis=1) == labels).mean()) - len(right) / len(labels)
    count = max(0, round((points - lost) * len(labels)))
    rows = np.random.default_rng(seed).choice(right, count, replace=False)
    result[rows] = result[rows, ::-1]
    return result


def verdicts(
    table, reference: np.ndarray, candidate: np.ndarray, size: int, draws: int
) -> tuple[float, float]:
    """The shares of small test sets on which the gate refuses, and on which it says that it cannot tell."""
    judge = Judge(tuple(table.classes))
    tolerance = tolerance_for("int8", judge, reference)
    refused = doubted = 0
    for seed in range(draws):
        rows = np.random.default_rng((seed, size)).choice(len(table), size, replace=False)
        parity = measure_parity(reference[rows], candidate[rows], judge, table.take(rows))
        refused += bool(breaches(parity, tolerance, judge))
        doubted += bool(doubts(parity, tolerance, judge))
    return refused / draws, doubted / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, reference, int8 = answers(Path(folder), options.image_size)
    accuracy = [float((one.argmax(axis=1) == table.labels).mean()) for one in (reference, int8)]
    agreement = float((reference.argmax(axis=1) == int8.argmax(axis=1)).mean())
    print(f"{len(table)} cells: Keras {accuracy[0]:.2%}, int8 {accuracy[1]:.2%}, agreement {agreement:.2%}\n")
    lines = [f"| file | {' | '.join(f'{size} images' for size in SIZES)} |", f"|---|{'---|' * len(SIZES)}"]
    for points in LOST:
        name = f"int8 that loses {100 * points:g} points" if points else "int8 as it is"
        candidate = turned(int8, reference, table.labels, points, 0) if points else int8
        cells = []
        for size in SIZES:
            refused, doubted = verdicts(table, reference, candidate, size, options.draws)
            cells.append(f"refused {refused:.1%}, doubtful {doubted:.1%}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if options.report:
        text = REPORT.format(
            size=options.image_size,
            cells=len(table),
            keras=accuracy[0],
            int8=accuracy[1],
            agreement=agreement,
            draws=options.draws,
            table="\n".join(lines),
            machine=machine(),
        )
        write_section(options.report, "What the gate of an export lets through", text)


if __name__ == "__main__":
    main()
