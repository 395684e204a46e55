"""Progressive unfreezing: from which epoch on which layers train (Howard & Ruder 2018, arXiv:1801.06146)."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from keras_transfer.errors import UsageError
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.settings import FitSettings, GradientSettings
from keras_transfer.training.strategy import Strategy


@dataclass(frozen=True)
class Phase:
    """From epoch ``start`` (counted from 0) what ``plan`` says is trained; None: what is trainable already."""

    start: int
    plan: FreezePlan | None


def plan_phases(
    model: keras.Model,
    strategy: Strategy,
    fit: FitSettings,
    gradient: GradientSettings,
    backbone: keras.Model | None = None,
) -> list[Phase]:
    """The freeze plan of every phase: the strategy's, then one for each ``--milestone EPOCH=RULE``.

    ``backbone``: what the model was built on, see :meth:`FreezePlan.for_model`.

    Raises:
        UsageError: a milestone that is not one, out of order, or beyond the last epoch.
    """

    def plan(rule: str) -> FreezePlan:
        return FreezePlan.for_model(
            model,
            rule,
            batchnorm=strategy.batchnorm,
            layer_decay=gradient.layer_decay,
            backbone=backbone,
        )

    phases = [Phase(0, plan(strategy.rule))]
    for text in fit.milestone:
        epoch, separator, rule = text.partition("=")
        if not separator or not epoch.strip().isdigit() or not rule:
            raise UsageError(f"--milestone {text!r} was given; EPOCH=RULE is expected, such as 3=blocks:4.")
        start = int(epoch)
        if not phases[-1].start < start < gradient.epochs:
            raise UsageError(
                f"--milestone {text!r}: its epoch must be above {phases[-1].start} and below --epochs "
                f"{gradient.epochs}. Give milestones in order."
            )
        phases.append(Phase(start, plan(rule)))
    if len(phases) > 1 and strategy.name == "probe":
        raise UsageError("--milestone is for fine-tuning; the strategy is probe. Pass --strategy finetune.")
    return phases
