"""Distance to the normal images among the features of a pretrained network."""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from keras_transfer import extract, load_data
from keras_transfer.errors import DataError
from keras_transfer.tasks.base import Fitted, OutputContract, Task


class Novelty(Task):
    """Standardised features, squared, averaged: 1 for a typical normal image, more for others.

    Rippel et al. 2021 (arXiv:2005.14140) model normal images this way, with a full covariance.
    """

    def load_data(self, source, settings, seed, *, names=None):
        """A folder with one sub-folder a class, or anything else ``load_data`` reads."""
        table = load_data(source, seed=seed, **vars(settings))
        if self.options.normal not in table.classes:
            raise DataError(
                f"The classes are {', '.join(table.classes)}; none is called {self.options.normal!r}. Say which one is "
                "normal with --normal."
            )
        return table

    def build(self, data, context):
        """Backbone, GlobalAveragePooling, distance: pixels (B, H, W, 3) to scores (B, 1)."""
        features = keras.layers.GlobalAveragePooling2D()(context.backbone.output)
        standardise = keras.layers.BatchNormalization(
            center=False, scale=False, trainable=False, name="standardise"
        )
        squares = keras.ops.square(standardise(features))
        score = keras.ops.mean(squares, axis=-1, keepdims=True)
        return keras.Model(context.backbone.inputs, score, name="novelty")

    def fit(self, model, data, context):
        """Mean and variance of the normal training images' features; the alarm from the normal validation images."""
        train, val = (self.normal_rows(data, split) for split in ("train", "val"))
        if len(train) < 2:
            raise DataError(f"{len(train)} normal images are left to learn from; at least 2 are needed.")
        with context.run.stage("extraction"):
            features = extract(
                data,
                context.backbone,
                preprocessing=context.preprocessing,
                engine=context.settings.fit.engine,
                indices=np.concatenate([train, val]),
            ).values
        learned = features[: len(train)]
        standardise = model.get_layer("standardise")
        standardise.set_weights([learned.mean(axis=0), learned.var(axis=0)])
        held_out = features[len(train) :] if len(val) else learned
        score = keras.Model(standardise.input, model.output)
        scores = np.asarray(score(held_out, training=False))
        alarm = float(np.quantile(scores, self.options.alarm))
        return Fitted(model, {"strategy": "distance", "alarm_above": alarm})

    def normal_rows(self, data, split):
        """Rows of the normal images of a split."""
        rows = data.indices(split)
        return rows[data.labels[rows] == data.classes.index(self.options.normal)]

    def unusual(self, data):
        """Which images are not normal, ``(N,)``."""
        return data.labels != data.classes.index(self.options.normal)

    def evaluate(self, outputs, data):
        """How well the score tells unusual from normal, and how often it cries wolf."""
        scores, unusual = outputs[:, 0], self.unusual(data)
        if unusual.all() or not unusual.any():
            raise DataError("Measuring needs normal images and others; here are only the ones or the others.")
        return {
            "images": len(scores),
            "auroc": float(roc_auc_score(unusual, scores)),
            "false_alarms": float(np.mean(scores[~unusual] > self.notes["alarm_above"])),
        }

    def predict(self, outputs, names, top):
        """The score of each image, and whether it raises an alarm."""
        alarm = self.notes["alarm_above"]
        return [{"novelty": float(score), "alarm": bool(score > alarm)} for score in outputs[:, 0]]

    def output_contract(self, shape, data):
        """One score an image."""
        return OutputContract("score", (1,), ("novelty",))

    def plots(self, outputs, data, metrics, folder):
        """The scores of normal and unusual images."""
        scores, unusual = outputs[:, 0], self.unusual(data)
        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        axes.hist([scores[~unusual], scores[unusual]], bins=20, label=["normal", "unusual"])
        axes.axvline(self.notes["alarm_above"], color="black", linestyle=":", label="alarm")
        axes.set(
            xlabel="novelty",
            ylabel="images",
            title=f"AUROC {metrics['auroc']:.3f}",
        )
        axes.legend()
        figure.savefig(folder / "novelty.png", dpi=120)
        plt.close(figure)
