"""The regression task: one number per image, or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation import plots_tasks
from keras_transfer.evaluation.regression import regression_metrics
from keras_transfer.heads import add_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import (
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import fit_transfer, refit_probe_kept
from keras_transfer.training.regression_probe import fit_regression_probe, refit_regression_probe

LOSS = "mean squared error (1: the mean)"


class Regression(Task):
    """Backbone, GlobalAveragePooling, Dense: one number a target, in the units of the labels."""

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data; whole numbers are numbers here, not class ids.

        Raises:
            UsageError: labels that cannot be read as numbers (a folder's), or were asked to be read otherwise.
            DataError: a label that is no number, or not as many an image as the model gives.
        """
        if settings.label_mode == "auto":
            settings = dataclasses.replace(settings, label_mode="regression")
        # Numbers have no class names to look up: ``names`` only says how many there are.
        table = load_data(source, seed=seed, **vars(settings))
        if table.label_mode != "regression":
            raise UsageError(
                f"The labels of {table.source} are read as {table.label_mode}; the regression task needs numbers. "
                "Leave --labels out, or choose another --task."
            )
        given = table.labels.shape[1]
        if names is not None and given != len(names):
            raise DataError(
                f"The labels of {table.source} are {given} numbers per image, and the model gives {len(names)} "
                f"({', '.join(names)}). Give as many, separated by ';'."
            )
        return table

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
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

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """The probe on cached features; then gradient training from it if asked for.

        A probe that is kept then learns from the validation images, too.
        """

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
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

        done = fit_transfer(model, data, context, probe=probe, score=self.score)
        found = done.notes.get("probe")
        if found:
            _draw_probe(found, context.run.plots)
            refit_probe_kept(done, context, refit_regression_probe, model, data, alpha=found["alpha"])
        return Fitted(model, done.notes, done.history)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Mean absolute error and its relatives; see :func:`regression_metrics`."""
        return regression_metrics(outputs, data.labels, target_names(data))

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """``{"values": {name: number}}`` for each image; all targets, whatever ``top`` is."""
        return [{"values": dict(zip(names, map(float, row), strict=True))} for row in np.asarray(outputs)]

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """One number a target."""
        names = target_names(data)
        return OutputContract("values", (len(names),), names)

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """What the model said against what is true."""
        path = folder / "predicted_against_true.png"
        plots_tasks.predicted_against_true(outputs, data.labels, metrics["per_target"], path)


def _draw_probe(found: Mapping[str, Any], folder: Path) -> None:
    """How the probe was chosen, or how it learned."""
    if found["alpha"] is None:
        plots_tasks.loss_curves(found["trials"], "epoch", folder / "probe_curves.png", loss=LOSS)
        return
    path = folder / "regularisation.png"
    plots_tasks.loss_curves(found["trials"], "alpha", path, loss=LOSS, chosen=found["alpha"])


def target_names(data: ImageTable) -> tuple[str, ...]:
    """``("target",)`` for one number per image, else ``("target_0", "target_1", ...)``."""
    count = data.labels.shape[1]
    return ("target",) if count == 1 else tuple(f"target_{i}" for i in range(count))
