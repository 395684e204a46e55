"""The built-in task: one label an image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import UsageError
from keras_transfer.evaluation import plots
from keras_transfer.evaluation.calibration import calibration_error, reliability
from keras_transfer.evaluation.metrics import classification_metrics
from keras_transfer.evaluation.plots_calibration import reliability_plot
from keras_transfer.heads import add_head, logits_model, split_head
from keras_transfer.settings import DataSettings, TrainSettings
from keras_transfer.tasks.base import OutputContract, Task, TrainingContext, TrainingPlan
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import (
    fit_transfer,
    may_refit,
    outputs_of,
    probe_kept,
    probe_weights,
)
from keras_transfer.training.embedding_heads import fit_embedding_head
from keras_transfer.training.feeds import balancing_weights
from keras_transfer.training.probe import fit_probe, out_of_fold_logits, refit_probe
from keras_transfer.training.temperature import PRIOR, fit_temperature, fold_temperature

log = logging.getLogger("keras_transfer")

ENOUGH_TO_CALIBRATE = 50


class Classification(Task):
    """Backbone, GlobalAveragePooling, Dense: one probability a class, summing to 1."""

    _shipped: keras.Model | None = None
    _measured: tuple[np.ndarray, np.ndarray] | None = None
    _seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = (
        None  # what the probe was given: features, rows, val
    )

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """A head that is no Dense layer sits on frozen features: ``auto`` is ``probe``, anything more is refused."""
        if self.options.head == "linear":
            return settings
        if settings.fit.strategy not in ("auto", "probe"):
            raise UsageError(
                f"--head {self.options.head} sits on frozen features: it goes with --strategy probe, not "
                f"{settings.fit.strategy}. Fine-tune with --head linear."
            )
        if self.options.hidden:
            raise UsageError(
                f"--head {self.options.head} has no hidden layers. Leave out --hidden, or use --head linear."
            )
        return replace(settings, fit=replace(settings.fit, strategy="probe"))

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data; raises ``UsageError`` when its labels are not single classes."""
        table = load_data(source, seed=seed, classes=names, **vars(settings))
        if table.kind != "classes":
            raise UsageError(
                f"The labels of {table.source} are read as {table.kind}; the classification task needs one class "
                "an image. Pass --labels classes if they are class names."
            )
        return table

    def build(self, data: ImageTable, context: TrainingContext) -> keras.Model:
        """GlobalAveragePooling, dropout, hidden layers and Dense on the backbone."""
        if context.backbone is None:
            raise UsageError("The classification task needs a backbone.")
        return add_head(
            context.backbone,
            len(data.classes),
            hidden=self.options.hidden,
            dropout=self.options.dropout,
            seed=context.settings.seed,
        )

    def training_plan(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> None:
        """The head on cached features; then, unless that is all that was asked for, gradient training from it.

        A probe that is kept then learns from the validation images, too, and is calibrated by cross-validation.
        """
        self._shipped = model
        if self.options.head != "linear":
            return self._fit_on_embeddings(model, data, context)
        weights, judged = (
            probe_weights(data, context),
            balancing_weights(data, context.settings.gradient.balance),
        )

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
            self._seen = features, rows, val
            result = fit_probe(
                model,
                features,
                data.labels[rows],
                train=train,
                val=val,
                sample_weight=weights[rows],
                judged=None if judged is None else judged[rows],
                seed=context.settings.seed,
            )
            return {"probe": {"C": result.c, "chosen_on": result.chosen_on, "trials": result.trials}}

        fit_transfer(model, data, context, self, probe)
        chosen = context.notes.get("probe", {}).get("C")
        seen = self._seen if chosen is not None and may_refit(data, context) else None
        if seen is not None:
            features, rows, _ = seen
            given = {"rows": np.arange(len(rows)), "c": chosen, "sample_weight": weights[rows]}
            refit_probe(model, features, data.labels[rows], **given)
        if self.options.calibrate:
            if seen is not None:
                asked, logits = out_of_fold_logits(
                    features, data.labels[rows], len(data.classes), seed=context.settings.seed, **given
                )
                asked = rows[asked]
            else:
                asked, logits = data.indices("val"), self._held_out_logits(model, data, context)
            temperature = _temperature(logits, data, asked, context.notes["refit"] if seen else None)
            context.notes["temperature"] = temperature
            if temperature["value"] != 1.0:
                fold_temperature(model, temperature["value"])
        self._seen = None

    def _fit_on_embeddings(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> None:
        """A head that is no Dense layer: nothing is trained through it."""
        if self.options.head == "knn" and context.settings.gradient.balance != "none":
            log.warning(
                "--balance %s has no say in --head knn: every neighbour has one vote. Use --head svm or linear.",
                context.settings.gradient.balance,
            )
        extractor, _ = split_head(model)
        weights, judged = (
            probe_weights(data, context),
            balancing_weights(data, context.settings.gradient.balance),
        )

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
            result = fit_embedding_head(
                extractor,
                self.options.head,
                features,
                data.labels[rows],
                len(data.classes),
                train=train,
                val=val,
                sample_weight=weights[rows],
                judged=None if judged is None else judged[rows],
                seed=context.settings.seed,
                refit=may_refit(data, context),
            )
            self._shipped = result.model
            chosen = {"kind": result.kind, **result.chosen, "chosen_on": result.chosen_on}
            return {"head": {**chosen, "trials": result.trials}}

        fit_transfer(model, data, context, self, probe)

    def _held_out_logits(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> np.ndarray:
        """Of the validation images, which the model has not learned from; none where they are too few to be asked."""
        val = data.indices("val")
        if len(val) < ENOUGH_TO_CALIBRATE:
            return np.empty((len(val), len(data.classes)))
        if probe_kept(context) and self._seen is not None:  # the network is what gave the features
            features, _, held_out = self._seen
            return np.asarray(split_head(model)[1](features[held_out], training=False))
        return outputs_of(logits_model(model), data, context, val)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Accuracy and its relatives; see :func:`classification_metrics`."""
        self._measured = np.asarray(outputs), data.labels
        return classification_metrics(outputs, data.labels, data.classes)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The most probable class, ``(N,)``."""
        return outputs.argmax(axis=1)

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """The ``top`` most probable classes of each image, most probable first."""
        results = []
        for row in np.asarray(outputs):
            order = np.argsort(-row, kind="stable")[:top]
            results.append(
                {"classes": [{"label": names[i], "probability": round(float(row[i]), 6)} for i in order]}
            )
        return results

    def inference_model(self, model: keras.Model) -> keras.Model:
        """Pixels to probabilities: the model itself, or with another head what was built from it."""
        return self._shipped if self._shipped is not None else model

    def output_contract(self, data: ImageTable) -> OutputContract:
        """One probability a class."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)

    def plots(self, metrics: Mapping[str, Any], context: TrainingContext) -> None:
        """The confusion matrix, the learning curves, and the probe's regularisation."""
        names = list(metrics["per_class"])
        plots.confusion_matrix(metrics["confusion_matrix"], names, context.run.plots / "confusion_matrix.png")
        temperature = context.notes.get("temperature", {}).get("value", 1.0)
        if self._measured is not None and temperature != 1.0:
            after, labels = self._measured
            scores = (
                np.maximum(after.astype(np.float64), 1e-12) ** temperature
            )  # softmax(z / T) back to softmax(z)
            before = scores / scores.sum(axis=1, keepdims=True)
            first, second = reliability(before, labels), reliability(after, labels)
            reliability_plot(first, second, context.run.plots / "reliability.png")
            errors = {"before": calibration_error(first), "after": calibration_error(second)}
            context.notes["temperature"]["calibration_error"] = errors
        if context.history:
            plots.learning_curves(context.history, context.run.plots / "learning_curves.png")
        probe = context.notes.get("probe")
        if probe and probe["C"] is not None:
            plots.regularisation_curve(probe["trials"], probe["C"], context.run.plots / "regularisation.png")
        elif probe:
            rows = [
                {
                    "epoch": t["epoch"] + 1,
                    "loss": t["train_loss"],
                    "val_loss": t["val_loss"],
                    "val_accuracy": t["val_accuracy"],
                }
                for t in probe["trials"]
            ]
            plots.learning_curves(rows, context.run.plots / "probe_curves.png")


def _temperature(
    logits: np.ndarray, data: ImageTable, rows: np.ndarray, refit: Mapping[str, Any] | None
) -> dict[str, Any]:
    """``value`` and ``why``: 1 where the images cannot tell it.

    Args:
        logits: float ``(n, C)`` of the images ``rows (n,)``, given by heads that did not learn from them.
        refit: the notes of a head that was fitted again; None: the rows are the validation images.
    """
    about, how = f"{len(rows)} validation images", ""
    if refit is not None:
        about, how = f"{refit['train']} training and {refit['val']} validation images", ", cross-validated"
    if len(rows) < ENOUGH_TO_CALIBRATE:
        return {"value": 1.0, "why": f"{about} are too few"}
    if len(np.unique(data.labels[rows])) < 2:
        return {"value": 1.0, "why": f"{about} are of one class"}
    value = fit_temperature(logits, data.labels[rows], data.weights[rows], prior=PRIOR)
    return {"value": value, "why": f"chosen on {about}{how}"}
