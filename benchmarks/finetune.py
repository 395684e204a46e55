"""How fast is training on cached activations? Against ``fit`` on the same frozen network, side by side in one run.

    python benchmarks/finetune.py [--images 1536] [--epochs 4] [--batch-size 32] [--json]

EfficientNet-Lite0 at 224 px with its ImageNet weights and a head for two classes, on real images (ELPV solar cells
where the package ``elpv-dataset`` is installed, otherwise crops of scikit-learn's two photographs). For each rule of
what trains, ``30%`` (the default) and ``blocks:1`` (the last block):

- ``stock``: ``fit`` on the whole network, its lower layers frozen, with Keras's AdamW, fed by ``tf_dataset`` (decoding
  ahead in threads);
- ``cached``: the lower part once through ``features.activations``, then ``fit`` on the upper part alone, with this
  package's AdamW (the same numbers from fewer passes over the memory);
- ``cached, stock optimizer``: the same with Keras's AdamW, two epochs: what the cache alone gives.

All start from the same probe and train the same layers on the same batches in the same order, at a rate that rises and
falls as in the product, dropout in the backbone off. Half of the images are learned from, the other half measures.
Rates are images of an epoch over its seconds, the median of all epochs but the first (which traces the graph).
The one-time cost of caching is printed beside them, conversion included, and the epochs after which it is earned.

Exit code 1 when a ratio is below its bar (30%: 2.3, blocks:1: 5), or the validation accuracies differ by more than
half a point.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from extraction import image_table

SIZE = (224, 224)
BARS = {"30%": 2.3, "blocks:1": 5.0}
POINTS = 0.5
ALONE = "cached, stock optimizer"


def measure(count: int, epochs: int, batch_size: int, folder: Path) -> dict:
    """Run everything; rates, ratios and accuracies by rule."""
    (folder / "images").mkdir()
    table, images = image_table(count, folder / "images", val_fraction=0.5)
    result: dict = {"images": len(table), "source": images, "epochs": epochs, "batch_size": batch_size}
    result["rules"] = {rule: compare(rule, table, epochs, batch_size) for rule in BARS}
    return result


def compare(rule: str, table, epochs: int, batch_size: int) -> dict:
    """One rule, both ways."""
    import keras
    import numpy as np

    from keras_transfer.backbones import load_backbone
    from keras_transfer.data import tf_dataset
    from keras_transfer.features import extract
    from keras_transfer.features.activations import activations
    from keras_transfer.features.boundary import cut_at, find_boundary, frozen_dropout_off
    from keras_transfer.freezing import set_trainable
    from keras_transfer.heads import add_head, logits_model, split_head
    from keras_transfer.preprocessing import Preprocessing
    from keras_transfer.training.optimizers import NOT_DECAYED, make_optimizer
    from keras_transfer.training.probe import fit_probe
    from keras_transfer.training.schedules import make_schedule
    from keras_transfer.training.split_cache import SplitFeed

    preprocessing = Preprocessing(SIZE)
    train, val = table.indices("train"), table.indices("val")
    order = {"batch_size": batch_size, "shuffle": True, "seed": 0, "repeat": True}
    row: dict = {"train": len(train), "val": len(val), "rates": {}, "accuracy": {}}

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs=None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    for way in ("stock", "cached", ALONE):
        keras.utils.set_random_seed(0)
        model = add_head(load_backbone("efficientnet_lite0", image_size=SIZE), len(table.classes))
        features = extract(table, split_head(model)[0], preprocessing=preprocessing, engine="litert").values
        fit_probe(model, features, table.labels, train=train, val=val)
        set_trainable(model, rule)
        with frozen_dropout_off(model, trained_too=True):
            name = find_boundary(model)
            assert name is not None
            lower, upper = cut_at(model, name)
            if way == "stock":
                network = logits_model(model)
                data = tf_dataset(table, preprocessing, indices=train, **order)
            else:
                network = upper
                kept = activations(table, lower, preprocessing=preprocessing, indices=train, engine="litert")
                if way == "cached":
                    row["boundary"], row["engine"] = name, kept.engine
                    row["kilobytes_an_image"] = kept.values[0, 0].nbytes / 1000
                    row["caching_seconds"] = kept.seconds
                    row["of_these_conversion_and_check"] = kept.preparation_seconds
                data = SplitFeed(kept).dataset(table.labels.astype(np.int32), rows=train, **order)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            steps, clock = math.ceil(len(train) / batch_size), Clock()
            total = steps * epochs
            rate = make_schedule("cosine", 2e-4, total_steps=total, warmup_steps=total // 10)
            if way == "cached":
                optimizer = make_optimizer("adamw", rate, weight_decay=1e-4)
            else:
                optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
                optimizer.exclude_from_weight_decay(var_names=[NOT_DECAYED])
            network.compile(optimizer, loss)
            network.fit(
                data,
                steps_per_epoch=steps,
                epochs=2 if way == ALONE else epochs,
                shuffle=False,
                verbose=0,
                callbacks=[clock],
            )
        row["rates"][way] = len(train) / median(clock.seconds[1:])
        if way == ALONE:
            continue
        whole = logits_model(model)
        scores = whole.predict(tf_dataset(table, preprocessing, batch_size, indices=val), verbose=0)
        row["accuracy"][way] = float(np.mean(scores.argmax(axis=1) == table.labels[val]))
    row["ratio"] = row["rates"]["cached"] / row["rates"]["stock"]
    row["ratio_of_the_cache_alone"] = row["rates"][ALONE] / row["rates"]["stock"]
    saved = len(train) / row["rates"]["stock"] - len(train) / row["rates"]["cached"]
    row["earned_after_epochs"] = row["caching_seconds"] / saved if saved > 0 else math.inf
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--epochs", type=int, default=4, help="at least 2: the first one traces the graph")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2: the first one traces the graph and is not counted")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TRANSFER_CACHE"] = str(Path(folder) / "cache")
        result = measure(options.images, options.epochs, options.batch_size, Path(folder))
    missed = []
    for rule, row in result["rules"].items():
        if row["ratio"] < BARS[rule]:
            missed.append(f"{rule}: {row['ratio']:.2f}x (bar {BARS[rule]:g}x)")
        apart = 100 * abs(row["accuracy"]["stock"] - row["accuracy"]["cached"])
        if apart > POINTS:
            missed.append(f"{rule}: accuracies {apart:.2f} points apart (at most {POINTS:g})")
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['images']} images: {result['source']}; {result['epochs']} epochs")
        for rule, row in result["rules"].items():
            rates, accuracy = row["rates"], row["accuracy"]
            print(
                f"{rule}: cut at {row['boundary']}, {row['kilobytes_an_image']:.0f} kB an image, {row['engine']}"
            )
            print(f"  stock   {rates['stock']:8.1f} images/s, validation accuracy {accuracy['stock']:.2%}")
            print(f"  cached  {rates['cached']:8.1f} images/s, validation accuracy {accuracy['cached']:.2%}")
            print(
                f"  ratio   {row['ratio']:8.2f}x (bar {BARS[rule]:g}x); {row['ratio_of_the_cache_alone']:.2f}x by the "
                "cache alone"
            )
            print(
                f"  caching {row['caching_seconds']:8.1f} s once (conversion and check "
                f"{row['of_these_conversion_and_check']:.1f} s), earned after {row['earned_after_epochs']:.1f} epochs"
            )
    if missed:
        print(f"Below the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
