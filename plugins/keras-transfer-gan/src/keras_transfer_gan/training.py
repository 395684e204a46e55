"""One training: ``fit`` with what is looked at after every epoch, from where an interrupted one stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_transfer.data.order import epoch_rows  # noqa: E402
from keras_transfer.data.pipeline import dataset_of_batches  # noqa: E402
from keras_transfer.errors import DataError  # noqa: E402
from keras_transfer.training.callbacks import Bars  # noqa: E402
from keras_transfer_gan.adversarial import Adversarial  # noqa: E402
from keras_transfer_gan.drawing import draw, grid_labels, make  # noqa: E402
from keras_transfer_gan.keeping import Keeper, is_finite  # noqa: E402
from keras_transfer_gan.losses import threshold  # noqa: E402
from keras_transfer_gan.measuring import compare  # noqa: E402
from keras_transfer_gan.metrics import diversity  # noqa: E402
from keras_transfer_gan.networks import Facts  # noqa: E402
from keras_transfer_gan.pictures import grid, write_png  # noqa: E402

log = logging.getLogger("keras_transfer")
COLUMNS = 8
WATCHED = 64
"""Images of either kind that are looked at after every epoch."""
VARIED, ALIKE = 0.5, 0.25
"""Images that were once this diverse and now are no more than that have collapsed; real ones have 1."""
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
        batch_size: images a step of the discriminator.
        seed: of order and noise.
        measure_every: epochs between measurements of KID on held-out images; 0: none.
        stop_on_collapse: whether a collapse ends the training.
        grids: folder for the picture of every epoch.
    """

    epochs: int
    batch_size: int
    seed: int
    measure_every: int
    stop_on_collapse: bool
    grids: Path


def train(model: Adversarial, material: Material, schedule: Schedule, state: Path) -> Keeper:
    """Train up to the last epoch, a divergence or a collapse; the model is left as after the last good epoch.

    Args:
        model: compiled.
        material: see there.
        schedule: see there.
        state: a folder that survives an interruption; what is found there is gone on from, with the same result.

    Raises:
        DataError: the losses were no numbers before one epoch was done.
    """
    keeper = Keeper(state, model)
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
    if keeper.ended == "diverged":
        if not keeper.done:
            raise DataError(f"The losses stopped being numbers before one epoch was done. {ADVICE}")
        keeper.restore()
        log.warning(
            "The losses stopped being numbers in epoch %d. The networks of epoch %d are kept. %s",
            keeper.done + 1,
            keeper.done,
            ADVICE,
        )
    elif keeper.ended == "collapsed":
        keeper.restore()
        log.warning(
            "All images became alike in epoch %d (mode collapse). The networks of epoch %d are kept. %s",
            keeper.done + 1,
            keeper.done,
            ADVICE,
        )
    return keeper


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
    """Stops within an epoch whose losses are no numbers any more."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the means of the epoch so far: one NaN stays in them."""
        values = [float(value) for name, value in (logs or {}).items() if name.endswith("loss")]
        if not np.isfinite(values).all():
            self.model.stop_training = True


class EndOfEpoch(keras.callbacks.Callback):
    """After every epoch: the picture, the row, the state; and whether the training is lost."""

    def __init__(self, keeper: Keeper, material: Material, schedule: Schedule) -> None:
        super().__init__()
        self.keeper, self.material, self.schedule = keeper, material, schedule
        facts = keeper.model.facts
        self.labels = grid_labels(facts, WATCHED)
        self.inputs = draw(facts, WATCHED, schedule.seed, self.labels)
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """See the class."""
        keeper, adversarial = self.keeper, self.keeper.model
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        weights = adversarial.generator.weights + adversarial.discriminator.weights
        if not is_finite(row) or not all(np.isfinite(np.asarray(weight)).all() for weight in weights):
            keeper.end("diverged")
            self.model.stop_training = True
            return
        made = make(adversarial.average, self.inputs)
        row["chance"] = float(adversarial.chance)
        row["pixel_diversity"] = diversity(self.material.pixels[:WATCHED] / 255.0, made / 255.0)
        row["held_out_accuracy"] = held_out_accuracy(adversarial, self.material, made, self.labels)
        if self._collapsed(row["pixel_diversity"]):
            keeper.end("collapsed")
            self.model.stop_training = True
            return
        every = self.schedule.measure_every
        if every and (epoch + 1) % every == 0:
            row.update(self._kid())
        write_png(self.schedule.grids / f"{epoch + 1:04d}.png", grid(made, COLUMNS))
        keeper.keep(row)

    def _collapsed(self, now: float | None) -> bool:
        before = [row["pixel_diversity"] for row in self.keeper.rows if row["pixel_diversity"] is not None]
        if now is None or now > ALIKE or max(before, default=0.0) < VARIED:
            return False
        if not self.schedule.stop_on_collapse and not self.warned:
            self.warned = True
            log.warning(
                "The images have become alike: their diversity fell from %.2f to %.2f of the real images' (mode "
                "collapse). %s --on-collapse stop would have ended the training here.",
                max(before),
                now,
                ADVICE,
            )
        return self.schedule.stop_on_collapse

    def _kid(self) -> dict[str, Any]:
        real = self.material.held_out if len(self.material.held_out) else self.material.pixels[:WATCHED]
        facts = self.keeper.model.facts
        labels = grid_labels(facts, len(real))
        made = make(self.keeper.model.average, draw(facts, len(real), self.schedule.seed, labels))
        found = compare(real, made, warn=False)
        return {name: found[name] for name in ("kid_lite0", "kid_lite0_error", "kid_lite0_floor")}


def held_out_accuracy(
    model: Adversarial, material: Material, made: np.ndarray, labels: np.ndarray
) -> float | None:
    """How often the discriminator is right about as many held-out real images and made ones; 0.5: it cannot tell."""
    count = min(len(material.held_out), len(made))
    if not count:
        return None
    real = material.held_out[:count]
    on_real, on_made = (
        answers(model.discriminator, model.facts, images, classes)
        for images, classes in ((real, material.held_out_labels[:count]), (made[:count], labels[:count]))
    )
    return accuracy(model.recipe.loss, on_real, on_made)


def answers(discriminator: keras.Model, facts: Facts, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The discriminator's answers ``(N,)`` to images uint8 ``(N, H, W, C)`` of classes int ``(N,)``."""
    parts = []
    for start in range(0, len(images), 256):
        pixels = images[start : start + 256].astype(np.float32) / 127.5 - 1
        one_hot = np.eye(len(facts.classes), dtype=np.float32)[labels[start : start + 256]]
        given = [pixels, one_hot] if facts.conditional else pixels
        parts.append(np.asarray(discriminator(given, training=False))[:, 0])
    return np.concatenate(parts)


def accuracy(loss: str, on_real: np.ndarray, on_made: np.ndarray) -> float:
    """The mean of how many real and how many made images are told as what they are."""
    limit = float(threshold(loss, on_real, on_made))
    return float(((on_real > limit).mean() + (on_made <= limit).mean()) / 2)
