"""Gradient training inside a run: its notes, its pictures, its history; and what a model answers in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError
from keras_transfer.inference import KerasRunner, outputs
from keras_transfer.settings import GradientSettings
from keras_transfer.tasks.base import TrainingContext
from keras_transfer.training.feeds import Boundary
from keras_transfer.training.finetune import fine_tune
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.phases import Phase
from keras_transfer.training.plots import lr_finder_plot

NO_BOUNDARY = Boundary("off")


@dataclass(frozen=True, eq=False)
class GradientTraining:
    """What :func:`train_by_gradient` did: ``notes`` for ``run.json``, and one dictionary per epoch."""

    notes: dict[str, Any]
    history: list[dict[str, Any]]


def train_by_gradient(
    model: keras.Model,
    data: ImageTable,
    context: TrainingContext,
    phases: list[Phase],
    objective: TrainingObjective,
    settings: GradientSettings,
    *,
    boundary: Boundary = NO_BOUNDARY,
    needs_an_epoch: bool = True,
) -> GradientTraining:
    """Train what the phases say; pictures go into the run folder. Resumes from its ``run.state``.

    Args:
        model: the loss is computed on its layer ``logits``, or, where it has none, on its output.
        phases: see :func:`keras_transfer.training.phases.plan_phases`.
        objective: :class:`keras_transfer.training.objective.Objective`, or one that a task brings.
        settings: with the learning rate to be used.
        boundary: whether what lies below the trained layers is computed once.
        needs_an_epoch: the weights before the first epoch are worth nothing.

    Raises:
        UsageError: see :func:`fine_tune`.
        DataError: the same; and a loss that was no number before one epoch was done, where one is needed.
    """
    with context.run.stage("training"):
        result = fine_tune(
            model,
            data,
            context.preprocessing,
            phases=phases,
            objective=objective,
            teacher=context.teacher,
            boundary=boundary,
            keep_start=False,  # who compares with the start does it on what counts
            seed=context.settings.seed,
            state=context.run.state,
            settings=settings,
        )
    if needs_an_epoch and not result.best_epoch:
        raise DataError("The loss became NaN or infinite before one epoch was done. Lower --learning-rate.")
    for line in result.boundaries:
        context.say(line)
    notes: dict[str, Any] = {}
    if settings.augment != "none":
        augmenter = objective.augmenter(settings, context.preprocessing, context.settings.seed)
        objective.draw_augmentation(
            data, context.preprocessing, augmenter, context.run.plots / "augmentation.png"
        )
        notes["augmentation"] = augmenter.to_dict()
    if result.finding is not None:
        lr_finder_plot(result.finding, context.run.plots / "lr_finder.png")
    notes["gradient"] = {
        "learning_rate": result.learning_rate,
        "optimizer": settings.optimizer,
        "phases": [
            {"epoch": phase.start, **(phase.plan.to_dict() if phase.plan else {})} for phase in phases
        ],
        "trained_layers": [layer.name for layer in model.layers if layer.trainable and layer.weights],
        "best_epoch": result.best_epoch,
        "epochs": len(result.history) - 1,
        "resumed_at": result.resumed_at,
        "boundary": result.boundaries,
        "diverged": result.diverged,
        "devices": result.devices.to_dict(),
    }
    return GradientTraining(notes, result.history)


def outputs_of(
    model: keras.Model, data: ImageTable, context: TrainingContext, rows: np.ndarray
) -> np.ndarray:
    """A model's outputs ``(n, ...)`` for rows of the data, with the context's preprocessing."""
    given = outputs(KerasRunner(model).predict, data, context.preprocessing, "Comparing", indices=rows)
    return np.concatenate(list(given))
