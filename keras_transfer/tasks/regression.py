"""The regression task: one number an image, or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation import plots, plots_tasks
from keras_transfer.evaluation.regression import regression_metrics
from keras_transfer.heads import add_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import OutputContract, Task, TrainingContext, TrainingPlan
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import fit_transfer, may_refit, refit
from keras_transfer.training.regression_probe import fit_regression_probe, refit_regression_probe

LOSS = "mean squared error (1: the mean)"


class Regression(Task):
    """Backbone, GlobalAveragePooling, Dense: one number a target, in the units of the labels."""

    _measured: tuple[np.ndarray, np.ndarray] | None = None

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data; whole numbers are numbers here, not class ids.

        Raises:
            UsageError: labels that cannot be read as numbers (a folder's), or were asked to be read otherwise.
            DataError: a label that is no number, or not as many an image as the model gives.
        """
        if settings.labels == "auto":
            settings = dataclasses.replace(settings, labels="regression")
        # Numbers have no class names to look up: ``names`` only says how many there are.
        table = load_data(source, seed=seed, **vars(settings))
        if table.kind != "regression":
            raise UsageError(
                f"The labels of {table.source} are read as {table.kind}; the regression task needs numbers. Leave "
                "--labels out, or choose another --task."
            )
        given = table.labels.shape[1]
        if names is not None and given != len(names):
            raise DataError(
                f"The labels of {table.source} are {given} numbers an image, and the model gives {len(names)} "
                f"({', '.join(names)}). Give as many, separated by ';'."
            )
        return table

    def build(self, data: ImageTable, context: TrainingContext) -> keras.Model:
        """GlobalAveragePooling, dropout, hidden layers and Dense on the backbone."""
        if context.backbone is None:
            raise UsageError("The regression task needs a backbone.")
        return add_head(
            context.backbone,
            data.labels.shape[1],
            hidden=self.options.hidden,
            dropout=self.options.dropout,
            seed=context.settings.seed,
            activation="linear",
        )

    def training_plan(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> None:
        """The probe on cached features; then gradient training from it if asked for.

        A probe that is kept then learns from the validation images, too.
        """
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
            seen.append((features, rows))
            result = fit_regression_probe(
                model,
                features,
                data.labels[rows],
                train=train,
                val=val,
                names=target_names(data),
                sample_weight=data.weights[rows],
                seed=context.settings.seed,
            )
            return {"probe": {"alpha": result.alpha, "chosen_on": result.chosen_on, "trials": result.trials}}

        fit_transfer(model, data, context, self, probe)
        chosen = context.notes.get("probe", {}).get("alpha")
        if chosen is not None and may_refit(data, context):
            refit(refit_regression_probe, model, data, seen[0], alpha=chosen)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Mean absolute error and its relatives; see :func:`regression_metrics`."""
        metrics = regression_metrics(outputs, data.labels, target_names(data))
        self._measured = np.asarray(outputs), data.labels
        return metrics

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """``{"values": {name: number}}`` for each image; all targets, whatever ``top`` is."""
        return [{"values": dict(zip(names, map(float, row), strict=True))} for row in np.asarray(outputs)]

    def inference_model(self, model: keras.Model) -> keras.Model:
        """The model itself: pixels to numbers."""
        return model

    def output_contract(self, data: ImageTable) -> OutputContract:
        """One number a target."""
        names = target_names(data)
        return OutputContract("values", (len(names),), names)

    def plots(self, metrics: Mapping[str, Any], context: TrainingContext) -> None:
        """What the model said against what is true, for what was evaluated last, and how the probe was chosen."""
        folder = context.run.plots
        if self._measured is not None:
            plots_tasks.predicted_against_true(
                *self._measured, metrics["per_target"], folder / "predicted_against_true.png"
            )
        probe = context.notes.get("probe")
        if probe and probe["alpha"] is not None:
            path = folder / "regularisation.png"
            plots_tasks.loss_curves(probe["trials"], "alpha", path, loss=LOSS, chosen=probe["alpha"])
        elif probe:
            plots_tasks.loss_curves(probe["trials"], "epoch", folder / "probe_curves.png", loss=LOSS)
        if context.history:
            plots.learning_curves(context.history, folder / "learning_curves.png", "mean_absolute_error")


def target_names(data: ImageTable) -> tuple[str, ...]:
    """``("target",)`` for one number an image, else ``("target_0", "target_1", ...)``."""
    count = data.labels.shape[1]
    return ("target",) if count == 1 else tuple(f"target_{i}" for i in range(count))
