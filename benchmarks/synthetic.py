"""Do generated images help a classifier? Fashion-MNIST, few real images, and a GAN trained on the same ones.

    python benchmarks/synthetic.py [--data FOLDER] [--each 20 100] [--steps 1000] [--report docs/results.md]

FOLDER holds the four IDX files (Debian: package dataset-fashion-mnist). A conditional GAN learns from so many real
images of each class and makes five for each of them. A classifier then learns from the real images, from real and made
ones, from made ones alone, and from real ones that are shifted and mirrored: a logistic regression on the features of
EfficientNet-Lite0 at 64 px, and a small convolutional network from random weights, with the same number of steps for
all. They are measured on 2,000 test images that nothing was fitted on. The seed chooses the real images, the weights
and the order. The script reports; there is no target.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import keras
import numpy as np
from gan import BATCH, NAMES, Ours, read_idx
from keras import layers
from keras_transfer_gan.drawing import draw
from reporting import machine, write_section
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_transfer.backbones import load_backbone

TIMES, TESTED, SEEDS = 5, 2000, (0, 1, 2)
STEPS_OF_NETWORK, PIXELS = 600, 64
WAYS = {
    "real": "real",
    "real, shifted and mirrored": "changed",
    "real and generated": "both",
    "generated": "made",
}


def choose(labels: np.ndarray, each: int, seed: int) -> np.ndarray:
    """Places of ``each`` images of every class."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(labels == number), each, replace=False) for number in range(len(NAMES))]
    )


class Features:
    """The pooled features of Lite0, ImageNet weights."""

    def __init__(self) -> None:
        backbone = load_backbone("efficientnet_lite0", image_size=PIXELS)
        given = keras.Input((28, 28, 1))
        x = layers.Resizing(PIXELS, PIXELS)(layers.Concatenate()([given] * 3))
        self.model = keras.Model(given, layers.GlobalAveragePooling2D()(backbone(x, training=False)))

    def of(self, images: np.ndarray) -> np.ndarray:
        """(N, 28, 28, 1) to (N, D)."""
        return self.model.predict(images.astype(np.float32), batch_size=BATCH, verbose=0)


def probe(features: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of a logistic regression."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return float(model.fit(features, labels).score(test, truth))


def network(
    images: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int, change: bool
) -> float:
    """Accuracy of a small network from random weights."""
    keras.utils.set_random_seed(seed)
    changes = [layers.RandomFlip("horizontal"), layers.RandomTranslation(0.1, 0.1)] if change else []
    blocks = [
        layer
        for filters in (32, 64, 128)
        for layer in (
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
        )
    ]
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(len(NAMES))]
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(1 / 255), *changes, *blocks, *head])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, STEPS_OF_NETWORK)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    order = np.random.default_rng(seed)
    count = -(-STEPS_OF_NETWORK * BATCH // len(images))
    rows = np.concatenate([order.permutation(len(images)) for _ in range(count)])[: STEPS_OF_NETWORK * BATCH]
    model.fit(images[rows].astype(np.float32), labels[rows], batch_size=BATCH, shuffle=False, verbose=0)
    return float(model.evaluate(test.astype(np.float32), truth, batch_size=256, verbose=0)[1])


def spread(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} % ± {100 * stdev(values):.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--each", type=int, nargs="+", default=[20, 100], help="real images of a class")
    parser.add_argument("--steps", type=int, default=1000, help="of the generator")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    images, labels = read_idx(options.data, "train")
    test, truth = (part[:TESTED] for part in read_idx(options.data, "t10k"))
    features = Features()
    of_test = features.of(test)
    lines = [
        "| real images per class | learned from | logistic regression on Lite0 | small network |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        for each in options.each:
            found: dict[str, list[tuple[float | None, float]]] = {name: [] for name in WAYS}
            for seed in SEEDS:
                rows = choose(labels, each, seed)
                real, classes = images[rows], labels[rows].astype(np.int64)
                maker, _ = ours.run(
                    f"{each}-{seed}", real, options.steps, seed, labels=classes, conditional=True
                )
                made_classes = np.tile(classes, TIMES)
                made = maker.make(draw(maker.facts, len(made_classes), seed, made_classes))
                sets = {
                    "real": (real, classes),
                    "changed": (real, classes),
                    "made": (made, made_classes),
                    "both": (np.concatenate([real, made]), np.concatenate([classes, made_classes])),
                }
                for name, way in WAYS.items():
                    some, their = sets[way]
                    change = way == "changed"
                    linear = None if change else probe(features.of(some), their, of_test, truth)
                    found[name].append((linear, network(some, their, test, truth, seed, change)))
                    print(each, seed, name, found[name][-1], flush=True)
            for name, results in found.items():
                linear = [first for first, _ in results if first is not None]
                lines.append(
                    f"| {each} | {name} | {spread(linear) if linear else ''} | {spread([b for _, b in results])} |"
                )
    print("\n".join(lines))
    if options.report:
        about = f"""    python benchmarks/synthetic.py --steps {options.steps} --report docs/results.md

A conditional GAN learns from a few images of each of the ten classes of Fashion-MNIST ({options.steps} steps with
{BATCH} images each). It then generates {TIMES} images for each real one. The table has the accuracy on {TESTED:,} test
images, as mean and standard deviation over {len(SEEDS)} seeds; each seed has its own real images. The small network is
trained for {STEPS_OF_NETWORK} steps with {BATCH} images each, whatever it learns from.
"""
        text = "\n".join([about, *lines, "", f"Machine: {machine()}."])
        write_section(options.report, "Do generated images help a classifier?", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
