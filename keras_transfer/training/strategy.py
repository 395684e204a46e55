"""How much of the network to train: the strategies, and how ``auto`` chooses one and says why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.settings import FitSettings, GradientSettings

PARTIAL_FROM = 200
FULL_FROM = 2000
"""Training images per class (median) from which ``auto`` fine-tunes the top of the network, and the whole of it.

The more images, the more layers can be afforded: with few, a regularised linear model on frozen features is hard to
beat, cannot forget what the backbone knows, and takes seconds; with many, fine-tuning wins (Kornblith et al. 2019,
arXiv:1805.08974, compare both with a varying number of images per class). The two numbers are this project's: what they
save is time, since the guard keeps the probe wherever fine-tuning does not beat it. ``docs/training.md`` says what was
measured. Numbers instead of classes count as one class."""
RATES = {"finetune": 2e-4, "full": 2e-4, "scratch": 1e-3}
SGD_FACTOR = 20.0
"""AdamW's steps have a size of about the rate, SGD's of the rate times the gradient."""


@dataclass(frozen=True)
class Strategy:
    """What is trained: ``probe`` only the head; the others go on from there.

    Attributes:
        name: ``probe``, ``finetune``, ``full`` or ``scratch``.
        rule: which layers, for ``FreezePlan.for_model``.
        batchnorm: ``"frozen"``, ``"train"`` or ``"adapt"``.
        learning_rate: peak rate of the gradient training.
        why: one sentence.
    """

    name: str
    rule: str
    batchnorm: str
    learning_rate: float
    why: str


def choose(fit: FitSettings, gradient: GradientSettings, table: ImageTable) -> Strategy:
    """Turn what the user asked for into a plan; only ``auto`` looks at the labels of the training images."""
    name, why = fit.strategy, "asked for"
    if name == "auto" and fit.deploy is not None:
        name, why = "probe", f"--deploy {fit.deploy} fits the head on a frozen backbone"
    elif name == "auto":
        name, why = _by_count(table)
        if fit.teacher is not None and name == "probe":
            name, why = "finetune", "a teacher trains more than the head"
    default = "train" if name == "scratch" else "frozen"
    factor = SGD_FACTOR if gradient.optimizer == "sgd" else 1.0
    rate = gradient.learning_rate or factor * RATES.get(name, RATES["finetune"])
    rule = {"probe": "none", "finetune": fit.unfreeze}.get(name, "all")
    return Strategy(name, rule, fit.batchnorm or default, rate, why)


def _by_count(table: ImageTable) -> tuple[str, str]:
    train = table.indices("train")
    labels = table.labels[train]
    if table.label_mode == "classes":
        counts, what = np.unique(labels, return_counts=True)[1], "in the median class"
    elif table.label_mode == "multilabel":
        counts, what = labels.sum(axis=0), "with the median label"
    else:
        counts, what = np.array([len(train)]), "with numbers"
    typical = int(np.median(counts)) if len(counts) else 0
    name = "probe" if typical < PARTIAL_FROM else "finetune" if typical < FULL_FROM else "full"
    return name, (
        f"{typical} training images {what}; auto trains only the head below {PARTIAL_FROM}, the top of the "
        f"network from there, and all of it from {FULL_FROM}: see auto in docs/training.md"
    )
