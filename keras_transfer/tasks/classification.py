"""The built-in task: one label an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402

from keras_transfer.data import ImageTable, load_data  # noqa: E402
from keras_transfer.errors import DataError, UsageError  # noqa: E402
from keras_transfer.evaluation import plots  # noqa: E402
from keras_transfer.evaluation.metrics import classification_metrics  # noqa: E402
from keras_transfer.features import extract  # noqa: E402
from keras_transfer.freezing import frozen_fingerprint, set_trainable  # noqa: E402
from keras_transfer.heads import add_head, split_head  # noqa: E402
from keras_transfer.settings import DataSettings  # noqa: E402
from keras_transfer.tasks.base import Job, OutputContract, Task  # noqa: E402
from keras_transfer.training.finetune import fine_tune  # noqa: E402
from keras_transfer.training.probe import fit_probe  # noqa: E402
from keras_transfer.training.strategy import Strategy, choose  # noqa: E402


class Classification(Task):
    """Backbone, GlobalAveragePooling, Dense: one probability a class, summing to 1."""

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

    def build(self, data: ImageTable, job: Job) -> keras.Model:
        """GlobalAveragePooling, dropout, hidden layers and Dense on the backbone."""
        if job.backbone is None:
            raise UsageError("The classification task needs a backbone.")
        return add_head(
            job.backbone,
            len(data.classes),
            hidden=self.options.hidden,
            dropout=self.options.dropout,
            seed=job.settings.seed,
        )

    def fit(self, model: keras.Model, data: ImageTable, job: Job) -> None:
        """The probe on cached features; then, unless it is all that was asked for, gradient training from it."""
        fit = job.settings.fit
        train = data.indices("train")
        if not len(train):
            raise DataError(
                "No image is left in the training split. Lower --val-fraction and --test-fraction."
            )
        strategy = choose(
            fit.strategy,
            data.labels[train],
            unfreeze=fit.unfreeze,
            batchnorm=fit.batchnorm,
            learning_rate=fit.learning_rate,
        )
        job.say(f"Strategy: {strategy.name} ({strategy.why}).")
        job.notes.update(strategy=strategy.name, why=strategy.why)
        set_trainable(model, "none")
        if strategy.name != "scratch":
            self._probe(model, data, job)
        if strategy.name != "probe":
            self._gradient(model, data, job, strategy)

    def _probe(self, model: keras.Model, data: ImageTable, job: Job) -> None:
        train, val = data.indices("train"), data.indices("val")
        both = np.concatenate([train, val])
        extractor, _ = split_head(model)
        with job.run.stage("extraction"):
            features = extract(
                data, extractor, preprocessing=job.preprocessing, engine=job.settings.fit.engine, indices=both
            )
        job.say(
            f"Features: {len(both)} images, {features.cached} from the cache, {features.computed} computed "
            f"({features.engine}, {features.seconds:.1f} s)."
        )
        with job.run.stage("probe"):
            result = fit_probe(
                model,
                features.values,
                data.labels[both],
                train=np.arange(len(train)),
                val=np.arange(len(train), len(both)),
                sample_weight=data.weights[both],
                seed=job.settings.seed,
            )
        job.notes["features"] = {
            "engine": features.engine,
            "computed": features.computed,
            "cached": features.cached,
        }
        job.notes["probe"] = {"C": result.c, "chosen_on": result.chosen_on, "trials": result.trials}

    def _gradient(self, model: keras.Model, data: ImageTable, job: Job, strategy: Strategy) -> None:
        fit = job.settings.fit
        set_trainable(model, strategy.trainable, batchnorm=strategy.batchnorm)
        head_names = {layer.name for layer in model.layers} - {layer.name for layer in _layers(job.backbone)}
        for layer in model.layers:
            if layer.name in head_names:
                layer.trainable = True
        frozen = frozen_fingerprint(model)
        with job.run.stage("training"):
            result = fine_tune(
                model,
                data,
                job.preprocessing,
                epochs=fit.epochs,
                batch_size=fit.batch_size,
                learning_rate=strategy.learning_rate,
                warmup=fit.warmup,
                patience=fit.patience,
                seed=job.settings.seed,
                state=job.run.state,
            )
        if frozen_fingerprint(model) != frozen:
            raise DataError(
                "A frozen weight changed in training. This is a defect of keras-transfer: report it."
            )
        job.history.extend(result.history)
        job.notes["gradient"] = {
            "trainable": strategy.trainable,
            "batchnorm": strategy.batchnorm,
            "learning_rate": strategy.learning_rate,
            "trained_layers": [layer.name for layer in model.layers if layer.trainable and layer.weights],
            "frozen_sha256": frozen,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history) - 1,
            "resumed_at": result.resumed_at,
        }
        if result.best_epoch == 0:
            job.say("No epoch was better on validation than the start: its weights were kept.")

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Accuracy and its relatives; see :func:`classification_metrics`."""
        return classification_metrics(outputs, data.labels, data.classes)

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
        """The model itself: pixels to probabilities."""
        return model

    def output_contract(self, data: ImageTable) -> OutputContract:
        """One probability a class."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)

    def plots(self, metrics: Mapping[str, Any], job: Job) -> None:
        """The confusion matrix, the learning curves, and the probe's regularisation."""
        names = list(metrics["per_class"])
        plots.confusion_matrix(metrics["confusion_matrix"], names, job.run.plots / "confusion_matrix.png")
        if job.history:
            plots.learning_curves(job.history, job.run.plots / "learning_curves.png")
        probe = job.notes.get("probe")
        if probe and probe["C"] is not None:
            plots.regularisation_curve(probe["trials"], probe["C"], job.run.plots / "regularisation.png")
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
            plots.learning_curves(rows, job.run.plots / "probe_curves.png")


def _layers(backbone: keras.Model | None) -> list[keras.layers.Layer]:
    return list(backbone.layers) if backbone is not None else []
