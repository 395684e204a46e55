"""Every way of training, on 2,624 real solar cells: accuracy over seeds, beside what was published.

    python benchmarks/elpv.py [--seeds 5] [--rows probe svm svm-rbf partial full full-300]
                              [--results FILE] [--report FILE]

ELPV (Deitsch et al. 2019, arXiv:1807.02894), installed by the extra ``demo``: label = probability of a defect > 0.5,
75 % to learn from, 25 % to test on, both with the same share of each class; for one seed all rows have the same test
images. Nothing is chosen on them: heads choose by cross-validation on the 75 %; fine-tuning holds a tenth of all
images out of the 75 % for epoch, guard and calibration, and the best configuration is the one with the highest mean
accuracy there.

A finished (row, configuration, seed) is kept in the results file (JSON lines) and not run again, so the table may grow
over many runs; an interrupted training goes on. ``--report`` writes the table as Markdown, with the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from reporting import machine, read_results, write_section

PUBLISHED = {"SVM (Deitsch et al. 2019)": 0.8244, "VGG-19, fine-tuned (Deitsch et al. 2019)": 0.8842}
HEADS = {"strategy": "probe", "image_size": 300, "val_fraction": 0.0}
GRADIENT = {
    "augment": "light",
    "flips": "both",
    "learning_rate": 3e-4,
    "label_smoothing": 0.1,
    "image_size": 224,
    "val_fraction": 0.1,
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
        "epochs": 10,
        "patience": 10,
    },
    "full": {**GRADIENT, "strategy": "full", "epochs": 10, "patience": 10},
    "full-300": {
        **GRADIENT,
        "strategy": "full",
        "epochs": 10,
        "patience": 10,
        "augment": "standard",
        "image_size": 300,
        "batch_size": 16,
        "learning_rate": 2e-4,
    },
}
FINE_TUNED = [row for row, values in ROWS.items() if values["strategy"] != "probe"]
TITLES = {
    "probe": "probe (logistic regression), 300 px",
    "svm": "linear SVM, 300 px",
    "svm-rbf": "RBF SVM, 300 px",
    "partial": "fine-tuned from block6a, split-cache, 224 px",
    "full": "fine-tuned, all layers, 224 px",
    "full-300": "fine-tuned, all layers, 300 px, augmented more",
}
VIEWS = {"": "", "_2_views": ", 2 views of each image"}
"""Plain answers, and the mean of those to an image and its mirror image (``evaluate --tta 2``)."""


REPORT = """    python benchmarks/elpv.py --report docs/results.md

The data are 2,624 electroluminescence images (Deitsch et al. 2019). A cell counts as defective if its probability of a
defect is above 0.5. 25 % of each class are test images (656 images). The network is EfficientNet-Lite0 with ImageNet
weights. Figures are the mean and the standard deviation over seeds; each seed has its own split and training. Heads are
chosen by cross-validation on the other 75 %. Fine-tuning takes a tenth of all images out of these 75 % to choose the
epoch and the model. Nothing was chosen on test images.

{table}

Times run from the image files to the measured model and are means over the seeds. Two trainings often ran at the same
time. In all but the first run the features of the heads come from the cache. Random splits probably mix cells of one
solar module, because the labels do not name the module. The published rows use the authors' split.

Machine: {machine}.
"""


def configuration(row: str) -> str:
    """What identifies a row's settings in the results file."""
    return hashlib.sha256(json.dumps(ROWS[row], sort_keys=True).encode()).hexdigest()[:8]


def split_table(images: Path, folder: Path, seed: int, val_fraction: float) -> Path:
    """The cells with their split. The test images depend on the seed alone."""
    from keras_transfer.data import load_data
    from keras_transfer.paths import atomic_write
    from keras_transfer.workflow.demo import cell_table

    plain, target = folder / "cells.csv", folder / f"cells-{seed}-{val_fraction}.csv"
    atomic_write(plain, cell_table(images))
    table = load_data(plain, image_root=images, val_fraction=0.1, test_fraction=0.25, seed=seed)
    lines = ["path,label,split"]
    for row in range(len(table)):
        split = "train" if table.splits[row] == "val" and not val_fraction else table.splits[row]
        path = table.images.path(row).relative_to(images).as_posix()
        lines.append(f"{path},{table.classes[table.labels[row]]},{split}")
    atomic_write(target, "\n".join(lines) + "\n")
    return target


def run_one(row: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one configuration with one seed; returns what is kept of it."""
    from keras_transfer.settings import TrainSettings
    from keras_transfer.tasks.builtin import ClassificationOptions
    from keras_transfer.workflow.demo import elpv_folder
    from keras_transfer.workflow.evaluate import evaluate
    from keras_transfer.workflow.train import train

    images = elpv_folder()
    values = dict(ROWS[row])
    table = split_table(images, folder, seed, values["val_fraction"])
    options = ClassificationOptions(head=values.pop("head", "linear"))
    settings = TrainSettings.of(**values, test_fraction=0.0, image_root=str(images), seed=seed)
    wall, processor = time.perf_counter(), time.process_time()
    run = train(table, folder / f"{row}-{seed}", task_options=options, settings=settings, overwrite=True)
    entry = {
        "row": row,
        "seed": seed,
        "configuration": configuration(row),
        "resumed": run.info["resumed"],
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    measured = {"": run.info["metrics"]["test"]}
    if row in FINE_TUNED:
        measured["_2_views"] = evaluate(run, views=2)
        guard = run.info["training"]["guard"]
        entry["kept"], entry["probe_validation"] = guard["kept"], guard["probe"]
        entry["best_epoch"] = run.info["training"]["gradient"]["best_epoch"]
        for name, views in (("", 1), ("_2_views", 2)):
            entry[f"validation{name}"] = evaluate(run, split="val", views=views)["accuracy"]
    for name, metrics in measured.items():
        entry[f"accuracy{name}"] = metrics["accuracy"]
        entry[f"balanced_accuracy{name}"] = metrics["balanced_accuracy"]
    return {**entry, "images": measured[""]["images"]}


def report(found: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "| way | seeds | accuracy | balanced accuracy | wall time | processor time |",
        "|---|---|---|---|---|---|",
    ]
    for row, name in _configurations(found):
        kept = [entry for entry in found if entry["row"] == row]
        wall, processor = (
            "" if name else f"{mean(entry[key] for entry in kept) / 60:.1f} min"
            for key in ("seconds", "processor_seconds")
        )
        lines.append(
            f"| {TITLES[row]}{VIEWS[name]} | {len(kept)} | {_spread(kept, f'accuracy{name}')} "
            f"| {_spread(kept, f'balanced_accuracy{name}')} | {wall} | {processor} |"
        )
    lines += [f"| {title} | - | {100 * value:.2f} % | - | - | - |" for title, value in PUBLISHED.items()]
    best = best_on_validation(found)
    if best:
        row, name, validation = best
        kept = [entry for entry in found if entry["row"] == row]
        lines += [
            "",
            f"Best configuration on the validation images: {TITLES[row]}{VIEWS[name]} ({100 * validation:.1f} % "
            f"there, on the seeds that all of these have had); on the test images {_spread(kept, f'accuracy{name}')}.",
        ]
    return "\n".join(lines)


def best_on_validation(found: list[dict[str, Any]]) -> tuple[str, str, float] | None:
    """The fine-tuning (row and views) with the highest mean validation accuracy, on the seeds all have had."""
    tuned = [entry for entry in found if entry["row"] in FINE_TUNED]
    rows = {entry["row"] for entry in tuned}
    seeds = {entry["seed"] for entry in tuned}
    shared = {s for s in seeds if rows == {entry["row"] for entry in tuned if entry["seed"] == s}}
    compared = [entry for entry in tuned if entry["seed"] in shared]
    scores = [
        (mean(entry[f"validation{name}"] for entry in compared if entry["row"] == row), row, name)
        for row, name in _configurations(compared)
    ]
    return (max(scores)[1:] + max(scores)[:1]) if scores else None


def _configurations(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    rows = [row for row in TITLES if any(entry["row"] == row for entry in found)]
    return [(row, name) for row in rows for name in VIEWS if not name or row in FINE_TUNED]


def _spread(entries: list[dict[str, Any]], name: str) -> str:
    values = [100 * entry[name] for entry in entries]
    return f"{mean(values):.1f} %" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "elpv.jsonl")
    parser.add_argument("--work", type=Path, help="keep runs and interrupted trainings here")
    parser.add_argument("--report", type=Path, help="write the table as Markdown")
    options = parser.parse_args()
    found = read_results(options.results)
    found = [entry for entry in found if entry["configuration"] == configuration(entry["row"])]
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
        write_section(options.report, "Solar cells", REPORT.format(table=table, machine=machine()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
