"""How the learning rate changes from step to step: four shapes, all Keras learning-rate schedules.

A step is one batch. With gradient accumulation Keras asks a schedule for the rate of the batch, not of the update, so
``total_steps`` and ``warmup_steps`` are batches there too.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_transfer.errors import UsageError, unknown_name

SCHEDULES = ("cosine", "onecycle", "constant", "step")
WARMUP_START = 1 / 100
"""Where a linear warm-up starts, as a share of the peak."""
DROPS = {0.6: 0.1, 0.85: 0.01}
"""``step``: from this share of all steps on, the rate is this share of the peak."""
ONECYCLE_RISE = 0.3
"""``onecycle``: share of all steps in which the rate rises, when no warm-up is given."""
ONECYCLE_START, ONECYCLE_END = 1 / 25, 1e-4
"""``onecycle``: first and last rate, as shares of the peak."""


def make_schedule(name: str, peak: float, *, total_steps: int, warmup_steps: int = 0) -> LearningRateSchedule:
    """A learning-rate schedule by name.

    - ``cosine``: linear warm-up from ``peak / 100``, then half a cosine to 0 (Loshchilov & Hutter 2017,
      arXiv:1608.03983).
    - ``onecycle``: half a cosine from ``peak / 25`` up to the peak in the warm-up steps (30 % of all when none are
      given), half a cosine down to ``peak / 10000`` (Smith & Topin 2018, arXiv:1708.07120).
    - ``constant``: linear warm-up, then the peak.
    - ``step``: linear warm-up, then the peak, a tenth of it from 60 % of all steps, a hundredth from 85 %.

    Args:
        name: one of :data:`SCHEDULES`.
        peak: the highest rate, above 0.
        total_steps: batches in the whole training, at least 1.
        warmup_steps: batches of warm-up among them, from 0 to ``total_steps``.

    Raises:
        UsageError: an unknown name or an impossible number.
    """
    if name not in SCHEDULES:
        raise unknown_name("learning-rate schedule", name, SCHEDULES)
    if not (math.isfinite(peak) and peak > 0):
        raise UsageError(f"The learning rate is {peak!r}; expected a finite number above 0, such as 2e-4.")
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise UsageError(
            f"{warmup_steps} warm-up steps of {total_steps} steps were asked for; expected at least 1 step, and "
            "from 0 to all of them for the warm-up."
        )
    peak = float(peak)
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=peak * WARMUP_START if warmup_steps else peak,
            decay_steps=max(total_steps - warmup_steps, 1),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if name == "onecycle":
        return OneCycle(peak, total_steps, warmup_steps or max(1, round(ONECYCLE_RISE * total_steps)))
    # A boundary is the last step with the old value.
    boundaries = [round(share * total_steps) - 1 for share in DROPS] if name == "step" else [total_steps]
    values = [peak, *(peak * left for left in DROPS.values())] if name == "step" else [peak, peak]
    after = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return Warmup(after, peak, warmup_steps) if warmup_steps else after


@keras.saving.register_keras_serializable("keras_transfer")
class Warmup(LearningRateSchedule):
    """A straight line up to ``peak`` in the first steps, another schedule after them.

    Args:
        after: gives the rate from step ``warmup_steps`` on; it counts steps from the very beginning.
        peak: the rate the line reaches at step ``warmup_steps``.
        warmup_steps: at least 1.
    """

    def __init__(self, after: LearningRateSchedule, peak: float, warmup_steps: int) -> None:
        super().__init__()
        self.after = after
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        """The rate of one step, a float32 scalar."""
        share = ops.cast(step, "float32") / self.warmup_steps
        rising = self.peak * (WARMUP_START + (1 - WARMUP_START) * share)
        return ops.where(share < 1, rising, ops.cast(self.after(step), "float32"))

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs to make an equal schedule."""
        after = keras.optimizers.schedules.serialize(self.after)
        return {"after": after, "peak": self.peak, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        """The schedule that :meth:`get_config` described."""
        return cls(**{**config, "after": keras.optimizers.schedules.deserialize(config["after"])})


@keras.saving.register_keras_serializable("keras_transfer")
class Shifted(LearningRateSchedule):
    """A schedule that begins ``offset`` steps later: a later phase of a training, with an optimizer of its own.

    Moving the optimizer's counter instead would skip Adam's bias correction, and its first steps would be three times
    too large.
    """

    def __init__(self, after: LearningRateSchedule, offset: int) -> None:
        super().__init__()
        self.after, self.offset = after, int(offset)

    def __call__(self, step: Any) -> Any:
        return self.after(step + self.offset)

    def get_config(self) -> dict[str, Any]:
        return {"after": keras.optimizers.schedules.serialize(self.after), "offset": self.offset}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Shifted:
        """The inverse of :meth:`get_config`."""
        return cls(keras.optimizers.schedules.deserialize(config["after"]), config["offset"])


@keras.saving.register_keras_serializable("keras_transfer")
class OneCycle(LearningRateSchedule):
    """Half a cosine up, half a cosine down (Smith & Topin 2018, arXiv:1708.07120).

    Args:
        peak: the highest rate, at step ``rise_steps``.
        total_steps: where the lowest rate is reached; it stays there.
        rise_steps: at least 1.
    """

    def __init__(self, peak: float, total_steps: int, rise_steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.rise_steps = rise_steps

    def __call__(self, step: Any) -> Any:
        """The rate of one step, a float32 scalar."""
        step = ops.cast(step, "float32")
        fall_steps = max(self.total_steps - self.rise_steps, 1)
        up = _half_cosine(ONECYCLE_START, 1.0, step / self.rise_steps)
        down = _half_cosine(1.0, ONECYCLE_END, ops.minimum((step - self.rise_steps) / fall_steps, 1.0))
        return self.peak * ops.where(step < self.rise_steps, up, down)

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs to make an equal schedule."""
        return {"peak": self.peak, "total_steps": self.total_steps, "rise_steps": self.rise_steps}


def _half_cosine(start: float, end: float, share: Any) -> Any:
    return start + (end - start) * (1 - ops.cos(math.pi * share)) / 2
