"""A Dense head trained by gradient on cached features: the backbone is frozen, so its work is done once.

It starts from a projection in closed form (linear probe first, gradient training from there: Kumar et al. 2022,
arXiv:2202.10054) and keeps the epoch that is best on the validation classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_transfer import progress
from keras_transfer.training.optimizers import make_optimizer
from keras_transfer.training.schedules import make_schedule
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.heads import ClosedForm, signed_root
from keras_transfer_siamese.networks import PROJECTION, UNIT
from keras_transfer_siamese.objective import SiameseObjective, trained_comparison, training_network

RATE = 1e-3
PATIENCE = 15
"""Epochs without a better one, after which training stops."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head that was trained.

    Attributes:
        form: its Dense layer, as a head in closed form (``unit`` follows, unless the comparison is weighted L1).
        comparison: of its embeddings.
        history: one dictionary per epoch: ``epoch``, ``loss``, ``val_score``.
        best_epoch: whose weights these are; 0 is the start.
    """

    form: ClosedForm
    comparison: Comparison
    history: list[dict[str, Any]]
    best_epoch: int


def train_head(
    features: np.ndarray,
    labels: np.ndarray,
    start: ClosedForm,
    objective: SiameseObjective,
    order: Callable[[int], np.ndarray],
    *,
    batch_size: int,
    epochs: int,
    judge: Callable[[ClosedForm, Comparison], float] | None,
    comparison: str = "cosine",
    learning_rate: float | None = None,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> TrainedHead:
    """Train ``(root(x) - mean) @ kernel`` from where ``start`` is, and keep its best epoch.

    Args:
        features: float32 ``(N, D)`` of all images, ``labels`` int ``(N,)``.
        start: has a kernel; its root stays in front.
        objective: the loss.
        order: the number of an epoch to row numbers, full batches one after the other.
        batch_size: rows of a batch.
        epochs: at most.
        judge: what a head is worth on the validation classes, more is better; None: the last epoch is kept.
        comparison: kind, where the loss does not bring its own.
        learning_rate: peak; by default :data:`RATE` relative to the size of the kernel's numbers.
        seed: of the layers beside the head.
    """
    keras.utils.set_random_seed(seed)
    assert start.kernel is not None and start.mean is not None
    x = signed_root(features) if start.power else features
    # Centred and of unit size here, and folded back afterwards: steps fit features of any scale.
    size = float(np.sqrt(np.mean((x - start.mean) ** 2))) or 1.0
    x = ((x - start.mean) / size).astype(np.float32)
    kernel = start.kernel * size
    gain = float(np.sqrt(np.mean(np.sum((x[order(0)] @ kernel) ** 2, axis=1)))) or 1.0
    entry = keras.Input((x.shape[1],), name="features")
    dense = keras.layers.Dense(kernel.shape[1], name=PROJECTION)
    embedded = dense(entry)
    dense.set_weights([kernel / gain, np.zeros(kernel.shape[1], np.float32)])
    if objective.name != "bce":
        embedded = keras.layers.UnitNormalization(name=UNIT)(embedded)
    network = training_network(keras.Model(entry, embedded), objective, seed)
    steps = len(order(0)) // batch_size * epochs
    rate = make_schedule("cosine", learning_rate or RATE, total_steps=steps, warmup_steps=steps // 10)
    network.compile(make_optimizer("adamw", rate, weight_decay=weight_decay), objective.loss())

    def now() -> tuple[ClosedForm, Comparison]:
        kernel, bias = dense.get_weights()
        folded = kernel / size
        form = ClosedForm("dense", start.power, start.mean, folded, None, bias)
        return form, trained_comparison(network, comparison)

    best, best_epoch = now(), 0
    # A comparison that has learned nothing yet is no result.
    best_score = judge(*best) if judge is not None and objective.name != "bce" else None
    history: list[dict[str, Any]] = [{"epoch": 0, "loss": None, "val_score": best_score}]
    for epoch in progress.track(range(1, epochs + 1), "Training the head", epochs):
        rows = order(epoch - 1)
        network.reset_metrics()
        for start_row in range(0, len(rows), batch_size):  # `fit` would set up a pipeline for each epoch
            batch = rows[start_row : start_row + batch_size]
            found = network.train_on_batch(x[batch], labels[batch], return_dict=True)
        loss, candidate = float(found["loss"]), now()
        weights = candidate[0].kernel
        if not np.isfinite(loss) or weights is None or not np.isfinite(weights).all():
            break
        score = judge(*candidate) if judge is not None else None
        history.append({"epoch": epoch, "loss": loss, "val_score": score})
        if score is None or best_score is None or score > best_score:
            best, best_score, best_epoch = candidate, score, epoch
        if epoch - best_epoch >= PATIENCE:
            break
    return TrainedHead(*best, history, best_epoch)
