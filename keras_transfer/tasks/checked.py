"""A task as the core uses it: every answer is checked where it is given, and what it does not honour is refused."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import PluginError, UsageError
from keras_transfer.settings import DataSettings, FitSettings, GradientSettings, TrainSettings
from keras_transfer.tasks.base import (
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TaskSpec,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.returned import (
    BLAME,
    checked_answers,
    checked_contract,
    checked_decisions,
    checked_history,
    checked_metrics,
    checked_notes,
    checked_plan,
    returned,
)

LEAVES = ("auto", "probe")
"""Strategies that ask nothing of a task: the backbone stays as it is."""


class CheckedTask(Task):
    """Another task behind the same contract.

    A wrong type, a number that is none, a shape that does not fit, or a value that JSON cannot hold raises
    ``PluginError`` that names the task, its package, the method and the key.

    Args:
        task: of a plugin or of the core.
        spec: its spec.
        package: the distribution it comes from, with its version; "": not known.
    """

    def __init__(self, task: Task, spec: TaskSpec, package: str = "") -> None:
        super().__init__(task.options, task.notes, task.run_path)
        self.task, self.spec = task, spec
        self.who = f"The task {spec.name!r}{f' of {package}' if package else ''}"

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """As the task's; a setting that it does not honour is refused."""
        found = returned(
            self.who, "settings_for", self.task.settings_for(settings), TrainSettings, "a TrainSettings"
        )
        refuse_ignored(self.spec, settings)
        return found

    def takes_backbone(self) -> bool:
        """As the task's."""
        return returned(self.who, "takes_backbone", self.task.takes_backbone(), bool, "True or False")

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """As the task's."""
        table = self.task.load_data(source, settings, seed, names=names)
        return returned(self.who, "load_data", table, ImageTable, "an ImageTable")

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
        """As the task's; what it says of the outputs must fit the model."""
        model = returned(self.who, "build", self.task.build(data, context), keras.Model, "a Keras model")
        self.output_contract(output_shape(model), data)
        return model

    def training_plan(
        self, model: keras.Model, data: ImageTable, context: BuildContext
    ) -> TrainingPlan | None:
        """As the task's."""
        return checked_plan(self.who, self.task.training_plan(model, data, context))

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """As the task's, with notes and history as JSON has them."""
        fitted = returned(self.who, "fit", self.task.fit(model, data, context), Fitted, "a Fitted")
        returned(self.who, "fit's model", fitted.model, keras.Model, "a Keras model")
        return Fitted(
            fitted.model, checked_notes(self.who, fitted.notes), checked_history(self.who, fitted.history)
        )

    def draw_inputs(self, data: ImageTable) -> np.ndarray:
        """As the task's."""
        inputs = returned(self.who, "draw_inputs", self.task.draw_inputs(data), np.ndarray, "an array")
        if len(inputs) != len(data):
            raise PluginError(
                f"{self.who}: draw_inputs gave {len(inputs)} inputs for {len(data)} images; one for each is "
                f"expected. {BLAME}"
            )
        return inputs

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """As the task's."""
        return checked_metrics(self.who, self.task.evaluate(outputs, data), self.spec.metrics)

    def score(self, outputs: np.ndarray, data: ImageTable, metric: str) -> float | None:
        """As the task's."""
        value = self.task.score(outputs, data, metric)
        if value is None:
            return None
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise PluginError(
                f"{self.who}: score gave {value!r} as {metric}; a finite number is expected, or None where it cannot "
                f"be measured. {BLAME}"
            )
        return float(value)

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """As the task's."""
        return checked_answers(self.who, self.task.predict(outputs, names, top), len(outputs))

    def decide(self, outputs: np.ndarray) -> np.ndarray | None:
        """As the task's, as one array."""
        return checked_decisions(self.who, self.task.decide(outputs), len(outputs))

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """As the task's."""
        return checked_contract(self.who, self.task.output_contract(shape, data), shape)

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """As the task's."""
        self.task.plots(outputs, data, metrics, folder)


def output_shape(model: keras.Model) -> tuple[int, ...]:
    """Of a model's output, without the batch."""
    return tuple(model.outputs[0].shape)[1:]


def refuse_ignored(spec: TaskSpec, settings: TrainSettings) -> None:
    """Raise ``UsageError`` for settings of training that are not at their default and that a task does not honour."""
    ignored = [
        _flag(name, value)
        for given, default in ((settings.fit, FitSettings()), (settings.gradient, GradientSettings()))
        for name, value in vars(given).items()
        if value != getattr(default, name)
        and name not in (*spec.honours, "engine")
        and not (name == "strategy" and value in LEAVES)
    ]
    if ignored:
        were, them = ("was", "it") if len(ignored) == 1 else ("were", "them")
        raise UsageError(
            f"{', '.join(ignored)} {were} given, and the task {spec.name} does not follow {them}. Leave {them} out."
        )


def _flag(name: str, value: Any) -> str:
    """As it is written on the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{flag}"
    return f"--{flag} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
