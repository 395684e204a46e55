"""Every family of backbones as float32, float16, dynamic range and int8: does it convert, and does it answer the same?

    python benchmarks/export_matrix.py [--size 128] [--backbones resnet18 ...] [--report docs/export-matrix.md]

The smallest backbone of each family and every network that is built here, with random weights (a converter sees
operators, not what they have learned) and batch-normalization statistics taken from real images, so that answers depend
on the image: a fresh network gives the same answer to all. A logistic regression on its features tells crops of two
photographs apart (scikit-learn's china.jpg and flower.jpg); EfficientNet-Lite has its ImageNet weights. A backbone is
one row a precision; one that cannot be converted is listed with the reason.

Each finished backbone is printed at once, and kept in the results file (JSON lines), from which a later run goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from reporting import machine, read_results
from sklearn.datasets import load_sample_image

from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.weights import find_provider
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import KerasTransferError
from keras_transfer.export.parity import Judge, breaches, measure_parity, tolerance_for
from keras_transfer.export.quantization import convert_dynamic, convert_integer
from keras_transfer.heads import LOGITS, add_head, split_head
from keras_transfer.inference import KerasRunner
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.probe import fit_probe
from keras_transfer.training.temperature import fold_temperature

PRECISIONS = ("float32", "float16", "dynamic", "int8")
CROP, LEARN, TEST, CALIBRATE = 160, 60, 100, 16
SPREAD = 3.0
"""Standard deviation that the difference of the two logits is brought to."""
REPORT = """# Export matrix

    python benchmarks/export_matrix.py --report docs/export-matrix.md

The table has the smallest backbone of every family, and every network that this project builds itself, at {size} px,
with a head for two classes, in four precisions. EfficientNet-Lite has its ImageNet weights. The others have random
weights, batch-normalization statistics from real images, and logits scaled to the same spread. The files are compared
with Keras on {test} crops of two photographs that nothing was fitted on. `seconds` is the time of the conversion. int8
keeps the first layers and the head in float and uses {calibrate} calibration images. "ok" means within the tolerance of
an export: float32 agrees within 1e-4 on every image, the others lose at most 1 point of accuracy. Random weights
quantize differently from trained ones. What int8 costs a trained network is measured by its own export.

{table}

Machine: {machine}.
"""
JUDGE = Judge(
    ("china", "flower"),
    measure=lambda answers, truth: {"accuracy": float(np.mean(answers.argmax(axis=1) == truth))},
)


def crops(count: int, seed: int, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """``count`` crops of each photograph, uint8 ``(2 count, H, W, 3)``, and their labels."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label, name in enumerate(("china.jpg", "flower.jpg")):
        photo = load_sample_image(name)
        for _ in range(count):
            y, x = rng.integers(0, photo.shape[0] - CROP), rng.integers(0, photo.shape[1] - CROP)
            images.append(preprocessing.apply(np.array(photo[y : y + CROP, x : x + CROP])))
            labels.append(label)
    return np.stack(images), np.array(labels)


def classifier(name: str, size: int, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A backbone whose answers depend on the image, with a fitted head."""
    keras.utils.set_random_seed(0)
    weights = "auto" if find_provider(name) is not None else "none"
    backbone = load_backbone(name, image_size=size, weights=weights)
    if weights == "none":
        rng = np.random.default_rng(0)
        for variable in backbone.weights:
            if variable.path.endswith("gamma"):  # of normalizations, and ConvNeXt's layer scales
                variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        if any(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone.layers):
            adapt_batchnorm(backbone, images.astype(np.float32))
    model = add_head(backbone, 2, dropout=0.0, seed=0)
    features = KerasRunner(split_head(model)[0]).predict(images)
    rows = np.arange(len(images))
    fit_probe(model, features, labels, train=rows[rows % 4 > 0], val=rows[rows % 4 == 0])
    logits = features @ model.get_layer(LOGITS).get_weights()[0]
    # Decided answers: a head that hardly tells the images apart would hide every difference.
    fold_temperature(model, float((logits[:, 0] - logits[:, 1]).std()) / SPREAD)
    return model


def convert_to(model: keras.Model, precision: str, calibration: np.ndarray) -> bytes:
    if precision == "int8":
        return convert_integer(model, lambda: [calibration])
    return convert_dynamic(model) if precision == "dynamic" else convert(model, precision)


def chosen() -> list[str]:
    """The smallest backbone of each family, and all that ``keras.applications`` does not have."""
    smallest = {
        family: min((one for one in CATALOG.values() if one.family == family), key=lambda one: one.params)
        for family in dict.fromkeys(spec.family for spec in CATALOG.values())
    }
    return [
        spec.name
        for spec in CATALOG.values()
        if spec in smallest.values() or not spec.constructor.startswith("keras.applications:")
    ]


def measure(name: str, size: int) -> list[dict[str, Any]]:
    """One row a precision."""
    spec = CATALOG[name]
    preprocessing = Preprocessing((size, size))
    images, labels = crops(LEARN, 0, preprocessing)
    unseen, truth = crops(TEST // 2, 1, preprocessing)
    model = classifier(spec.name, size, images, labels)
    expected = KerasRunner(model).predict(unseen)
    rows = []
    for precision in PRECISIONS:
        row: dict[str, Any] = {
            "family": spec.family,
            "backbone": spec.name,
            "precision": precision,
            "size": size,
        }
        start = time.perf_counter()
        try:
            content = convert_to(
                model, precision, images[np.linspace(0, len(images) - 1, CALIBRATE).astype(int)]
            )
            row["seconds"] = round(time.perf_counter() - start, 1)
            answers = LiteRTModel(content).predict(unseen)
        except KerasTransferError as error:
            rows.append({**row, "reason": " ".join(str(error).split())[:200]})
            continue
        parity = measure_parity(expected, answers, JUDGE, truth)
        rows.append(
            {
                **row,
                "bytes": len(content),
                "max_difference": parity.max_difference,
                "agreement": parity.agreement,
                "accuracy": parity.score,
                "keras_accuracy": parity.keras_score,
                "breaches": list(breaches(parity, tolerance_for(precision, JUDGE, expected), JUDGE)),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| family | backbone | precision | seconds | MB | largest difference | agreement | accuracy (Keras) | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['family']} | {row['backbone']} | {row['precision']} |"
        if "reason" in row:
            lines.append(f"{start} | | | | | not converted: {row['reason']} |")
            continue
        lines.append(
            f"{start} {row['seconds']:.0f} | {row['bytes'] / 1e6:.1f} | {row['max_difference']:.1e} "
            f"| {100 * row['agreement']:.0f} % | {100 * row['accuracy']:.0f} % ({100 * row['keras_accuracy']:.0f} %) "
            f"| {'beyond its tolerance' if row['breaches'] else 'ok'} |"
        )
    return "\n".join(lines)


def main() -> int:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="image size in pixels")
    parser.add_argument("--backbones", nargs="+", choices=list(CATALOG), default=chosen(), metavar="BACKBONE")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "export_matrix.jsonl")
    parser.add_argument("--report", type=Path, help="write the table as Markdown")
    options = parser.parse_args()
    found = [row for row in read_results(options.results) if row["size"] == options.size]
    for name in options.backbones:
        if any(row["backbone"] == name for row in found):
            continue
        rows = measure(name, options.size)
        found += rows
        with options.results.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(table(rows), flush=True)
        keras.backend.clear_session()
    found.sort(key=lambda row: list(CATALOG).index(row["backbone"]))
    print(table(found))
    if options.report:
        options.report.write_text(
            REPORT.format(
                size=options.size, test=TEST, calibrate=CALIBRATE, table=table(found), machine=machine()
            )
        )
    failed = [row for row in found if "reason" in row or (row["precision"] == "float32" and row["breaches"])]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
