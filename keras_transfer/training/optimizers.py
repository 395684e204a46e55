"""Optimizers by name: Keras's own, with weight decay on kernels only, and learning rates that differ by layer.

Weight decay is decoupled for both (Loshchilov & Hutter 2019, arXiv:1711.05101): each update first multiplies a kernel
by ``1 - rate * weight_decay``. Kernels of depthwise convolutions are decayed like all others; biases and what belongs
to a normalization (``gamma``, ``beta``; a layer scale is called ``gamma`` too) are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_transfer.errors import UsageError, unknown_name

OPTIMIZERS = ("adamw", "sgd")
NOT_DECAYED = r"(^|/)(bias|gamma|beta)(:\d+)?$"
"""The variables without weight decay. Keras searches this in names such as ``stem_bn/beta:0``: without the anchors
a layer called ``beta_conv`` would lose the decay of its kernel."""


def make_optimizer(
    name: str,
    schedule: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    multipliers: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """An optimizer ready for ``compile``; ``build`` it before a checkpoint is read, so that its state is read too.

    Args:
        name: ``"adamw"`` or ``"sgd"``.
        schedule: learning rate, or a schedule such as ``schedules.make_schedule`` gives. It counts batches, also
            with ``accumulate``.
        weight_decay: at least 0; see above for what is decayed.
        momentum: of ``sgd``, in [0, 1]; ``adamw`` has its own.
        clip_norm: the gradients together are shortened to this length when they are longer; None leaves them.
        accumulate: batches whose gradients are averaged into one update, at least 1. Batches left over at the end of
            the training change nothing.
        ema: decay per update of a moving average of the trained weights, in (0, 1), such as 0.999. Keras puts the
            average into the model at the end of ``fit``; before that only ``keras.callbacks.SwapEMAWeights`` shows it.
        multipliers: learning rate of a variable relative to the others', by ``variable.path``, at least 0; 1 for those
            not named. It scales the weight decay too, and 0 leaves a variable exactly as it is (discriminative rates,
            Howard & Ruder 2018, arXiv:1801.06146).
            ``FreezePlan.variable_multipliers`` makes them.

    Raises:
        UsageError: an unknown name or an impossible number; when it is built, multipliers that name no variable.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    _require(weight_decay >= 0, "weight_decay", weight_decay, "a number of at least 0, such as 1e-4")
    _require(0 <= momentum <= 1, "momentum", momentum, "a number in [0, 1], such as 0.9")
    _require(
        clip_norm is None or clip_norm > 0, "clip_norm", clip_norm, "None or a number above 0, such as 1.0"
    )
    _require(
        accumulate == int(accumulate) and accumulate >= 1,
        "accumulate",
        accumulate,
        "a whole number of at least 1",
    )
    _require(ema is None or 0 < ema < 1, "ema", ema, "None or a number between 0 and 1, such as 0.999")
    for path, multiplier in (multipliers or {}).items():
        _require(
            math.isfinite(multiplier) and multiplier >= 0,
            f"The multiplier of {path}",
            multiplier,
            "a finite number of at least 0",
        )
    options: dict[str, Any] = {
        "weight_decay": float(weight_decay),
        "global_clipnorm": None if clip_norm is None else float(clip_norm),
        "gradient_accumulation_steps": int(accumulate) if accumulate > 1 else None,
        "use_ema": ema is not None,
        # Keras averages after every batch, whether it was an update or not.
        "ema_momentum": 0.99 if ema is None else float(ema) ** (1 / int(accumulate)),
    }
    if name == "sgd":
        options["momentum"] = float(momentum)
    rate = schedule if callable(schedule) else float(schedule)
    if multipliers is not None:
        layerwise = {"adamw": LayerwiseAdamW, "sgd": LayerwiseSGD}[name]
        return layerwise(rate, multipliers=multipliers, **options)
    optimizer = {"adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}[name](rate, **options)
    optimizer.exclude_from_weight_decay(var_names=[NOT_DECAYED])
    return optimizer


class _Layerwise(keras.optimizers.Optimizer):
    """Put before one of Keras's optimizers as a base: a learning rate for each variable.

    Everything happens in ``update_step``, the decay included, because Keras decays all variables with one rate.
    """

    def __init__(self, *arguments: Any, multipliers: Mapping[str, float], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.multipliers = dict(multipliers)
        self.exclude_from_weight_decay(var_names=[NOT_DECAYED])

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the state for these variables, and look up their multipliers."""
        if self.built:
            return
        if self.multipliers and not any(variable.path in self.multipliers for variable in variables):
            raise UsageError(
                f"None of the {len(self.multipliers)} learning-rate multipliers names a variable that is trained; "
                f"expected paths such as {variables[0].path!r}. Make them of the same model."
            )
        self._rates = tuple(float(self.multipliers.get(variable.path, 1.0)) for variable in variables)
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decay and change one variable with its own rate."""
        multiplier = self._rates[self._get_variable_index(variable)]
        if multiplier == 0:
            return
        rate = ops.cast(learning_rate, variable.dtype) * multiplier
        if self.weight_decay and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, rate)

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs to make an equal optimizer, without its state."""
        return {**super().get_config(), "multipliers": dict(self.multipliers)}

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Leave it to ``update_step``."""

    def _update_model_variables_moving_average(self, variables: Sequence[Any]) -> None:
        super()._update_model_variables_moving_average(variables)
        # The average of a constant is that constant only up to rounding.
        averages = self._model_variables_moving_average
        for variable, average, multiplier in zip(variables, averages, self._rates, strict=True):
            if multiplier == 0:
                average.assign(variable)


@keras.saving.register_keras_serializable("keras_transfer")
class LayerwiseAdamW(_Layerwise, keras.optimizers.AdamW):
    """Keras's AdamW with ``multipliers``."""


@keras.saving.register_keras_serializable("keras_transfer")
class LayerwiseSGD(_Layerwise, keras.optimizers.SGD):
    """Keras's SGD with ``multipliers``."""


def _require(fulfilled: bool, name: str, given: Any, expected: str) -> None:
    if not fulfilled:
        raise UsageError(f"{name} is {given!r}; expected {expected}.")
