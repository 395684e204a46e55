"""One training: ``fit`` with what is looked at after every epoch, from where an interrupted one stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.data.order import epoch_rows
from keras_transfer.data.pipeline import dataset_of_batches
from keras_transfer.errors import DataError
from keras_transfer.training.callbacks import Bars
from keras_transfer_gan.adversarial import Adversarial
from keras_transfer_gan.drawing import COLUMNS, draw, grid_labels, make
from keras_transfer_gan.keeping import Keeper, is_finite
from keras_transfer_gan.losses import threshold
from keras_transfer_gan.measuring import compare_kernels, spread
from keras_transfer_gan.metrics import diversity
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.pictures import grid, write_png

log = logging.getLogger("keras_transfer")
WATCHED, OF_A_CLASS, MOST_WATCHED = 64, 4, 512
"""Images of either kind that are looked at after an epoch; at least so many of a class, where that is not too many."""
VARIED, ALIKE = 0.5, 0.25
"""Images that were once this diverse and now are no more than that have collapsed; real ones have 1."""
PATIENT = 8
"""Looks after which images that have always been alike are told."""
ADVICE = (
    "Try a lower --learning-rate, --r1 1, --normalization spectral, or --diff-augment adaptive; a larger --batch-size "
    "helps, too."
)


@dataclass(frozen=True)
class Material:
    """What is learned from, in memory or mapped to it.

    Attributes:
        pixels: uint8 ``(N, H, W, C)``, the training images.
        labels: int32 ``(N,)``.
        held_out: uint8 ``(M, H, W, C)``, validation images, and their ``held_out_labels`` int32 ``(M,)``.
    """

    pixels: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """How long, how much at once, and what is looked at.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step of the discriminator.
        seed: of order and noise.
        measure_every: epochs between measurements of KID on held-out images; 0: none.
        stop_on_collapse: whether a collapse ends the training.
        grids: folder for the pictures.
        look_every: epochs between two looks: picture, row, checkpoint. There is always one after the last epoch.
        most_measured: images of either kind that a measurement compares, at most.
    """

    epochs: int
    batch_size: int
    seed: int
    measure_every: int
    stop_on_collapse: bool
    grids: Path
    look_every: int = 1
    most_measured: int = 2000


def train(model: Adversarial, material: Material, schedule: Schedule, state: Path) -> Keeper:
    """Train up to the last epoch, a divergence or a collapse; the model is left as after the last good epoch.

    Args:
        model: compiled.
        material: see there.
        schedule: see there.
        state: a folder that survives an interruption; what is found there is gone on from, with the same result.

    Raises:
        DataError: the losses became NaN or infinite before one epoch was done, now or when this was tried before.
        RunError: the state is damaged.
    """
    keeper = Keeper(state, model)
    _require_an_epoch(keeper)
    if keeper.done:
        log.info("Taking up the training after epoch %d.", keeper.done)
        keeper.restore()
    if keeper.ended or keeper.done >= schedule.epochs:
        return keeper
    # Determinism is asked for by ``fit`` of the task, for the whole process.
    data, steps = _feed(material, model.recipe.critic_steps, schedule, keeper.done)
    model.fit(
        data,
        steps_per_epoch=steps,
        initial_epoch=keeper.done,
        epochs=schedule.epochs,
        callbacks=[Bars(schedule.epochs), StopOnNaN(), EndOfEpoch(keeper, material, schedule)],
        shuffle=False,  # the feed has its own order
        verbose=0,
    )
    _require_an_epoch(keeper)
    if keeper.ended == "diverged":
        keeper.restore()
        log.warning(
            "The losses became NaN or infinite after epoch %d, whose networks are kept. %s",
            keeper.done,
            ADVICE,
        )
    elif keeper.ended == "collapsed":
        keeper.restore()
        log.warning(
            "All images became alike after epoch %d (mode collapse), whose networks are kept. %s",
            keeper.done,
            ADVICE,
        )
    return keeper


def _require_an_epoch(keeper: Keeper) -> None:
    if keeper.ended == "diverged" and not keeper.done:
        raise DataError(f"The losses became NaN or infinite before one epoch was done. {ADVICE}")


def steps_an_epoch(images: int, batch_size: int, critic_steps: int) -> int:
    """Steps of the generator in one pass.

    Raises:
        DataError: fewer images than one step takes.
    """
    taken = batch_size * critic_steps
    if images < taken:
        times = f" times {critic_steps} critic steps" if critic_steps > 1 else ""
        raise DataError(
            f"{images} training images are fewer than a step takes: --batch-size {batch_size}{times}. Lower it "
            "to at most "
            f"{images // critic_steps}, or give more images."
        )
    return images // taken


def _feed(
    material: Material, critic_steps: int, schedule: Schedule, first: int
) -> tuple[tf.data.Dataset, int]:
    """Endless batches from epoch ``first`` on, and how many make an epoch. The remainder of an epoch is left out."""
    taken = schedule.batch_size * critic_steps
    steps = steps_an_epoch(len(material.pixels), schedule.batch_size, critic_steps)
    rows = np.arange(len(material.pixels))

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        for epoch in range(first, schedule.epochs):
            order = epoch_rows(rows, schedule.seed, epoch, shuffle=True)
            for step in range(steps):
                chosen = order[step * taken : (step + 1) * taken]
                yield material.pixels[chosen], material.labels[chosen]

    signature = [
        tf.TensorSpec((taken, *material.pixels.shape[1:]), tf.uint8),
        tf.TensorSpec((taken,), tf.int32),
    ]
    return dataset_of_batches(generate, signature, (schedule.epochs - first) * steps), steps


class StopOnNaN(keras.callbacks.Callback):
    """Stops within an epoch whose losses become NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the means of the epoch so far: one NaN stays in them."""
        values = [float(value) for name, value in (logs or {}).items() if name.endswith("loss")]
        if not np.isfinite(values).all():
            self.model.stop_training = True


class EndOfEpoch(keras.callbacks.Callback):
    """After an epoch: the picture, the row, the state; and whether the training is lost."""

    def __init__(self, keeper: Keeper, material: Material, schedule: Schedule) -> None:
        super().__init__()
        self.keeper, self.material, self.schedule = keeper, material, schedule
        facts = keeper.model.facts
        self.inputs = draw(facts, len(grid_labels(facts)), schedule.seed, grid_labels(facts))
        """Of the picture."""
        rows = watched_rows(facts, len(material.pixels))
        self.real, self.labels = material.pixels[rows], material.labels[rows]
        self.watched = draw(facts, len(rows), schedule.seed, self.labels)
        self.warned = False
        self.since: list[dict[str, Any]] = []
        """Logs of the epochs since the last look."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """See the class."""
        keeper, adversarial = self.keeper, self.keeper.model
        self.since.append({name: float(value) for name, value in (logs or {}).items()})
        weights = adversarial.generator.weights + adversarial.discriminator.weights
        if not is_finite(self.since[-1]) or not all(np.isfinite(np.asarray(one)).all() for one in weights):
            keeper.end("diverged")
            self.model.stop_training = True
            return
        if (epoch + 1) % self.schedule.look_every and epoch + 1 < self.schedule.epochs:
            return
        means = {name: float(np.mean([one[name] for one in self.since])) for name in self.since[-1]}
        row: dict[str, Any] = {"epoch": epoch + 1, **means}
        self.since.clear()
        made = make(adversarial.average, self.watched)
        row["chance"] = float(adversarial.chance)
        row["pixel_diversity"] = diversity(self.real / 255.0, made / 255.0, self.labels)
        row["held_out_accuracy"] = held_out_accuracy(adversarial, self.material, made, self.labels)
        if self._collapsed(row["pixel_diversity"]):
            keeper.end("collapsed")
            self.model.stop_training = True
            return
        every = self.schedule.measure_every
        if every and (epoch + 1) // every > keeper.done // every:
            row.update(self._kid())
        shown = make(adversarial.average, self.inputs)
        write_png(self.schedule.grids / f"{epoch + 1:04d}.png", grid(shown, COLUMNS))
        keeper.keep(row)

    def _collapsed(self, now: float | None) -> bool:
        before = [row["pixel_diversity"] for row in self.keeper.rows if row["pixel_diversity"] is not None]
        if now is None or now > ALIKE:
            return False
        if max(before, default=0.0) < VARIED:
            if len(before) + 1 >= PATIENT and max(before) <= ALIKE:
                looks = len(before) + 1
                self._warn(
                    f"have been alike from the start: after {looks} measurements their diversity is {now:.2f}"
                )
            return False
        if not self.schedule.stop_on_collapse:
            fall = f"have become alike: their diversity fell from {max(before):.2f} to {now:.2f}"
            self._warn(fall, " --on-collapse stop would have ended the training here.")
        return self.schedule.stop_on_collapse

    def _warn(self, how: str, more: str = "") -> None:
        """Once, that all images are alike."""
        if not self.warned:
            log.warning("The images %s of the real images' (mode collapse). %s%s", how, ADVICE, more)
        self.warned = True

    def _kid(self) -> dict[str, Any]:
        facts, material, schedule = self.keeper.model.facts, self.material, self.schedule
        real, labels = material.pixels, material.labels
        if len(material.held_out):
            real, labels = material.held_out, material.held_out_labels
        rows = spread(len(real), schedule.most_measured)
        made = make(self.keeper.model.average, draw(facts, len(rows), schedule.seed, labels[rows]))
        return compare_kernels(real[rows], made)


def watched_rows(facts: Facts, count: int) -> np.ndarray:
    """Which of ``count`` training images are looked at: from all of them, for they are sorted by class."""
    wanted = OF_A_CLASS * len(facts.classes) if facts.conditional else 0
    return spread(count, min(max(WATCHED, wanted), MOST_WATCHED))


def held_out_accuracy(
    model: Adversarial, material: Material, made: np.ndarray, labels: np.ndarray
) -> float | None:
    """How often the discriminator is right about as many held-out real images and made ones; 0.5: it cannot tell."""
    count = min(len(material.held_out), len(made))
    if not count:
        return None
    real, fake = spread(len(material.held_out), count), spread(len(made), count)
    on_real, on_made = (
        answers(model.discriminator, model.facts, images, classes)
        for images, classes in (
            (material.held_out[real], material.held_out_labels[real]),
            (made[fake], labels[fake]),
        )
    )
    return accuracy(model.recipe.loss, on_real, on_made)


def answers(discriminator: keras.Model, facts: Facts, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The discriminator's answers ``(N,)`` to images uint8 ``(N, H, W, C)`` of classes int ``(N,)``."""
    parts = []
    for start in range(0, len(images), 256):
        pixels = images[start : start + 256].astype(np.float32) / 127.5 - 1
        given: Any = pixels
        if facts.conditional:
            given = [pixels, np.eye(len(facts.classes), dtype=np.float32)[labels[start : start + 256]]]
        parts.append(np.asarray(discriminator(given, training=False))[:, 0])
    return np.concatenate(parts)


def accuracy(loss: str, on_real: np.ndarray, on_made: np.ndarray) -> float:
    """The mean of how many real and how many made images are told as what they are."""
    limit = float(threshold(loss, on_real, on_made))
    return float(((on_real > limit).mean() + (on_made <= limit).mean()) / 2)
