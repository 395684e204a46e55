"""What a training would do and cost, told by tasks that train as the core does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.backbones.cost import layer_macs, macs
from keras_transfer.data import ImageTable
from keras_transfer.heads import LOGITS, has_logits
from keras_transfer.tasks.base import BuildContext, TrainingPlan
from keras_transfer.tasks.transfer import follow
from keras_transfer.training.choosing import ENOUGH, FOLDS
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.phases import Phase
from keras_transfer.training.strategy import Strategy

BACKWARD = 2.0
"""A trained layer's backward pass multiplies twice as often as its forward pass: once for the weights' gradient, once
for the inputs' (Kaplan et al. 2020, arXiv:2001.08361, count the same way)."""
FIT_PASSES = 200
"""How often a probe's fit goes over the training features, all strengths together: 116 times for 10 classes, 190 for
100. Fitting it again at the strength chosen, with the folds of its calibration, takes less than as many."""


def plan_transfer(
    model: keras.Model,
    data: ImageTable,
    context: BuildContext,
    objective: TrainingObjective | None = None,
) -> TrainingPlan:
    """What :func:`~keras_transfer.tasks.transfer.fit_transfer` would do with this model and these data.

    Raises:
        UsageError, DataError: what it would refuse before it computes anything.
    """
    strategy, phases = follow(model, data, context, objective)
    train, val = (len(data.indices(split)) for split in ("train", "val"))
    fitting: float | None = 0.0
    if not has_logits(model):
        fitting = None  # how a head of the task's own is fitted is not known
    elif strategy.name in ("probe", "finetune", "full"):
        folds = 1 if val >= ENOUGH else FOLDS
        weights = model.get_layer(LOGITS).kernel.shape
        again = train + val if context.settings.fit.refit and val and len(data.indices("test")) else 0
        fitting = 2.0 * FIT_PASSES * (folds * train + again) * weights[0] * weights[1]
    trains = strategy.name != "probe"
    return TrainingPlan(
        strategy=strategy.name,
        why=strategy.why,
        phases=told(phases),
        learning_rate=strategy.learning_rate if trains else None,
        extraction=0.0 if strategy.name == "scratch" else macs(model) * (train + val),
        fitting=fitting,
        training=gradient_macs(model, phases, data, context.settings.gradient.epochs) if trains else 0.0,
    )


def plan_gradient(
    model: keras.Model,
    data: ImageTable,
    context: BuildContext,
    strategy: Strategy,
    phases: Sequence[Phase],
    learning_rate: float,
) -> TrainingPlan:
    """The plan of a training that is by gradient alone, from its first epoch on."""
    return TrainingPlan(
        strategy=strategy.name,
        why=strategy.why,
        phases=told(phases),
        learning_rate=learning_rate,
        extraction=0.0,
        fitting=0.0,
        training=gradient_macs(model, phases, data, context.settings.gradient.epochs),
    )


def told(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """The phases as :class:`~keras_transfer.tasks.base.TrainingPlan` has them."""
    return [{"epoch": phase.start, **phase.plan.to_dict()} for phase in phases if phase.plan is not None]


def gradient_macs(model: keras.Model, phases: Sequence[Phase], data: ImageTable, epochs: int) -> float:
    """Multiply-adds of a gradient training, as if every epoch went through the whole network: kept activations make
    it less.
    """
    train, val = (len(data.indices(split)) for split in ("train", "val"))
    forward, total = macs(model), 0.0
    for phase, end in zip(phases, [*(phase.start for phase in phases[1:]), epochs], strict=True):
        trained = set(phase.plan.layers) if phase.plan is not None else set()
        backward = BACKWARD * sum(layer_macs(layer) for layer in leaf_layers(model) if layer.name in trained)
        lasts = max(min(end, epochs) - phase.start, 0)
        total += lasts * ((forward + backward) * train + forward * val)
    return total
