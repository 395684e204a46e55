"""The multi-label task: any number of labels an image, none included."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation import plots, plots_tasks
from keras_transfer.evaluation.multilabel import multilabel_metrics
from keras_transfer.heads import add_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import OutputContract, Task, TrainingContext, TrainingPlan
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import fit_transfer, may_refit, outputs_of, probe_kept, refit
from keras_transfer.training.multilabel_probe import (
    EVEN,
    fit_multilabel_probe,
    refit_multilabel_probe,
    tuned_thresholds,
)


class MultiLabel(Task):
    """Backbone, GlobalAveragePooling, Dense, sigmoid: one probability a label, independent of the others.

    Attributes:
        thresholds: from which probability on a label is given, by label in the order of the outputs; set by ``fit``
            and ``restore``. None: not known, 0.5 for every label.
    """

    thresholds: Mapping[str, float] | None = None
    _measured: tuple[np.ndarray, np.ndarray] | None = None

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Take up the thresholds of a finished run. Raises ``ValueError`` for something else."""
        found = notes.get("thresholds")
        if found is not None and not isinstance(found, Mapping):
            raise ValueError(f"thresholds are {found!r}")
        self.thresholds = (
            None if found is None else {str(name): float(value) for name, value in found.items()}
        )

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data; raises ``UsageError`` when its labels are single classes or numbers.

        For a trained model (``names``) every label is read as a list of names: that its new images have one each
        says nothing.
        """
        if names is not None and settings.labels == "auto":
            settings = dataclasses.replace(settings, labels="multilabel")
        table = load_data(source, seed=seed, classes=names, **vars(settings))
        if table.kind != "multilabel":
            raise UsageError(
                f"The labels of {table.source} are read as {table.kind}; the multilabel task needs any number of "
                f"names an image, separated by {settings.separator!r} (--separator). Pass --labels multilabel if every "
                "image happens to have one, or "
                "--task classification if exactly one is right."
            )
        return table

    def build(self, data: ImageTable, context: TrainingContext) -> keras.Model:
        """GlobalAveragePooling, dropout, hidden layers, Dense and sigmoid on the backbone."""
        if context.backbone is None:
            raise UsageError("The multilabel task needs a backbone.")
        return add_head(
            context.backbone,
            len(data.classes),
            hidden=self.options.hidden,
            dropout=self.options.dropout,
            seed=context.settings.seed,
            activation="sigmoid",
        )

    def training_plan(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> None:
        """The probe on cached features, gradient training from it if asked for, and a threshold for every label.

        A probe that is kept then learns from the validation images, too; its thresholds remain.
        """
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
            seen.append((features, rows))
            result = fit_multilabel_probe(
                model,
                features,
                data.labels[rows],
                train=train,
                val=val,
                names=data.classes,
                sample_weight=data.weights[rows],
                seed=context.settings.seed,
            )
            self.thresholds = dict(zip(data.classes, result.thresholds.tolist(), strict=True))
            constant = [data.classes[i] for i in result.constant]
            return {
                "probe": {
                    "C": result.c,
                    "chosen_on": result.chosen_on,
                    "constant_labels": constant,
                    "trials": result.trials,
                }
            }

        fit_transfer(model, data, context, self, probe)
        if not probe_kept(context):  # other probabilities than the probe's need other thresholds
            val = data.indices("val")
            if len(val):
                learned = data.labels[data.indices("train")]
                chances = outputs_of(model, data, context, val)
                found = tuned_thresholds(chances, data.labels[val], learned, calibrated=False)
                self.thresholds = dict(zip(data.classes, found.tolist(), strict=True))
            else:
                self.thresholds = None
        self.thresholds = self.thresholds or dict.fromkeys(data.classes, EVEN)
        context.notes["thresholds"] = dict(self.thresholds)
        chosen = context.notes.get("probe", {}).get("C")
        if chosen is not None and may_refit(data, context):
            refit(refit_multilabel_probe, model, data, seen[0], c=chosen)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Average precision, F1 at the thresholds and their relatives; see :func:`multilabel_metrics`.

        Raises ``DataError`` when the data's labels are not the model's.
        """
        if self.thresholds is not None and tuple(self.thresholds) != data.classes:
            unknown = [name for name in data.classes if name not in self.thresholds]
            raise DataError(
                f"The labels of {data.source} are not the model's"
                f"{': it does not know ' + ', '.join(map(repr, unknown)) if unknown else ''}. It gives "
                f"{', '.join(self.thresholds)}, in this order: load the data with these classes."
            )
        self._measured = np.asarray(outputs), data.labels
        return multilabel_metrics(outputs, data.labels, data.classes, self._cuts(len(data.classes)))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Which labels reach their threshold, ``(N, C)``."""
        return outputs >= self._cuts(outputs.shape[1])

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """For each image ``labels`` (all that reach their threshold) and ``classes`` (the ``top`` most probable).

        Both are lists of ``{"label", "probability"}``, most probable first; ``labels`` may be empty.
        """
        cuts = self._cuts(len(names))
        results = []
        for row in np.asarray(outputs):
            order = np.argsort(-row, kind="stable")
            told = {i: {"label": names[i], "probability": round(float(row[i]), 6)} for i in order}
            results.append(
                {
                    "labels": [told[i] for i in order if row[i] >= cuts[i]],
                    "classes": [told[i] for i in order[:top]],
                }
            )
        return results

    def inference_model(self, model: keras.Model) -> keras.Model:
        """The model itself: pixels to probabilities."""
        return model

    def output_contract(self, data: ImageTable) -> OutputContract:
        """One probability a label."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)

    def plots(self, metrics: Mapping[str, Any], context: TrainingContext) -> None:
        """Precision-recall curves of what was evaluated last, and how the probe was chosen."""
        folder = context.run.plots
        if self._measured is not None:
            plots_tasks.precision_recall_curves(
                *self._measured, metrics["per_class"], folder / "precision_recall.png"
            )
        probe = context.notes.get("probe")
        if probe and probe["C"] is not None:
            plots.regularisation_curve(probe["trials"], probe["C"], folder / "regularisation.png")
        elif probe:
            plots_tasks.loss_curves(probe["trials"], "epoch", folder / "probe_curves.png", loss="log loss")
        if context.history:
            plots.learning_curves(context.history, folder / "learning_curves.png", "average_precision")

    def _cuts(self, count: int) -> np.ndarray:
        known = self.thresholds or {}
        return np.array(list(known.values())) if len(known) == count else np.full(count, EVEN)
