"""How fast is training on cached activations? Against ``fit`` on the same frozen network, side by side in one run.

    python benchmarks/finetune.py [--images 2624] [--epochs 4] [--seeds 3] [--batch-size 32] [--json]

EfficientNet-Lite0 at 224 px with its ImageNet weights and a head for two classes, on real images (ELPV solar cells
where the package ``elpv-dataset`` is installed, otherwise crops of scikit-learn's two photographs). For each rule of
what trains, ``30%`` (the default) and ``blocks:1`` (the last block):

- ``stock``: ``fit`` on the whole network, its lower layers frozen, fed by ``tf_dataset`` (decoding ahead in threads);
- ``cached``: as ``train`` does it. The lower part once through ``features.activations``, then ``fit`` on the upper part
  alone, its frozen normalization folded into the convolutions (``training.folding``).

Both start from the same probe and train the same layers on the same batches in the same order, with the same optimizer
at a rate that rises and falls, dropout in the backbone off. They take turns epoch by epoch, so that what else the
machine does meets both. A rate is images over seconds from the end of an epoch's first step (which traces the graph,
and waits for the first images) to its last, the median of all epochs of all seeds. Accuracies are of the 70 % of the
images that are not learned from, the mean over seeds: float16 changes the weights by a rounding, training makes that
another path, and one path alone says little.
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
from statistics import mean, median

from extraction import image_table

SIZE = (224, 224)
BARS = {"30%": 2.3, "blocks:1": 5.0}
POINTS = 0.5


def measure(count: int, epochs: int, seeds: int, batch_size: int, folder: Path) -> dict:
    """Run everything; rates, ratios and accuracies by rule."""
    (folder / "images").mkdir()
    table, images = image_table(count, folder / "images", val_fraction=0.7, test_fraction=0)
    result: dict = {
        "images": len(table),
        "source": images,
        "epochs": epochs,
        "seeds": seeds,
        "batch_size": batch_size,
    }
    result["rules"] = {rule: compare(rule, table, epochs, seeds, batch_size) for rule in BARS}
    return result


def compare(rule: str, table, epochs: int, seeds: int, batch_size: int) -> dict:
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
    from keras_transfer.training.folding import fold_frozen_norms
    from keras_transfer.training.probe import fit_probe
    from keras_transfer.training.schedules import make_schedule
    from keras_transfer.training.split_cache import SplitFeed

    preprocessing = Preprocessing(SIZE)
    train, val = table.indices("train"), table.indices("val")
    steps = len(train) // batch_size
    train = train[: steps * batch_size]
    labels = table.labels.astype(np.int32)
    row: dict = {"train": len(train), "val": len(val)}
    rates: dict[str, list[float]] = {"stock": [], "cached": []}
    accuracies: dict[str, list[float]] = {"stock": [], "cached": []}

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs=None) -> None:
            if batch == 0:
                self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.rate = (steps - 1) * batch_size / (time.perf_counter() - self.began)

    def probe(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = add_head(load_backbone("efficientnet_lite0", image_size=SIZE), len(table.classes))
        features = extract(table, split_head(model)[0], preprocessing=preprocessing, engine="litert").values
        fit_probe(model, features, table.labels, train=train, val=val)
        set_trainable(model, rule)
        return model

    for seed in range(seeds):
        order = {"batch_size": batch_size, "shuffle": True, "seed": seed}
        models = {way: probe(seed) for way in rates}
        with (
            frozen_dropout_off(models["stock"], trained_too=True),
            frozen_dropout_off(models["cached"], trained_too=True),
        ):
            name = find_boundary(models["cached"])
            assert name is not None
            lower, upper = cut_at(models["cached"], name)
            kept = activations(table, lower, preprocessing=preprocessing, indices=train, engine="litert")
            if seed == 0:
                row["boundary"], row["engine"] = name, kept.engine
                row["kilobytes_an_image"] = kept.values[0, 0].nbytes / 1000
                row["caching_seconds"] = kept.seconds
                row["of_these_conversion_and_check"] = kept.preparation_seconds
            networks = {"stock": logits_model(models["stock"]), "cached": fold_frozen_norms(upper)}
            for network in networks.values():
                schedule = make_schedule(
                    "cosine", 2e-4, total_steps=steps * epochs, warmup_steps=steps * epochs // 10
                )
                network.compile(
                    keras.optimizers.AdamW(schedule, weight_decay=1e-4),
                    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                )
            for epoch in range(epochs):
                for way, network in networks.items():
                    if way == "stock":
                        data = tf_dataset(table, preprocessing, indices=train, first_epoch=epoch, **order)
                    else:
                        data = SplitFeed(kept).dataset(labels, rows=train, first_epoch=epoch, **order)
                    clock = Clock()
                    network.fit(
                        data,
                        initial_epoch=epoch,
                        epochs=epoch + 1,
                        shuffle=False,
                        verbose=0,
                        callbacks=[clock],
                    )
                    rates[way].append(clock.rate)
        for way, model in models.items():
            scores = logits_model(model).predict(
                tf_dataset(table, preprocessing, batch_size, indices=val), verbose=0
            )
            accuracies[way].append(float(np.mean(scores.argmax(axis=1) == labels[val])))
    row["rates"] = {way: median(found) for way, found in rates.items()}
    row["accuracies"] = accuracies
    row["accuracy"] = {way: mean(found) for way, found in accuracies.items()}
    row["ratio"] = row["rates"]["cached"] / row["rates"]["stock"]
    saved = len(train) / row["rates"]["stock"] - len(train) / row["rates"]["cached"]
    row["earned_after_epochs"] = row["caching_seconds"] / saved if saved > 0 else math.inf
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2624)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3, help="of head, order and dropout")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TRANSFER_CACHE"] = str(Path(folder) / "cache")
        result = measure(options.images, options.epochs, options.seeds, options.batch_size, Path(folder))
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
        print(
            f"{result['images']} images: {result['source']}; {result['epochs']} epochs, {result['seeds']} seeds"
        )
        for rule, row in result["rules"].items():
            rates, accuracy = row["rates"], row["accuracy"]
            print(
                f"{rule}: cut at {row['boundary']}, {row['kilobytes_an_image']:.0f} kB an image, {row['engine']}"
            )
            print(f"  stock   {rates['stock']:8.1f} images/s, validation accuracy {accuracy['stock']:.2%}")
            print(f"  cached  {rates['cached']:8.1f} images/s, validation accuracy {accuracy['cached']:.2%}")
            print(f"  ratio   {row['ratio']:8.2f}x (bar {BARS[rule]:g}x)")
            apart = [100 * (b - a) for a, b in zip(*row["accuracies"].values(), strict=True)]
            print("  apart   " + ", ".join(f"{points:+.2f}" for points in apart) + " points, seed by seed")
            print(
                f"  caching {row['caching_seconds']:8.1f} s once (conversion and check "
                f"{row['of_these_conversion_and_check']:.1f} s), earned after {row['earned_after_epochs']:.1f} epochs"
            )
    if missed:
        print(f"Below the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
