"""The multi-label task: any number of labels per image, none included."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation import plots, plots_tasks
from keras_transfer.evaluation.multilabel import multilabel_metrics
from keras_transfer.heads import add_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.base import (
    NOTHING,
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.gradient import outputs_of
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import fit_transfer, refit_probe_kept
from keras_transfer.training.multilabel_probe import (
    EVEN,
    fit_multilabel_probe,
    refit_multilabel_probe,
    tuned_thresholds,
)


class MultiLabel(Task):
    """Backbone, GlobalAveragePooling, Dense, sigmoid: one probability a label, independent of the others.

    Attributes:
        thresholds: from which probability on a label is given, by label in the order of the outputs, as a training
            noted them. None: not known, 0.5 for every label.

    Raises ``ValueError`` for notes with something else as thresholds.
    """

    def __init__(
        self, options: Any, notes: Mapping[str, Any] = NOTHING, run_path: Path | None = None
    ) -> None:
        super().__init__(options, notes, run_path)
        found = notes.get("thresholds")
        if found is not None and not isinstance(found, Mapping):
            raise ValueError(f"thresholds are {found!r}")
        self.thresholds: Mapping[str, float] | None = (
            None if found is None else {str(name): float(value) for name, value in found.items()}
        )

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data; raises ``UsageError`` when its labels are single classes or numbers.

        For a trained model (``names``) every label is read as a list of names: that its new images have one each
        says nothing.
        """
        if names is not None and settings.label_mode == "auto":
            settings = dataclasses.replace(settings, label_mode="multilabel")
        table = load_data(source, seed=seed, classes=names, **vars(settings))
        if table.label_mode != "multilabel":
            raise UsageError(
                f"The labels of {table.source} are read as {table.label_mode}; the multilabel task needs any number of "
                f"names an image, separated by {settings.separator!r} (--separator). Pass --labels multilabel if every "
                "image happens to have one, or "
                "--task classification if exactly one is right."
            )
        return table

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
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

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """The probe on cached features, gradient training from it if asked for, and a threshold for every label.

        A probe that is kept then learns from the validation images, too; its thresholds remain.
        """

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
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
            constant = [data.classes[i] for i in result.constant]
            return {
                "thresholds": dict(zip(data.classes, result.thresholds.tolist(), strict=True)),
                "probe": {
                    "C": result.c,
                    "chosen_on": result.chosen_on,
                    "constant_labels": constant,
                    "trials": result.trials,
                },
            }

        done = fit_transfer(model, data, context, probe=probe, score=self.score)
        if not done.probe_kept:  # other probabilities than the probe's need other thresholds
            done.notes["thresholds"] = self._tuned(model, data, context)
        found = done.notes.get("probe")
        if found:
            _draw_probe(found, context.run.plots)
            refit_probe_kept(done, context, refit_multilabel_probe, model, data, c=found["C"])
        return Fitted(model, done.notes, done.history)

    def _tuned(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> dict[str, float]:
        """Thresholds of a trained network, from the validation images."""
        val = data.indices("val")
        if not len(val):
            return dict.fromkeys(data.classes, EVEN)
        learned = data.labels[data.indices("train")]
        chances = outputs_of(model, data, context, val)
        found = tuned_thresholds(chances, data.labels[val], learned, calibrated=False)
        return dict(zip(data.classes, found.tolist(), strict=True))

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

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """One probability a label."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """Precision-recall curves."""
        path = folder / "precision_recall.png"
        plots_tasks.precision_recall_curves(outputs, data.labels, metrics["per_class"], path)

    def _cuts(self, count: int) -> np.ndarray:
        known = self.thresholds or {}
        return np.array(list(known.values())) if len(known) == count else np.full(count, EVEN)


def _draw_probe(found: Mapping[str, Any], folder: Path) -> None:
    """How the probe was chosen, or how it learned."""
    if found["C"] is None:
        plots_tasks.loss_curves(found["trials"], "epoch", folder / "probe_curves.png", loss="log loss")
    else:
        plots.regularisation_curve(found["trials"], found["C"], folder / "regularisation.png")
