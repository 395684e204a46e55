"""Is a head better when it is fitted again, on training and validation images, once its setting is chosen?

    python benchmarks/refit.py [--data FOLDER] [--seeds 5] [--results FILE] [--report docs/results.md]

Features of EfficientNet-Lite0 (ImageNet weights) of the ELPV solar cells at 224 px (the extra ``demo``) and of
Fashion-MNIST at 96 px (FOLDER holds the four IDX files; Debian: package dataset-fashion-mnist), computed once and kept
in the feature cache. Each seed draws its own images to learn from, and of them the share of validation images that
``train`` takes by default; 624 cells and 5,000 garments are measured on, and nothing is fitted on them. Per head and
number of images: fitted on the training images (before), and again on training and validation images (after), at the
setting that was chosen before. The tasks: the classes; each class its own label (the cells': defective, and
polycrystalline); the probability of a defect and the mean brightness of a garment as numbers.

A second table tells where the temperature of the refitted head comes from best: kept from the first fit, or from
cross-validation over all images. What is in FILE is not computed again. The script reports; there is no target.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from reporting import machine, read_results, write_section
from scipy.special import expit, log_softmax, softmax
from sklearn.model_selection import train_test_split

from keras_transfer.backbones import load_backbone
from keras_transfer.data import ImageTable, load_data
from keras_transfer.evaluation.calibration import expected_calibration_error
from keras_transfer.evaluation.multilabel import multilabel_metrics
from keras_transfer.features import extract
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.classification import ENOUGH_TO_CALIBRATE
from keras_transfer.training.choosing import FOLDS
from keras_transfer.training.embedding_heads import fit_embedding_head
from keras_transfer.training.multilabel_probe import fit_multilabel_probe, refit_multilabel_probe
from keras_transfer.training.probe import fit_probe, out_of_fold_logits, refit_probe
from keras_transfer.training.regression_probe import (
    fit_regression_probe,
    refit_regression_probe,
)
from keras_transfer.training.temperature import PRIOR, fit_temperature
from keras_transfer.workflow.demo import cell_table, elpv_folder

COUNTS = (100, 500, 2000)
CELLS, GARMENTS, POOL = 624, 5000, 4000
"""Images that are measured on, and garments that seeds draw from."""
VALIDATION = DataSettings().val_fraction / (1 - DataSettings().test_fraction)
NAMES = {"cells": "ELPV", "garments": "Fashion-MNIST"}


@dataclass(frozen=True)
class Source:
    """Features ``(N, D)`` and, by task, what is to be learned; rows to draw from and to measure on (None: by seed)."""

    features: np.ndarray
    targets: dict[str, np.ndarray]
    pool: np.ndarray
    test: np.ndarray | None


def features_of(table: ImageTable, pixels: int) -> np.ndarray:
    backbone = load_backbone("efficientnet_lite0", image_size=pixels)
    preprocessing = Preprocessing((pixels, pixels))
    return extract(table, backbone, preprocessing=preprocessing, engine="litert").values


def cells(folder: Path) -> Source:
    """The solar cells, at the size ``train`` takes by default."""
    images = elpv_folder()
    source = folder / "cells.csv"
    source.write_text(cell_table(images), encoding="utf-8")
    table = load_data(source, image_root=images)
    facts = {}
    for line in (images / "labels.csv").read_text(encoding="utf-8").splitlines():
        if line.strip():
            path, probability, kind = line.split()
            facts[Path(path).name] = float(probability), kind == "poly"
    known = [facts[Path(table.images.path(row)).name] for row in range(len(table))]
    probability = np.array([one for one, _ in known])
    several = np.stack(
        [table.labels == table.classes.index("defective"), [poly for _, poly in known]], axis=1
    )
    targets = {
        "classes": table.labels,
        "labels": several.astype(np.uint8),
        "numbers": probability[:, None],
    }
    return Source(features_of(table, 224), targets, np.arange(len(table)), None)


def garments(data: Path) -> Source:
    """Fashion-MNIST: the first images of either part."""
    from gan import read_idx

    (images, labels), (others, truth) = read_idx(data, "train"), read_idx(data, "t10k")
    images = np.concatenate([images[:POOL], others[:GARMENTS]])
    labels = np.concatenate([labels[:POOL], truth[:GARMENTS]]).astype(np.int64)
    table = load_data((images, labels))
    targets = {
        "classes": labels,
        "labels": np.eye(10, dtype=np.uint8)[labels],
        "numbers": images.mean(axis=(1, 2, 3))[:, None],
    }
    rows = np.arange(len(labels))
    return Source(features_of(table, 96), targets, rows[:POOL], rows[POOL:])


def drawn(source: Source, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train, validate and measure on; classes keep their shares."""
    classes = source.targets["classes"]
    pool, test = source.pool, source.test
    if test is None:
        pool, test = train_test_split(pool, test_size=CELLS, stratify=classes[pool], random_state=seed)
    if count < len(pool):
        pool, _ = train_test_split(pool, train_size=count, stratify=classes[pool], random_state=seed)
    train, val = train_test_split(pool, test_size=VALIDATION, stratify=classes[pool], random_state=seed)
    return train, val, test


def head(dimensions: int, outputs: int, activation: str = "softmax") -> keras.Model:
    features = keras.Input((dimensions,))
    return add_head(keras.Model(features, keras.layers.Identity()(features)), outputs, activation=activation)


def scores(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What a linear head gives before its activation."""
    kernel, bias = model.get_layer("logits").get_weights()
    return x.astype(np.float64) @ kernel + bias


def of_classes(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    chance = softmax(logits, axis=1)
    return {
        "score": float(np.mean(logits.argmax(axis=1) == truth)),
        "loss": -float(np.mean(log_softmax(logits, axis=1)[np.arange(len(truth)), truth])),
        "calibration": expected_calibration_error(chance, truth),
    }


def of_labels(logits: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    names = [str(i) for i in range(truth.shape[1])]
    found = multilabel_metrics(expit(logits), truth, names, thresholds)
    return {
        "score": found["mean_average_precision"],
        "loss": found["log_loss"],
        "macro F1": found["macro_f1"],
    }


def of_numbers(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    spread = float(truth.std())
    return {
        "score": float(np.mean(np.abs(values - truth))) / spread,
        "loss": float(np.mean((values - truth) ** 2)) / spread**2,
    }


def linear(source: Source, train: Any, val: Any, test: Any, seed: int) -> dict[str, dict[str, float]]:
    """The probe of classes; ``after`` has the temperature from cross-validation, ``kept`` that of before."""
    x, y = source.features, source.targets["classes"]
    rows, classes = np.concatenate([train, val]), int(y.max()) + 1
    model = head(x.shape[1], classes)
    result = fit_probe(model, x, y, train=train, val=val, seed=seed)
    first = 1.0
    if len(val) >= ENOUGH_TO_CALIBRATE:
        first = fit_temperature(scores(model, x[val]), y[val], prior=PRIOR)
    found = {"before": of_classes(scores(model, x[test]) / first, y[test])}
    judged, logits = out_of_fold_logits(x, y, classes, rows=rows, c=result.c, seed=seed)
    crossed = fit_temperature(logits, y[judged], prior=PRIOR)
    refit_probe(model, x, y, rows=rows, c=result.c)
    found["after"] = of_classes(scores(model, x[test]) / crossed, y[test])
    found["kept"] = of_classes(scores(model, x[test]) / first, y[test])
    found["plain"] = of_classes(scores(model, x[test]), y[test])
    return found


def machine_head(kind: str):
    """An SVM; it is calibrated out of fold on what it learns from."""

    def measure(source: Source, train: Any, val: Any, test: Any, seed: int) -> dict[str, dict[str, float]]:
        x, y = source.features, source.targets["classes"]
        entry = keras.Input((x.shape[1],))
        extractor = keras.Model(entry, keras.layers.Identity()(entry))
        found = {}
        for name, refit in (("before", False), ("after", True)):
            fitted = fit_embedding_head(
                extractor, kind, x, y, int(y.max()) + 1, train=train, val=val, seed=seed, refit=refit
            )
            chance = fitted.head.predict(x[test], batch_size=1024, verbose=0)
            found[name] = of_classes(np.log(np.maximum(chance, 1e-12)), y[test])
        return found

    return measure


def several(source: Source, train: Any, val: Any, test: Any, seed: int) -> dict[str, dict[str, float]]:
    """The probe of labels, with the thresholds of the first fit."""
    x, y = source.features, source.targets["labels"]
    model = head(x.shape[1], y.shape[1], "sigmoid")
    result = fit_multilabel_probe(model, x, y, train=train, val=val, seed=seed)
    found = {"before": of_labels(scores(model, x[test]), y[test], result.thresholds)}
    refit_multilabel_probe(model, x, y, rows=np.concatenate([train, val]), c=result.c)
    return {**found, "after": of_labels(scores(model, x[test]), y[test], result.thresholds)}


def numbers(source: Source, train: Any, val: Any, test: Any, seed: int) -> dict[str, dict[str, float]]:
    """The probe of numbers, in units of their deviation."""
    x, y = source.features, source.targets["numbers"]
    model = head(x.shape[1], y.shape[1], "linear")
    result = fit_regression_probe(model, x, y, train=train, val=val, seed=seed)
    found = {"before": of_numbers(scores(model, x[test]), y[test])}
    refit_regression_probe(model, x, y, rows=np.concatenate([train, val]), alpha=result.alpha)
    return {**found, "after": of_numbers(scores(model, x[test]), y[test])}


HEADS = {
    "probe": linear,
    "labels": several,
    "numbers": numbers,
    "linear SVM": machine_head("svm"),
    "RBF SVM": machine_head("svm-rbf"),
}
SCORES = {"labels": "mean average precision", "numbers": "mean absolute error"}


def changed(found: list[dict[str, dict[str, float]]], name: str, way: str = "after") -> str:
    """``before | after | difference ± standard error`` over seeds."""
    before, after = (np.array([one[which][name] for one in found]) for which in ("before", way))
    unit, digits = (100, 2) if name in ("score", "calibration", "macro F1") else (1, 4)
    apart = unit * (after - before)
    error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else float("nan")
    return (
        f"{unit * before.mean():.{digits}f} | {unit * after.mean():.{digits}f} | "
        f"{apart.mean():+.{digits}f} ± {error:.{digits}f}"
    )


REPORT = """    python benchmarks/refit.py --report docs/results.md

The setting of a head is chosen on validation images, or by cross-validation where there are fewer than {enough}. Then
the head is fitted again on training and validation images together. `train` does this where the probe is the final
model; `--no-refit` turns it off. The table has the results before and after, on the features of EfficientNet-Lite0.
Figures are means over {seeds} seeds, each with its own images and split. The difference is paired, with its standard
error over the seeds. {share:.0%} of the images are validation images, as in `train`. {cells} solar cells or
{garments:,} garments are test images.

{table}

"probe" and the SVMs are classifiers. "labels" and "numbers" are the probes of the tasks `multilabel` and `regression`.
Losses are in nats per image, in nats per label, and as squared errors in units of the numbers' variance. Before, the
temperature is fitted on the validation images where there are at least {enough}. After, it is fitted by {folds}-fold
cross-validation over all images, at the chosen strength. The next table has the alternatives, as log loss and
calibration error (Guo et al. 2017) on the test images:

{temperatures}

Machine: {machine}.
"""


def report(found: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]], seeds: int) -> str:
    lines = [
        "| head | data | images | measured | before | after | difference | loss before | after | difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    others = [
        "| data | images | loss: first fit | again, same temperature | again, cross-validated | again, none "
        "| error: first fit | again, same temperature | again, cross-validated | again, none |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (kind, source, count), several_seeds in found.items():
        unit = "" if kind == "numbers" else " %"
        lines.append(
            f"| {kind} | {NAMES[source]} | {count:,} | {SCORES.get(kind, 'accuracy')},{unit or ' hundredths'} "
            f"| {changed(several_seeds, 'score')} | {changed(several_seeds, 'loss')} |"
        )
        if kind == "probe":
            ways = ("before", "kept", "after", "plain")
            losses = [np.mean([one[way]["loss"] for one in several_seeds]) for way in ways]
            errors = [100 * np.mean([one[way]["calibration"] for one in several_seeds]) for way in ways]
            others.append(
                f"| {NAMES[source]} | {count:,} | {' | '.join(f'{value:.4f}' for value in losses)} "
                f"| {' | '.join(f'{value:.2f} %' for value in errors)} |"
            )
    return REPORT.format(
        seeds=seeds,
        share=VALIDATION,
        cells=CELLS,
        garments=GARMENTS,
        enough=ENOUGH_TO_CALIBRATE,
        folds=FOLDS,
        table="\n".join(lines),
        temperatures="\n".join(others),
        machine=machine(),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    done = {tuple(row["what"]): row["found"] for row in read_results(options.results)}
    wanted = [
        (kind, name, count, seed)
        for kind in options.heads
        for name in NAMES
        for count in COUNTS
        for seed in range(options.seeds)
    ]
    sources: dict[str, Source] = {}
    for kind, name, count, seed in wanted:
        if (kind, name, count, seed) in done:
            continue
        if name not in sources:
            with tempfile.TemporaryDirectory() as folder:
                sources[name] = cells(Path(folder)) if name == "cells" else garments(options.data)
        one = HEADS[kind](sources[name], *drawn(sources[name], count, seed), seed)
        done[kind, name, count, seed] = one
        with options.results.open("a") as file:
            file.write(json.dumps({"what": [kind, name, count, seed], "found": one}) + "\n")
        print(kind, name, count, seed, one, flush=True)
    found: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]] = {}
    for what in wanted:
        found.setdefault(what[:3], []).append(done[what])
    text = report(found, options.seeds)
    print(text)
    if options.report:
        write_section(options.report, "Fitted again on validation images", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
