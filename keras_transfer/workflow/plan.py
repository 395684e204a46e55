"""What a training would do, without doing it: ``train --dry-run``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from keras_transfer import options as option_tools
from keras_transfer.backbones.blocks import blocks, leaf_layers
from keras_transfer.backbones.cost import is_counted, macs
from keras_transfer.data import ImageTable
from keras_transfer.inference import engines
from keras_transfer.inference.engines import COSTS
from keras_transfer.run import BACKBONE, HISTORY, INFO, MODEL, PLOTS, PREDICTIONS, REPORT, SKIPPED, SPLIT
from keras_transfer.settings import FitSettings, TrainSettings
from keras_transfer.tasks.base import BuildContext, TrainingPlan
from keras_transfer.tasks.checked import output_shape
from keras_transfer.tasks.loading import load_task
from keras_transfer.tasks.returned import plain
from keras_transfer.training.devices import prepare_devices
from keras_transfer.workflow.report import is_kept
from keras_transfer.workflow.train import backbone_for, preprocessing_for
from keras_transfer.workflow.unknown import FILE as UNFAMILIARITY

FIT_PER_GMAC = 0.05
"""Seconds on two cores for a billion multiply-adds of fitting a head (single precision)."""
UNTOLD = "the task tells no plan"


def plan_training(
    source: Any,
    *,
    task: str = "classification",
    task_options: Any = None,
    settings: TrainSettings | None = None,
) -> dict[str, Any]:
    """Read and check the data, build the network, plan what trains, estimate the cost. Trains and writes nothing.

    Args:
        source, task, task_options, settings: as for ``workflow.train.train``.

    Returns:
        JSON-able: ``task``; ``data`` (counts by class and split, skipped files); ``backbone`` (None: a network of the
        task's own) and ``image_size``; ``network`` (its ``name``, shapes, ``parameters`` and ``blocks``);
        ``strategy`` and ``why``; ``plan`` (one dictionary a phase, see
        :class:`~keras_transfer.tasks.base.TrainingPlan`; empty where the task tells none); ``cost`` (multiply-adds of
        one image, of one pass over all, of the features, of fitting the head, of the gradient training, None where
        that is not known; rough minutes on two CPU cores of what is known, and whether that is ``complete``);
        ``files`` of the run folder.

    Raises:
        UsageError, DataError, WeightsError, PluginError: what the training would raise.
    """
    settings = settings or TrainSettings()
    for group in (settings.data, settings.model, settings.fit, settings.gradient):
        option_tools.check(group)
    engines.require(settings.fit)
    spec, worker = load_task(task, task_options)
    settings = worker.settings_for(settings)
    prepare_devices(settings.gradient.devices)
    data = worker.load_data(source, settings.data, settings.seed)
    # Weights are not needed to plan; without them nothing is downloaded.
    model_settings = replace(settings.model, weights="none")
    backbone = backbone_for(model_settings) if spec.needs_backbone and worker.takes_backbone() else None
    size = (settings.model.image_size or 224,) * 2 if backbone is None else tuple(backbone.input_shape[1:3])
    context = BuildContext(
        settings=replace(settings, model=model_settings),
        preprocessing=preprocessing_for(settings.model, size),
        task=spec.name,
        backbone=backbone,
    )
    model = worker.build(data, context)
    plan = worker.training_plan(model, data, context) or TrainingPlan(settings.fit.strategy, UNTOLD)
    return {
        "task": spec.name,
        "data": {"source": data.source, **data.summary()},
        "backbone": None if backbone is None else settings.model.backbone,
        "image_size": list(size),
        "network": _network(model, backbone, settings.fit),
        "strategy": plan.strategy,
        "why": plan.why,
        "learning_rate": plan.learning_rate,
        "plan": plain(plan.phases),
        "cost": _cost(model, data, plan),
        "files": _files(plan, settings.fit, model, data),
    }


def _network(model: keras.Model, backbone: keras.Model | None, fit: FitSettings) -> dict[str, Any]:
    """Shapes and blocks, and of those whether the core keeps them as they are: whatever the task does."""
    layers = {layer.name: layer for layer in leaf_layers(model)}
    below = set() if backbone is None else {layer.name for layer in leaf_layers(backbone)}
    return {
        "name": model.name,
        "inputs": [list(tensor.shape) for tensor in getattr(model, "inputs", None) or ()],
        "outputs": [list(tensor.shape) for tensor in getattr(model, "outputs", None) or ()],
        "parameters": _numbers(model),
        "of_the_backbone": None if backbone is None else _numbers(backbone),
        "blocks": [_block(block, [layers[name] for name in names], below) for block, names in blocks(model)],
        "backbone_stays": fit.strategy == "probe" and fit.batchnorm != "adapt",
    }


def _block(name: str, layers: list[keras.layers.Layer], below: set[str]) -> dict[str, Any]:
    weighted = [layer for layer in layers if layer.weights]
    return {
        "block": name,
        "layers": len(layers),
        "parameters": sum(map(_numbers, layers)),
        "backbone": bool(weighted) and all(layer.name in below for layer in weighted),
    }


def _numbers(holder: Any) -> int:
    """How many numbers the weights of a model or layer hold."""
    return sum(math.prod(weight.shape) for weight in holder.weights)


def _cost(model: keras.Model, data: ImageTable, plan: TrainingPlan) -> dict[str, Any]:
    """Multiply-adds, and minutes at the rates of :data:`inference.engines.COSTS` (two CPU cores)."""
    forward = _forward(model)
    parts = {"extraction": plan.extraction, "fitting": plan.fitting, "training": plan.training}
    complete = forward is not None and None not in parts.values()
    one_pass = None if forward is None else forward * len(data)
    frozen = (plan.extraction or 0.0) + (forward or 0.0) * len(data.indices("test"))
    seconds = (
        (plan.fitting or 0.0) / 1e9 * FIT_PER_GMAC
        + frozen / 1e9 * COSTS["litert"].per_gmac
        + (plan.training or 0.0) / 1e9 * COSTS["keras"].per_gmac
    )
    known = any(value is not None for value in parts.values())
    return {
        "multiply_adds_per_image": _rounded(forward),
        "pass_multiply_adds": _rounded(one_pass),
        **{f"{name}_multiply_adds": _rounded(value) for name, value in parts.items()},
        "minutes_on_two_cores": round(seconds / 60, 2) if known else None,
        "pass_minutes": None if one_pass is None else round(one_pass / 1e9 * COSTS["keras"].per_gmac / 60, 2),
        "complete": complete,
    }


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _forward(model: keras.Model) -> float | None:
    """Multiply-adds of one image; None where a layer of the task's own cannot be counted."""
    if not all(is_counted(layer) for layer in leaf_layers(model)):
        return None
    try:
        return macs(model)
    except (AttributeError, ValueError, RuntimeError):  # a layer that is called twice, or never
        return None


def _files(plan: TrainingPlan, fit: FitSettings, model: keras.Model, data: ImageTable) -> list[str]:
    deployed = [BACKBONE] if fit.deploy is not None else []
    deployed += [UNFAMILIARITY] if fit.unknown != "none" else []
    measured = next(
        (len(data.indices(split)) for split in ("test", "val", "train") if len(data.indices(split))), 0
    )
    outputs: Any = getattr(model, "outputs", None) or ()
    kept = len(outputs) == 1 and is_kept((measured, *output_shape(model)), outputs[0].dtype)
    answers = [PREDICTIONS] if kept else []
    return [INFO, MODEL, *deployed, SPLIT, HISTORY, SKIPPED, *answers, REPORT, f"{PLOTS}/", *plan.files]
