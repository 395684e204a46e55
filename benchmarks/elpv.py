"""Every way of training, on 2,624 real solar cells: accuracy over seeds, beside what was published.

    python benchmarks/elpv.py [--seeds 5] [--rows probe svm svm-rbf partial full] [--results FILE] [--report FILE]

ELPV (Deitsch et al. 2019, arXiv:1807.02894), installed by the extra ``demo``: label = probability of a defect > 0.5,
75 % to learn from (a tenth of all for validation), 25 % to test on, both shares the same in each class. Nothing is
chosen on test images: regularisation, epoch, guard and the best configuration are chosen on validation images.

A finished (row, seed) is kept in the results file (JSON lines) and not run again, so the table may grow over many
runs; an interrupted training goes on. ``--report`` writes the table as Markdown, with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

PUBLISHED = {"SVM (Deitsch et al. 2019)": 0.8244, "VGG-19, fine-tuned (Deitsch et al. 2019)": 0.8842}
DATA = {"val_fraction": 0.1, "test_fraction": 0.25}
HEADS = {"strategy": "probe", "image_size": 300}
GRADIENT = {
    "augment": "light",
    "flips": "both",
    "learning_rate": 2e-4,
    "label_smoothing": 0.1,
    "ema": 0.99,
    "monitor": "loss",
    "image_size": 224,
}
ROWS: dict[str, dict[str, Any]] = {
    "probe": {**HEADS},
    "svm": {**HEADS, "head": "svm"},
    "svm-rbf": {**HEADS, "head": "svm-rbf"},
    "partial": {
        **GRADIENT,
        "strategy": "finetune",
        "unfreeze": "from:block6a",
        "cache_boundary": "on",
        "views": 4,
        "epochs": 20,
        "patience": 8,
    },
    "full": {**GRADIENT, "strategy": "full", "epochs": 12, "patience": 12},
}
TITLES = {
    "probe": "probe (logistic regression), 300 px",
    "svm": "linear SVM, 300 px",
    "svm-rbf": "RBF SVM, 300 px",
    "partial": "fine-tuned from block6a, split-cache, 224 px",
    "full": "fine-tuned, all layers, 224 px",
}


def run_one(row: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one configuration with one seed; returns what is kept of it."""
    from keras_transfer.paths import atomic_write
    from keras_transfer.settings import TrainSettings
    from keras_transfer.tasks.builtin import ClassificationOptions
    from keras_transfer.workflow.demo import cell_table, elpv_folder
    from keras_transfer.workflow.train import train

    images = elpv_folder()
    table = folder / "cells.csv"
    atomic_write(table, cell_table(images))
    values = dict(ROWS[row])
    options = ClassificationOptions(head=values.pop("head", "linear"))
    settings = TrainSettings.of(**DATA, **values, image_root=str(images), seed=seed)
    begin = time.perf_counter()
    run = train(table, folder / f"{row}-{seed}", task_options=options, settings=settings, overwrite=True)
    test, notes = run.info["metrics"]["test"], run.info["training"]
    guard = notes.get("guard")
    return {
        "row": row,
        "seed": seed,
        "accuracy": test["accuracy"],
        "balanced_accuracy": test["balanced_accuracy"],
        "images": test["images"],
        "validation": None if guard is None else max(guard["probe"], guard["tuned"]),
        "kept": None if guard is None else guard["kept"],
        "epochs": None if guard is None else notes["gradient"]["epochs"],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def report(found: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "| way | seeds | accuracy | balanced accuracy | wall time |",
        "|---|---|---|---|---|",
    ]
    for row, title in TITLES.items():
        kept = [entry for entry in found if entry["row"] == row]
        if kept:
            lines.append(
                f"| {title} | {len(kept)} | {_spread(kept, 'accuracy')} | {_spread(kept, 'balanced_accuracy')} "
                f"| {mean(entry['seconds'] for entry in kept) / 60:.1f} min |"
            )
    best = best_on_validation(found)
    if best:
        lines.append(
            f"| the better of the two fine-tunings on validation | {len(best)} | {_spread(best, 'accuracy')} "
            f"| {_spread(best, 'balanced_accuracy')} | both |"
        )
    lines += [f"| {title} | - | {100 * value:.2f} % | - | - |" for title, value in PUBLISHED.items()]
    return "\n".join(lines)


def best_on_validation(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each seed with both fine-tunings, the one with the higher validation accuracy."""
    best = []
    for seed in sorted({entry["seed"] for entry in found}):
        pair = [entry for entry in found if entry["seed"] == seed and entry["row"] in ("partial", "full")]
        if len(pair) == 2:
            best.append(max(pair, key=lambda entry: entry["validation"]))
    return best


def _spread(entries: list[dict[str, Any]], name: str) -> str:
    values = [100 * entry[name] for entry in entries]
    return f"{mean(values):.1f} %" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def machine() -> str:
    """One line about where it ran."""
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert"))
    return (
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, {packages}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "elpv.jsonl")
    parser.add_argument("--work", type=Path, help="keep runs and interrupted trainings here")
    parser.add_argument("--report", type=Path, help="write the table as Markdown")
    options = parser.parse_args()
    found = (
        [json.loads(line) for line in options.results.read_text().splitlines()]
        if options.results.is_file()
        else []
    )
    done = {(entry["row"], entry["seed"]) for entry in found}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            for row in options.rows:
                if (row, seed) in done:
                    continue
                entry = run_one(row, seed, folder)
                found.append(entry)
                with options.results.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                print(json.dumps(entry), flush=True)
    table = report(found)
    print(table)
    if options.report:
        title = "# Results\n\nPrinted by `python benchmarks/elpv.py --report docs/results.md`.\n\n## Solar cells\n\n"
        about = (
            "2,624 electroluminescence images (Deitsch et al. 2019), label = probability of a defect above 0.5, "
            "25 % of each class to test on. EfficientNet-Lite0. Mean and standard deviation over seeds (of split and "
            "training); nothing was chosen on test images. Random splits probably mix cells of one solar module; the "
            "labels carry no module. The published rows are on the authors' split.\n\n"
        )
        options.report.write_text(f"{title}{about}{table}\n\nMachine: {machine()}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
