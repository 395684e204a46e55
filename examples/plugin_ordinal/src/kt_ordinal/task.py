"""Grades that have an order: a mistake by two grades costs more than two mistakes by one."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_transfer import add_head, fit_probe, load_data
from keras_transfer.tasks.base import Fitted, OutputContract, Task
from keras_transfer.tasks.planning import plan_transfer
from keras_transfer.tasks.transfer import fit_transfer
from keras_transfer.training.objective import Objective


class EarthMoversDistance(keras.losses.Loss):
    """Squared distance of cumulative probabilities (Hou et al. 2016, arXiv:1611.05916), on logits (B, C)."""

    def call(self, y_true, y_pred):
        """One number per image: 1 for each grade that all of the probability is off."""
        gaps = keras.ops.cumsum(y_true - keras.ops.softmax(y_pred), axis=-1)
        return keras.ops.sum(keras.ops.square(gaps), axis=-1)


@dataclass(frozen=True)
class OrdinalObjective(Objective):
    """One-hot targets, accuracy and augmentation as for classes; only the loss is another."""

    def loss(self):
        """See the class of the loss."""
        return EarthMoversDistance()


class Ordinal(Task):
    """A classifier's head and probe, a loss and a metric that know the order."""

    def load_data(self, source, settings, seed, *, names=None):
        """One sub-folder per grade, or anything else ``load_data`` reads."""
        return load_data(source, seed=seed, classes=names or self.options.grades or None, **vars(settings))

    def build(self, data, context):
        """GlobalAveragePooling, Dense and softmax on the backbone."""
        return add_head(context.backbone, len(data.classes), seed=context.settings.seed)

    def training_plan(self, model, data, context):
        """What ``fit`` would do, for ``train --dry-run``."""
        return plan_transfer(model, data, context, OrdinalObjective())

    def fit(self, model, data, context):
        """The probe on cached features, then fine-tuning, kept where it is fewer grades off on validation images."""

        def probe(features, rows, train, val):
            fitted = fit_probe(
                model, features, data.labels[rows], train=train, val=val, seed=context.settings.seed
            )
            return {"probe": {"C": fitted.c, "chosen_on": fitted.chosen_on, "trials": fitted.trials}}

        done = fit_transfer(model, data, context, probe=probe, score=self.score, objective=OrdinalObjective())
        return Fitted(model, done.notes, done.history)

    def evaluate(self, outputs, data):
        """How many grades the answer is off, on average, and how often it is right."""
        off = np.abs(outputs.argmax(axis=1) - data.labels)
        return {
            "images": len(off),
            "grades_off": float(off.mean()),
            "accuracy": float((off == 0).mean()),
        }

    def decide(self, outputs):
        """The most probable grade."""
        return outputs.argmax(axis=1)

    def predict(self, outputs, names, top):
        """The grade, and the mean of the grades' numbers, counted from 0."""
        means = outputs @ np.arange(len(names))
        return [
            {"grade": names[int(row.argmax())], "mean": round(float(mean), 3)}
            for row, mean in zip(outputs, means, strict=True)
        ]

    def output_contract(self, shape, data):
        """One probability per grade."""
        return OutputContract("probabilities", (len(data.classes),), data.classes)
