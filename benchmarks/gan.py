"""GANs on Fashion-MNIST, 28 px: every loss against the loop of the usual Keras tutorial, and transfer to few images.

    python benchmarks/gan.py [--data FOLDER] [--minutes 40] [--report docs/results.md] [--samples docs/gan]
    python benchmarks/gan.py --write fashion --each 800     PNG files in class folders, for the plugin's README; no more

FOLDER holds the four IDX files (Debian: package dataset-fashion-mnist). Everything runs on the CPU in one process with
the same batches of 64; the tutorial's loop is timed first, and the number of steps follows from the budget. The
tutorial (tensorflow.org/tutorials/generative/dcgan): transposed convolutions of 5x5, dropout, Adam 1e-4, non-saturating
loss, no average of the weights. Transfer: 100 images of class 7 (sneakers), from weights trained on the nine other
classes, from scratch, and with the discriminator's lower block frozen (FreezeD); three seeds.

Exit code 1 unless the default has at most half the tutorial's ``kid_lite0`` after the same steps, at no fewer images/s,
and transfer beats scratch under every seed.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras_transfer_gan.drawing import draw, make
from keras_transfer_gan.generating import Maker
from keras_transfer_gan.measuring import generative_metrics
from keras_transfer_gan.pictures import grid, write_png
from keras_transfer_gan.spec import LOSSES, GanOptions
from reporting import machine, write_section

from keras_transfer.workflow.train import train

BATCH, NOISE, MEASURED, LEARNED = 64, 100, 2000, 10_000
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CLASS, FEW, SEEDS = 7, 100, (0, 1, 2)
SHARE = 0.55
"""Of the budget for the losses; the rest is for transfer."""
OVERHEAD = 1.4
"""Time of a run over that of its steps in the tutorial's loop: measuring, pictures, building."""


def read_idx(folder: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28, 1) and labels (N,)."""
    files = [folder / f"{kind}-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1")]
    images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    return images[16:].reshape(-1, 28, 28, 1), labels[8:]


def write_folders(images: np.ndarray, labels: np.ndarray, folder: Path, each: int) -> None:
    """The first so many images of every class as PNG files in class folders."""
    for number, name in enumerate(NAMES):
        for place, row in enumerate(np.flatnonzero(labels == number)[:each]):
            write_png(folder / name / f"{place:04d}.png", images[row])


class Tutorial:
    """The loop of the usual Keras tutorial on DCGAN, as it stands there."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        transposed = {"padding": "same", "use_bias": False}
        self.generator = keras.Sequential(
            [
                keras.Input((NOISE,)),
                layers.Dense(7 * 7 * 256, use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(),
                layers.Reshape((7, 7, 256)),
                layers.Conv2DTranspose(128, 5, strides=1, **transposed),
                layers.BatchNormalization(),
                layers.LeakyReLU(),
                layers.Conv2DTranspose(64, 5, strides=2, **transposed),
                layers.BatchNormalization(),
                layers.LeakyReLU(),
                layers.Conv2DTranspose(1, 5, strides=2, activation="tanh", **transposed),
            ]
        )
        self.discriminator = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(64, 5, strides=2, padding="same"),
                layers.LeakyReLU(),
                layers.Dropout(0.3),
                layers.Conv2D(128, 5, strides=2, padding="same"),
                layers.LeakyReLU(),
                layers.Dropout(0.3),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )
        self.optimizers = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.step = tf.function(self._step)

    def _step(self, images: tf.Tensor) -> None:
        noise = tf.random.normal((BATCH, NOISE))
        with tf.GradientTape() as of_generator, tf.GradientTape() as of_discriminator:
            made = self.generator(noise, training=True)
            real, fake = self.discriminator(images, training=True), self.discriminator(made, training=True)
            generator_loss = self.entropy(tf.ones_like(fake), fake)
            loss = self.entropy(tf.ones_like(real), real) + self.entropy(tf.zeros_like(fake), fake)
        for tape, what, network, optimizer in (
            (of_generator, generator_loss, self.generator, self.optimizers[0]),
            (of_discriminator, loss, self.discriminator, self.optimizers[1]),
        ):
            variables = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(what, variables), variables, strict=True))

    def train(self, images: np.ndarray, steps: int) -> float:
        """Seconds of so many steps."""
        pixels = (images.astype(np.float32) - 127.5) / 127.5
        data = (
            tf.data.Dataset.from_tensor_slices(pixels).shuffle(len(pixels)).batch(BATCH, drop_remainder=True)
        )
        feed = iter(data.repeat())
        self.step(next(feed))  # traced
        begin = time.perf_counter()
        for _ in range(steps):
            self.step(next(feed))
        return time.perf_counter() - begin


class Ours:
    """Runs of the task, into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self,
        name: str,
        images: np.ndarray,
        steps: int,
        seed: int = 0,
        labels: np.ndarray | None = None,
        **options: Any,
    ) -> tuple[Maker, float]:
        """The generator after about so many steps (whole epochs), and the images/s of its training."""
        chosen = GanOptions(metric_images=64, **options)
        # Some real images for the run's own metrics; where they are few all are learned from.
        held_out = BATCH if len(images) > 10 * BATCH else 0
        an_epoch = (len(images) - held_out) // BATCH
        run = train(
            (images, np.zeros(len(images), np.int64) if labels is None else labels),
            self.folder / name,
            task="gan",
            task_options=chosen,
            epochs=max(1, round(steps / an_epoch)),
            batch_size=BATCH,
            val_fraction=0.0,
            test_fraction=held_out / len(images),
            seed=seed,
        )
        done = run.info["training"]["steps"]
        return Maker(run), done * BATCH / run.info["seconds"]["training"]


def measured(real: np.ndarray, maker: Maker) -> dict[str, Any]:
    """Metrics of as many images as there are real ones."""
    return generative_metrics(real, maker.make(draw(maker.facts, len(real), 1)), warn=False)


def file_of(name: str) -> str:
    return name.replace(",", "").replace(" ", "_") + ".png"


def row(name: str, found: dict[str, Any], rate: float | None = None) -> str:
    """A row of the table."""
    fid = "-" if found["fid_lite0"] is None else f"{found['fid_lite0']:.1f}"
    speed = "-" if rate is None else f"{rate:,.0f}"
    return (
        f"| {name} | {found['kid_lite0']:.3f} ± {found['kid_lite0_error']:.3f} | {fid} "
        f"| {found['manifold_precision']:.2f} | {found['manifold_recall']:.2f} | {found['diversity']:.2f} | {speed} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--steps", type=int, help="so many for each loss, whatever the time")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--samples", type=Path, help="folder for a grid of each generator's images")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write images as files there, and stop")
    parser.add_argument("--each", type=int, default=800, help="with --write: so many of a class")
    arguments = parser.parse_args()
    images, labels = read_idx(arguments.data, "train")
    if arguments.write:
        write_folders(images, labels, arguments.write, arguments.each)
        return 0
    test, test_labels = read_idx(arguments.data, "t10k")
    real = test[:MEASURED]
    floor = generative_metrics(real, test[MEASURED : 2 * MEASURED], warn=False)

    seconds = Tutorial().train(images[:4096], 20) / 20
    steps = int(60 * arguments.minutes * SHARE / ((1 + len(LOSSES)) * OVERHEAD * seconds))
    steps = arguments.steps or steps
    an_epoch = min(steps, LEARNED // BATCH - 1)
    learned = images[: BATCH * (an_epoch + 1)]
    steps = max(1, round(steps / an_epoch)) * an_epoch
    print(
        f"{steps} steps of {BATCH} images each, {1000 * seconds:.0f} ms a step in the tutorial's loop",
        flush=True,
    )

    header = [
        "| | kid_lite0 | fid_lite0 | precision | recall | diversity | images/s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines = [*header, row("other real images (the floor)", floor)]
    tutorial = Tutorial()
    rate = BATCH * steps / tutorial.train(learned, steps)
    noise = np.random.default_rng(1).standard_normal((MEASURED, NOISE), dtype=np.float32)
    made = make(tutorial.generator, noise)
    grids = {"tutorial": grid(made[:64], 8)}
    usual = generative_metrics(real, made, warn=False)
    lines.append(row("tutorial's DCGAN", usual, rate))
    print(lines[-1], flush=True)
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        for loss in LOSSES:
            maker, speed = ours.run(loss, learned, steps, loss=loss)
            found = measured(real, maker)
            grids[loss] = grid(maker.make(draw(maker.facts, 64, 0)), 8)
            default = loss == GanOptions().loss
            lines.append(row(f"{loss}{' (default)' if default else ''}", found, speed))
            print(lines[-1], flush=True)
            if default:
                passed &= found["kid_lite0"] <= usual["kid_lite0"] / 2 and speed >= rate
                share, ratio = found["kid_lite0"] / usual["kid_lite0"], speed / rate
        lines += [
            "",
            f"The default has {share:.2f} times the tutorial's KID, at {ratio:.2f} times its images/s.",
            "",
        ]
        total = int(steps * (1 + len(LOSSES)) * (1 - SHARE) / SHARE)
        text, won = transfer(ours, total, images, labels, test[test_labels == CLASS], grids)
        lines += text
        passed &= won
    if arguments.samples:
        for name, picture in grids.items():
            write_png(arguments.samples / file_of(name), picture)
        if arguments.report:
            place = Path(os.path.relpath(arguments.samples, arguments.report.parent)).as_posix()
            lines += [
                "",
                "Samples that nobody selected; the networks of this package got the same noise:",
                "",
            ]
            first = ["tutorial", *LOSSES]
            for names in (first, [name for name in grids if name not in first]):
                shown = [f"![samples: {name}]({place}/{file_of(name)})" for name in names]
                cells = (names, ["---"] * len(names), shown)
                lines += [*(f"| {' | '.join(row)} |" for row in cells), ""]
    print("\n".join(lines))
    if arguments.report:
        budget = f"--steps {steps}" if arguments.steps else f"--minutes {arguments.minutes:g}"
        samples = f" --samples {arguments.samples}" if arguments.samples else ""
        about = (
            f"    python benchmarks/gan.py {budget}{samples} --report docs/results.md\n\n"
            f"{steps} steps with {BATCH} images each, on {len(learned):,} training images. {MEASURED:,} generated "
            f"images are compared with as many test images. Machine: {machine()}."
        )
        write_section(arguments.report, "GAN: Fashion-MNIST at 28 px", "\n".join([about, "", *lines]))
    return 0 if passed else 1


def transfer(
    ours: Ours,
    total: int,
    images: np.ndarray,
    labels: np.ndarray,
    real: np.ndarray,
    grids: dict[str, np.ndarray],
) -> tuple[list[str], bool]:
    """100 images of one class: from scratch, from the nine other classes, and with FreezeD; ``total`` steps in all.

    A table, and whether transfer beat scratch under every seed.
    """
    others = images[labels != CLASS][: min(BATCH * (total // 3 + 1), LEARNED)]
    few = images[labels == CLASS][:FEW]
    steps = max(2, total // 2 // (3 * len(SEEDS)))
    before, _ = ours.run("others", others, total // 3)
    start = before.run.path
    ways: dict[str, dict[str, Any]] = {
        "from scratch": {},
        "from nine other classes": {"start_from": start},
        "the same, FreezeD": {"start_from": start, "freeze_lower": 1},
    }
    lines = [
        f"{FEW} images of class {CLASS}, {steps} steps each, against {len(real)} other real ones, seeds {SEEDS}:",
        "",
        "| | kid_lite0 of each seed | mean |",
        "|---|---|---|",
        f"| the nine classes' generator as it is | {measured(real, before)['kid_lite0']:.3f} | |",
    ]
    found: dict[str, list[float]] = {}
    for name, options in ways.items():
        kids = found[name] = []
        for seed in SEEDS:
            maker, _ = ours.run(
                f"{name} {seed}".replace(" ", "-").replace(",", ""), few, steps, seed, **options
            )
            kids.append(measured(real, maker)["kid_lite0"])
            if seed == SEEDS[0]:
                grids[name] = grid(maker.make(draw(maker.facts, 64, 0)), 8)
        lines.append(f"| {name} | {', '.join(f'{value:.3f}' for value in kids)} | {np.mean(kids):.3f} |")
        print(lines[-1], flush=True)
    pairs = zip(found["from scratch"], found["from nine other classes"], strict=True)
    return lines, all(transferred < scratch for scratch, transferred in pairs)


if __name__ == "__main__":
    sys.exit(main())
