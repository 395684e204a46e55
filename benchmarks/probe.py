"""From image files to a trained classifier: the probe against the usual Keras recipe. Both in one run.

    python benchmarks/probe.py [--images 1600] [--json]

- ``probe``: files -> features through OpenVINO where it is installed, else LiteRT -> logistic regression, everything
  cold: an empty cache, the backbone converted on the way;
- ``recipe``: the same files through ``keras.utils.image_dataset_from_directory``, the same pretrained network frozen,
  GlobalAveragePooling and Dense on it, 10 epochs of ``fit`` with Adam, as Keras's transfer-learning guide does it.

EfficientNet-Lite0 at 224 px on real solar cells (extra ``demo``), the same training, validation and test images. Exit
code 1 when the probe is less than 8 times faster, or its test accuracy more than a point lower.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

SIZE, EPOCHS = 224, 10
BAR, POINT = 8.0, 0.01


def photos(count: int, folder: Path) -> Path:
    """``count`` cells, evenly drawn, as train/, val/ and test/ with a folder per class."""
    from keras_transfer.data import load_data
    from keras_transfer.workflow.demo import cell_table, elpv_folder

    images = elpv_folder()
    lines = cell_table(images).splitlines()
    step = max(1, (len(lines) - 1) // count)
    source = folder / "cells.csv"
    source.write_text("\n".join([lines[0], *lines[1::step][:count]]) + "\n")
    table = load_data(source, image_root=images, val_fraction=0.1, test_fraction=0.25)
    for row in range(len(table)):
        target = folder / "data" / str(table.splits[row]) / table.classes[table.labels[row]]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(table.images.path(row), target)
    return folder / "data"


def probe(data: Path, folder: Path) -> dict:
    """Our way."""
    from keras_transfer.engine_choice import openvino_is_missing
    from keras_transfer.workflow.train import train

    engine = "litert" if openvino_is_missing() else "openvino"
    begin = time.perf_counter()
    run = train(data, folder / "run", strategy="probe", image_size=SIZE, engine=engine)
    seconds = time.perf_counter() - begin
    timed = run.info["seconds"]
    return {
        "engine": run.info["training"]["features"]["engine"],
        "seconds": seconds - timed["evaluation"],
        "accuracy": run.info["metrics"]["test"]["accuracy"],
    }


def recipe(data: Path) -> dict:
    """The usual way."""
    import keras

    from keras_transfer.backbones import load_backbone

    def read(split: str, shuffle: bool):
        return keras.utils.image_dataset_from_directory(
            data / split, image_size=(SIZE, SIZE), batch_size=32, shuffle=shuffle, seed=0, verbose=False
        )

    begin = time.perf_counter()
    keras.utils.set_random_seed(0)
    base = load_backbone("efficientnet_lite0", image_size=SIZE)
    base.trainable = False
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(image, training=False))
    x = keras.layers.Dense(2)(keras.layers.Dropout(0.2)(x))
    model = keras.Model(image, x)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(read("train", True), validation_data=read("val", False), epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "accuracy": model.evaluate(read("test", False), verbose=0)[1]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TRANSFER_CACHE"] = str(Path(folder) / "cache")
        data = photos(options.images, Path(folder))
        found = {"probe": probe(data, Path(folder)), "recipe": recipe(data)}
    ratio = found["recipe"]["seconds"] / found["probe"]["seconds"]
    lower = found["recipe"]["accuracy"] - found["probe"]["accuracy"]
    if options.json:
        print(json.dumps({**found, "ratio": ratio, "bar": BAR}, indent=1))
    else:
        for name, row in found.items():
            by = f" ({row['engine']})" if "engine" in row else ""
            print(
                f"  {name:<7} {row['seconds']:7.1f} s to a trained classifier, test accuracy {row['accuracy']:.4f}{by}"
            )
        print(f"  recipe/probe {ratio:.1f}x (bar {BAR:g}x)")
    passed = ratio >= BAR and lower <= POINT
    if not passed:
        print(f"Below the bar: {ratio:.1f}x, accuracy lower by {100 * lower:.1f} points", file=sys.stderr)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
