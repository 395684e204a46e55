"""The learning-rate range test: raise the rate exponentially, batch by batch, and watch the loss.

Smith 2017 (arXiv:1506.01186). What comes out is a starting point, not an optimum: it depends on the batch size, on the
optimizer, and on what is trainable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_transfer.errors import DataError, UsageError
from keras_transfer.training.optimizers import make_optimizer

if TYPE_CHECKING:
    import tensorflow as tf

DIVERGED = 4.0
"""The test stops when the smoothed loss is this many times its minimum."""
LEAST_STEPS = 10
"""Fewer measured batches say nothing."""
LEAST_FALL = 0.05
"""Share of the loss at the start by which the smoothed loss must fall, and by more than single batches differ."""


@dataclass(frozen=True)
class LearningRateFinding:
    """A range test. The lists have one entry per batch and can be written as JSON.

    Attributes:
        rates: the learning rate of each step, ascending.
        losses: the loss of the step's batch before that step changed the weights.
        smoothed: exponential moving average of ``losses``, corrected for its start at zero (as Adam's moments are).
        suggestion: a peak learning rate: the smaller of ``steepest`` and ``tenth_of_minimum``. The average runs behind
            the losses, so that each of them alone tends to be too high.
        diverged_at: the rate at which the test stopped early, or None.
        steepest: the rate at which the smoothed loss falls fastest over the logarithm of the rate, before its minimum;
            the slope is taken over as many steps as the average remembers, or a single odd batch would decide.
        tenth_of_minimum: a tenth of the rate at which the smoothed loss is lowest.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    diverged_at: float | None
    steepest: float
    tenth_of_minimum: float


def find_learning_rate(
    model: keras.Model,
    dataset: tf.data.Dataset,
    *,
    loss: keras.losses.Loss | str,
    optimizer: str = "adamw",
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.9,
    **optimizer_options: Any,
) -> LearningRateFinding:
    """Train with a rate that rises from ``low`` to ``high``, then put everything back as it was.

    Weights, moving statistics and random states of the model are restored; its own optimizer and compilation are
    never touched. The same model and the same batches give the same finding.

    Args:
        model: pixels to what ``loss`` takes, such as ``heads.logits_model`` gives; what is trainable is trained.
        dataset: finite batches ``(pixels, labels)`` or ``(pixels, labels, weights)``: float32 ``(B, H, W, 3)`` in
            [0, 255], labels as ``loss`` takes them, float32 ``(B,)``. Repeated when it is too short.
        loss: of Keras, positive, such as ``CategoricalCrossentropy(from_logits=True)``.
        optimizer: a name for ``optimizers.make_optimizer``.
        low: the first rate.
        high: the last rate, above ``low``.
        steps: batches, at least 10.
        smoothing: weight of the past in the average of the losses, in [0, 1).
        optimizer_options: of ``optimizers.make_optimizer``, as in training: ``weight_decay``, ``momentum``,
            ``clip_norm``, ``multipliers``. Without ``accumulate`` and ``ema``: each batch is a step here.

    Raises:
        UsageError: impossible numbers, or nothing is trainable.
        DataError: fewer than 10 batches could be measured, or the loss did not fall by 5 % and by more than the
            standard deviation of single batches.
    """
    if not (0 < low < high < math.inf):
        raise UsageError(
            f"low={low!r} and high={high!r} were given; expected 0 < low < high, such as 1e-6 and 1."
        )
    if not 0 <= smoothing < 1:
        raise UsageError(f"smoothing is {smoothing!r}; expected a number in [0, 1), such as 0.9.")
    if steps < LEAST_STEPS:
        raise DataError(f"A range test of {steps} steps was asked for; at least {LEAST_STEPS} are needed.")
    if not model.trainable_variables:
        raise UsageError("Nothing is trainable: unfreeze something first (set_trainable, unfreeze_from).")
    test = _RangeTest(np.geomspace(low, high, steps).tolist(), smoothing)
    # A second model around the same layers has a compilation of its own.
    network = keras.Model(model.input, model.output)
    before = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in model.variables]
    try:
        network.compile(make_optimizer(optimizer, low, **optimizer_options), loss)
        if dataset.cardinality() != 0:
            network.fit(dataset.repeat(), steps_per_epoch=steps, shuffle=False, callbacks=[test], verbose=0)
    finally:
        for variable, value in before:
            variable.assign(value)
    return _judge(test, low)


class _RangeTest(keras.callbacks.Callback):
    """Sets the rate before each batch, and reads that batch's loss after it."""

    def __init__(self, rates: list[float], smoothing: float) -> None:
        super().__init__()
        self.rates = rates
        self.smoothing = smoothing
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.diverged_at: float | None = None
        self._average = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.optimizer.learning_rate = self.rates[batch]
        self.model.reset_metrics()  # what Keras reports is the mean since the last reset

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["loss"])
        self._average = self.smoothing * self._average + (1 - self.smoothing) * loss
        smoothed = self._average / (1 - self.smoothing ** (len(self.losses) + 1))
        if math.isfinite(loss):
            self.losses.append(loss)
            self.smoothed.append(smoothed)
        if not math.isfinite(loss) or smoothed > DIVERGED * min(self.smoothed):
            self.diverged_at = self.rates[batch]
            self.model.stop_training = True


def _judge(test: _RangeTest, low: float) -> LearningRateFinding:
    smoothed = test.smoothed
    if len(smoothed) < LEAST_STEPS:
        end = f"the loss diverged at rate {test.diverged_at:.2g}" if test.diverged_at else "the data ended"
        raise DataError(
            f"Only {len(smoothed)} batches could be measured: {end}. At least {LEAST_STEPS} are needed. Start from a "
            f"lower rate than {low:.2g}, or give more batches."
        )
    memory = max(3, min(_memory(test.smoothing), len(smoothed) // 3))
    start, lowest = float(np.mean(test.losses[:memory])), memory + int(np.argmin(smoothed[memory:]))
    # From the differences of neighbours, which a steady fall hardly changes.
    noise = float(np.std(np.diff(test.losses[: lowest + 1]))) / math.sqrt(2)
    if start - smoothed[lowest] < max(LEAST_FALL * start, noise):
        raise DataError(
            f"The loss never fell: it began at {start:.3g}, its smoothed minimum is {smoothed[lowest]:.3g}, and the "
            f"batches differ by {noise:.2g}. Nothing is left to learn, the labels do not fit the images, or the rates "
            "are too low. Try larger batches, a higher end, or unfreeze more."
        )
    steepest = test.rates[_steepest(smoothed, lowest, test.smoothing)]
    tenth = test.rates[lowest] / 10
    return LearningRateFinding(
        test.rates[: len(smoothed)],
        test.losses,
        smoothed,
        min(steepest, tenth),
        test.diverged_at,
        steepest,
        tenth,
    )


def _steepest(smoothed: list[float], lowest: int, smoothing: float) -> int:
    """Where the fall over a window is deepest; the rates are evenly spaced in their logarithm."""
    half = max(1, min(_memory(smoothing) // 2, len(smoothed) // 6))
    # The first averages are of one or two batches.
    middles = range(2 * half, min(lowest + 1, len(smoothed) - half))
    return min(middles, key=lambda i: smoothed[i + half] - smoothed[i - half], default=lowest)


def _memory(smoothing: float) -> int:
    """How many batches an exponential average is mostly made of."""
    return round(1 / (1 - smoothing))
