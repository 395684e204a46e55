"""What a training would do, without doing it: ``train --dry-run``."""

from __future__ import annotations

from typing import Any

import keras

from keras_transfer import options as option_tools
from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.backbones.cost import layer_macs, macs
from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.features.engines import COSTS
from keras_transfer.heads import LOGITS, add_head
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.loading import load_task
from keras_transfer.tasks.transfer import require_objective, require_sense
from keras_transfer.training.choosing import ENOUGH, FOLDS
from keras_transfer.training.phases import Phase, plan_phases
from keras_transfer.training.strategy import choose
from keras_transfer.workflow.train import backbone_for

BACKWARD = 2.0
"""A trained layer's backward pass multiplies twice as often as its forward pass: once for the weights' gradient, once
for the inputs' (Kaplan et al. 2020, arXiv:2001.08361, count the same way)."""
FIT_PASSES = 1600
"""How often a probe's fit goes over the training features, all strengths together: L-BFGS took 1,600 steps for 1,200
classes; a few hundred where there are few."""
FIT_PER_GMAC = 0.1
"""Seconds on two cores for a billion multiply-adds of such a step (double precision)."""
ACTIVATIONS = {"classification": "softmax", "multilabel": "sigmoid", "regression": "linear"}


def plan_training(
    source: Any,
    *,
    task: str = "classification",
    task_options: Any = None,
    settings: TrainSettings | None = None,
) -> dict[str, Any]:
    """Read and check the data, choose the strategy, plan what trains, estimate the cost. Trains and writes nothing.

    Args:
        source, task, task_options, settings: as for ``workflow.train.train``.

    Returns:
        JSON-able: ``data`` (counts by class and split, skipped files), ``strategy`` and ``why``, ``plan`` (one
        dictionary a phase, see ``FreezePlan.to_dict``, with the ``epoch`` it starts at), ``cost`` (multiply-adds of
        one image, of all features, of fitting the probe, of the gradient training; a rough number of
        minutes on two CPU cores).

    Raises:
        UsageError, DataError, WeightsError: what the training would raise.
    """
    settings = settings or TrainSettings()
    for group in (settings.data, settings.model, settings.fit, settings.gradient):
        option_tools.check(group)
    spec, worker = load_task(task, task_options)
    if spec.name not in ACTIVATIONS:
        raise UsageError(
            f"--dry-run knows {', '.join(ACTIVATIONS)}; the task {spec.name!r} brings its own training."
        )
    settings = worker.settings_for(settings)
    data = worker.load_data(source, settings.data, settings.seed)
    strategy = choose(settings.fit, settings.gradient, data)
    require_sense(strategy, settings, data)
    require_objective(strategy, settings, data)
    # Weights are not needed to plan; without them nothing is downloaded.
    backbone = backbone_for(settings.model, "none")
    outputs = data.labels.shape[1] if data.kind == "regression" else len(data.classes)
    head = worker.options
    model = add_head(
        backbone, outputs, hidden=head.hidden, dropout=head.dropout, activation=ACTIVATIONS[spec.name]
    )
    phases = plan_phases(model, strategy, settings.fit, settings.gradient)
    return {
        "data": {"source": data.source, **data.summary()},
        "backbone": settings.model.backbone,
        "image_size": list(backbone.input_shape[1:3]),
        "strategy": strategy.name,
        "why": strategy.why,
        "learning_rate": None if strategy.name == "probe" else strategy.learning_rate,
        "plan": [
            {"epoch": phase.start, **phase.plan.to_dict()} for phase in phases if phase.plan is not None
        ],
        "cost": _cost(model, data, strategy.name, phases, settings),
    }


def _cost(
    model: keras.Model, data: ImageTable, strategy: str, phases: list[Phase], settings: TrainSettings
) -> dict[str, Any]:
    """Multiply-adds, and minutes at the rates of :data:`features.engines.COSTS` (two CPU cores).

    As if every epoch went through the whole network: kept activations make it less.
    """
    train, val, test = (len(data.indices(split)) for split in ("train", "val", "test"))
    forward = macs(model)
    extraction = 0.0 if strategy == "scratch" else forward * (train + val)
    training = 0.0
    if strategy != "probe":
        ends = [*(phase.start for phase in phases[1:]), settings.gradient.epochs]
        for phase, end in zip(phases, ends, strict=True):
            trained = set(phase.plan.layers) if phase.plan is not None else set()
            backward = BACKWARD * sum(
                layer_macs(layer) for layer in leaf_layers(model) if layer.name in trained
            )
            epochs = max(min(end, settings.gradient.epochs) - phase.start, 0)
            training += epochs * ((forward + backward) * train + forward * val)
    fitting = 0.0
    if strategy in ("probe", "finetune", "full"):
        folds = 1 if val >= ENOUGH else FOLDS
        weights = model.get_layer(LOGITS).kernel.shape
        fitting = 2.0 * FIT_PASSES * folds * train * weights[0] * weights[1]
    seconds = (
        fitting / 1e9 * FIT_PER_GMAC
        + (extraction + forward * test) / 1e9 * COSTS["litert"].per_gmac
        + training / 1e9 * COSTS["keras"].per_gmac
    )
    return {
        "multiply_adds_per_image": round(forward),
        "extraction_multiply_adds": round(extraction),
        "fitting_multiply_adds": round(fitting),
        "training_multiply_adds": round(training),
        "minutes_on_two_cores": round(seconds / 60, 2),
    }
