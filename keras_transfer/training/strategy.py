"""How much of the network to train: the strategies, and how ``auto`` chooses one and says why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENOUGH_PER_CLASS = 500
"""Training images a class (median) from which ``auto`` fine-tunes.

Below it the probe is chosen: a regularised linear model on frozen features is hard to beat with a few hundred images
a class, cannot forget what the backbone knows, and takes seconds (Kornblith et al. 2019, arXiv:1805.08974, figure 5
on logistic regression against fine-tuning with few examples)."""


@dataclass(frozen=True)
class Strategy:
    """What is trained: ``probe`` only the head; the others go on from there.

    Attributes:
        name: ``probe``, ``finetune``, ``full`` or ``scratch``.
        trainable: the rule for ``freezing.set_trainable``.
        batchnorm: ``"frozen"`` or ``"train"``.
        learning_rate: peak rate of the gradient training.
        why: one sentence.
    """

    name: str
    trainable: str
    batchnorm: str
    learning_rate: float
    why: str


def choose(
    name: str,
    labels: np.ndarray,
    *,
    unfreeze: str = "30%",
    batchnorm: str | None = None,
    learning_rate: float | None = None,
) -> Strategy:
    """Turn what the user asked for into a plan.

    Args:
        name: one of ``settings.STRATEGIES``.
        labels: int ``(N,)``, classes of the training images; only ``auto`` looks at them.
        unfreeze: for ``finetune``, the rule for ``freezing.set_trainable``.
        batchnorm: overrides the strategy's own.
        learning_rate: overrides the strategy's own.
    """
    why = "asked for"
    if name == "auto":
        typical = int(np.median(np.unique(labels, return_counts=True)[1]))
        enough = typical >= ENOUGH_PER_CLASS
        name = "finetune" if enough else "probe"
        why = (
            f"{typical} training images in the median class; auto fine-tunes from {ENOUGH_PER_CLASS}"
            f"{'' if enough else ', and trains only the head below'}"
        )
    rule = {"probe": "none", "finetune": unfreeze, "full": "all", "scratch": "all"}[name]
    default = "train" if name == "scratch" else "frozen"
    rate = 1e-3 if name == "scratch" else 2e-4
    return Strategy(name, rule, batchnorm or default, learning_rate or rate, why)
