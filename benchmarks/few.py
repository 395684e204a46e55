"""How many validation images choose the probe's strength as well as cross-validation on the training images does?

    python benchmarks/few.py [--data FOLDER] [--seeds 5] [--report docs/results.md]

The data and features of ``refit.py``. A probe learns from 81 or 406 images, as ``train`` takes of 100 and 500. So many
validation images are drawn 40 times, and the strength with the lowest log loss on them is taken, as in a training; or
five folds of the training images choose. The test images' log loss at the strength chosen tells what the choice was
worth. The script reports; there is no target.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from refit import NAMES, Source, cells, drawn, garments, head
from reporting import machine, write_section
from scipy.special import log_softmax

from keras_transfer.training.choosing import ENOUGH, FOLDS, PATIENCE
from keras_transfer.training.logistic import LogisticPath
from keras_transfer.training.probe import STRENGTHS, fit_probe
from keras_transfer.training.standardising import standardisation

COUNTS, ASKED, DRAWS, TESTED = (100, 500), (1, 3, 10, 20, 50, 100, 300), 40, 2000
REPORT = """    python benchmarks/few.py --report docs/results.md

The strength of the probe's regularisation is chosen on the given number of validation images, or by {folds}-fold
cross-validation on the training images. Each cell has two values of the log loss on the test images: the mean, and the
value that one choice in twenty exceeds. There are {seeds} seeds with {draws} draws of the validation images each.
`train` uses the validation images where there are at least {enough}. With fewer, or with images of one class only, it
uses cross-validation. Of 100 and 500 images, 81 and 406 are training images.

{table}

Machine: {machine}.
"""


def losses_by_strength(source: Source, train: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """For each part its images' log losses, float ``(strengths, n)``."""
    y = source.targets["classes"]
    x = source.features.astype(np.float64)
    mean, deviation = standardisation(x[train], np.ones(len(train)))
    x = (x - mean) / deviation
    classes = np.eye(int(y.max()) + 1)[:, np.unique(y[train])]
    path = LogisticPath(x[train], classes[y[train]], np.ones(len(train)), softmax=True)
    found: list[list[np.ndarray]] = [[] for _ in parts]
    for c in STRENGTHS:
        head = path.fit(c)
        for losses, rows in zip(found, parts, strict=True):
            logits = x[rows] @ head.w + head.b
            losses.append(-(log_softmax(logits, axis=1) * classes[y[rows]]).sum(axis=1))
    return [np.array(losses) for losses in found]


def chosen(losses: np.ndarray) -> int:
    """The place of the lowest, as the probe looks for it: it stops after some that are no better."""
    best = 0
    for place, loss in enumerate(losses):
        best = place if loss < losses[best] else best
        if place - best >= PATIENCE:
            break
    return best


def measure(source: Source, count: int, seeds: int) -> dict[str, list[float]]:
    """Test losses by what chose."""
    found: dict[str, list[float]] = {f"{asked} validation images": [] for asked in ASKED}
    found["cross-validation"] = []
    y = source.targets["classes"]
    for seed in range(seeds):
        train, val, test = drawn(source, count, seed)
        others = np.setdiff1d(source.pool, np.concatenate([train, val, test]))
        by_image, by_test = losses_by_strength(source, train, [others, test[:TESTED]])
        rng = np.random.default_rng(seed)
        for asked in ASKED:
            for _ in range(DRAWS):
                rows = rng.choice(len(others), asked, replace=False)
                place = chosen(by_image[:, rows].mean(axis=1))
                found[f"{asked} validation images"].append(float(by_test[place].mean()))
        model = head(source.features.shape[1], int(y.max()) + 1)
        crossed = fit_probe(model, source.features, y, train=train, val=train[:0], seed=seed)
        found["cross-validation"].append(float(by_test[STRENGTHS.index(crossed.c)].mean()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = {"cells": cells(Path(folder)), "garments": garments(options.data)}
    columns = {
        f"{NAMES[name]}, {count}": measure(source, count, options.seeds)
        for name, source in sources.items()
        for count in COUNTS
    }
    lines = [f"| chosen on | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in next(iter(columns.values())):
        values = [
            f"{np.mean(found[name]):.3f}, {np.quantile(found[name], 0.95):.3f}" for found in columns.values()
        ]
        lines.append(f"| {name} | {' | '.join(values)} |")
    table = "\n".join(lines).replace("| 1 validation images", "| 1 validation image")
    print(table)
    if options.report:
        text = REPORT.format(
            folds=FOLDS, seeds=options.seeds, draws=DRAWS, enough=ENOUGH, table=table, machine=machine()
        )
        write_section(options.report, "Choosing on few validation images", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
