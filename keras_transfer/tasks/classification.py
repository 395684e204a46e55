"""The built-in task: one label per image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import UsageError
from keras_transfer.evaluation import plots
from keras_transfer.evaluation.calibration import calibration_error, reliability
from keras_transfer.evaluation.metrics import SMALLEST, classification_metrics
from keras_transfer.evaluation.plots_calibration import reliability_plot
from keras_transfer.heads import LOGITS, add_head, logits_model, split_head
from keras_transfer.settings import DataSettings, TrainSettings
from keras_transfer.tasks.base import (
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.gradient import outputs_of
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import (
    Transferred,
    fit_transfer,
    probe_weights,
    refit_on,
)
from keras_transfer.training.embedding_heads import fit_embedding_head
from keras_transfer.training.feeds import balancing_weights
from keras_transfer.training.probe import fit_probe, out_of_fold_logits, refit_probe
from keras_transfer.training.temperature import PRIOR, fit_temperature, fold_temperature

log = logging.getLogger("keras_transfer")

ENOUGH_TO_CALIBRATE = 50


class Classification(Task):
    """Backbone, GlobalAveragePooling, Dense: one probability a class, summing to 1."""

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
        if table.label_mode != "classes":
            raise UsageError(
                f"The labels of {table.source} are read as {table.label_mode}; the classification task needs one class "
                "an image. Pass --labels classes if they are class names."
            )
        return table

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
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

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """See :func:`~keras_transfer.tasks.planning.plan_transfer`."""
        return plan_transfer(model, data, context)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """The head on cached features; then, unless that is all that was asked for, gradient training from it.

        A probe that is kept then learns from the validation images, too, and is calibrated by cross-validation.
        """
        if self.options.head != "linear":
            return self._fit_on_embeddings(model, data, context)
        weights, judged = (
            probe_weights(data, context),
            balancing_weights(data, context.settings.gradient.balance),
        )

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
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

        done = fit_transfer(model, data, context, probe=probe, score=self.score)
        notes = done.notes
        if "probe" in notes:
            _draw_probe(notes["probe"], context.run.plots)
        chosen = notes.get("probe", {}).get("C")
        again = refit_on(data, context) if chosen is not None and done.probe_kept else None
        if again is not None:
            notes["refit"] = again
        seen = done.seen if again is not None and again["images"] else None
        if seen is not None:
            rows = seen.rows
            given = {"rows": np.arange(len(rows)), "c": chosen, "sample_weight": weights[rows]}
            refit_probe(model, seen.features, data.labels[rows], **given)
        if self.options.calibrate:
            if seen is not None:
                asked, logits = out_of_fold_logits(
                    seen.features,
                    data.labels[rows],
                    len(data.classes),
                    seed=context.settings.seed,
                    near=tuple(model.get_layer(LOGITS).get_weights()),
                    **given,
                )
                asked = rows[asked]
            else:
                asked, logits = data.indices("val"), _held_out_logits(model, data, context, done)
            temperature = _temperature(logits, data, asked, again if seen is not None else None)
            notes["temperature"] = temperature
            if temperature["value"] != 1.0:
                fold_temperature(model, temperature["value"])
        return Fitted(model, notes, done.history)

    def _fit_on_embeddings(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
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
        shipped: list[keras.Model] = []

        def probe(
            features: np.ndarray, rows: np.ndarray, train: np.ndarray, val: np.ndarray
        ) -> dict[str, Any]:
            again = refit_on(data, context)  # these heads are all that is trained
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
                refit=again is not None and again["images"] > 0,
            )
            shipped.append(result.model)
            chosen = {"kind": result.kind, **result.chosen, "chosen_on": result.chosen_on}
            found: dict[str, Any] = {"head": {**chosen, "trials": result.trials}}
            return found if again is None else {**found, "refit": again}

        done = fit_transfer(model, data, context, probe=probe, score=self.score)
        return Fitted(shipped[0], done.notes, done.history)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Accuracy and its relatives; see :func:`classification_metrics`.

        Of a model with a temperature, ``uncalibrated_error``, too: the calibration error without it.
        """
        metrics = classification_metrics(outputs, data.labels, data.classes)
        if self._temperature != 1.0:
            before = _uncalibrated(outputs, self._temperature)
            metrics["uncalibrated_error"] = calibration_error(reliability(before, data.labels))
        return metrics

    def score(self, outputs: np.ndarray, data: ImageTable, metric: str) -> float | None:
        """One of the metrics; the two that the guard asks for are not counted from the whole table."""
        if metric == "accuracy":
            return float(np.mean(outputs.argmax(axis=1) == data.labels))
        if metric == "log_loss":
            true = np.asarray(outputs, np.float64)[np.arange(len(data.labels)), data.labels]
            return float(-np.log(np.clip(true, SMALLEST, 1.0)).mean())
        return super().score(outputs, data, metric)

    @property
    def _temperature(self) -> float:
        """By which the logits of a finished training were divided."""
        return float(self.notes.get("temperature", {}).get("value", 1.0))

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

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """One probability a class."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """The confusion matrix, and how reliable the probabilities are without the temperature and with it."""
        names = list(metrics["per_class"])
        plots.confusion_matrix(metrics["confusion_matrix"], names, folder / "confusion_matrix.png")
        if self._temperature != 1.0:
            given = _uncalibrated(outputs, self._temperature), outputs
            first, second = (reliability(probabilities, data.labels) for probabilities in given)
            reliability_plot(first, second, folder / "reliability.png")


def _draw_probe(found: Mapping[str, Any], folder: Path) -> None:
    """How the probe was chosen, or how it learned."""
    if found["C"] is not None:
        plots.regularisation_curve(found["trials"], found["C"], folder / "regularisation.png")
        return
    rows = [
        {
            "epoch": trial["epoch"] + 1,
            "loss": trial["train_loss"],
            "val_loss": trial["val_loss"],
            "val_accuracy": trial["val_accuracy"],
        }
        for trial in found["trials"]
    ]
    plots.learning_curves(rows, folder / "probe_curves.png")


_TOGETHER = 8192  # validation images whose features are given to a head at once


def _held_out_logits(
    model: keras.Model, data: ImageTable, context: TrainingContext, done: Transferred
) -> np.ndarray:
    """Of the validation images, which the model has not learned from; none where they are too few to be asked."""
    val = data.indices("val")
    if len(val) < ENOUGH_TO_CALIBRATE:
        return np.empty((len(val), len(data.classes)))
    if done.probe_kept and done.seen is not None:  # the network is what gave the features
        held_out = done.seen.features[len(data.indices("train")) :]
        head, starts = split_head(model)[1], range(0, len(held_out), _TOGETHER)
        return np.concatenate(
            [np.asarray(head(held_out[at : at + _TOGETHER], training=False)) for at in starts]
        )
    return outputs_of(logits_model(model), data, context, val)


def _uncalibrated(outputs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``(N, C)`` as they would be without the temperature: softmax(z / T) back to softmax(z)."""
    scores = np.maximum(outputs.astype(np.float64), 1e-12) ** temperature
    return scores / scores.sum(axis=1, keepdims=True)


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
