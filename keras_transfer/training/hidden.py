"""A head with hidden layers has no closed form: Keras trains it, on the cached features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_transfer.heads import CUT, split_head
from keras_transfer.training.standardising import folded, standardisation

EPOCHS, PATIENCE, BATCH = 200, 10, 64
JUDGED_AT_ONCE = 1024
"""Validation rows that are asked in one call."""


def has_hidden(model: keras.Model) -> bool:
    """Whether a model's head is more than the Dense that decides: hidden layers, or layers of the user's own."""
    return any(layer.name.startswith("head_hidden_") or layer.name == CUT for layer in model.layers)


def train_hidden(
    model: keras.Model,
    features: np.ndarray,
    targets: np.ndarray,
    *,
    train: np.ndarray,
    val: np.ndarray,
    weight: np.ndarray,
    loss: keras.losses.Loss,
    metrics: Sequence[str] = (),
    seed: int = 0,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Train a head with hidden layers; the layers below it are not looked at.

    It learns from standardised features; the standardisation is then folded into its first Dense. A head of the user's
    own, which may begin with anything, learns from the features as they are. The epoch with the lowest validation loss
    (training loss without validation images) is kept.

    Args:
        model: made by ``heads.add_head(..., hidden=...)`` or ``custom_head.replace_head``; only its head changes.
        features: float ``(N, D)``, what the model's pooling layer gives.
        targets: ``(N, ...)``, as ``loss`` takes them.
        train, val: indices of the images that are learned from and judged by.
        weight: float ``(N,)``, of the images that are learned from.
        loss: on logits or values.
        metrics: of Keras, recorded beside the loss.
        seed: fixes the order and the dropout masks.

    Returns:
        The head (features to logits, sharing the model's weights), and one dictionary per epoch: ``epoch``,
        ``train_loss``, ``val_loss``, and ``val_...`` for each metric.
    """
    _, head = split_head(model)
    x, y = np.asarray(features, np.float64), np.asarray(targets)
    # Nothing here penalises weights as a regression does: features that hardly vary are brought up to be heard.
    own = any(layer.name == CUT for layer in model.layers)
    mean, deviation = (
        (np.zeros(x.shape[1]), np.ones(x.shape[1]))
        if own
        else standardisation(x[train], weight[train], least=0.01)
    )
    x = ((x - mean) / deviation).astype(np.float32)
    trainable = {layer.name: layer.trainable for layer in head.layers}
    for layer in head.layers:
        layer.trainable = True
    head.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-3), loss, metrics=list(metrics))
    keras.utils.set_random_seed(seed)
    history = _fit(head, (x[train], y[train], weight[train]), (x[val], y[val]) if len(val) else None, seed)
    for layer in head.layers:
        layer.trainable = trainable[layer.name]
    if not own:
        first = next(layer for layer in head.layers if layer.weights)
        kernel, bias = first.get_weights()
        first.set_weights(folded(kernel, bias, mean, deviation))
    return head, history


def _fit(
    head: keras.Model, examples: tuple[np.ndarray, ...], judged_by: tuple[np.ndarray, ...] | None, seed: int
) -> list[dict[str, Any]]:
    """Epochs until ``PATIENCE`` of them were no better; the best one's weights stay.

    The arrays are in memory and a step takes a millisecond: ``keras.Model.fit`` sets up a ``tf.data`` pipeline for
    each epoch's training and validation, which takes ten times as long as the steps of a few hundred images.
    """
    order, history = np.random.default_rng(seed), []
    best, since, kept = np.inf, 0, head.get_weights()
    for epoch in range(EPOCHS):
        rows = order.permutation(len(examples[0]))
        learned = _batches(head, head.train_on_batch, [part[rows] for part in examples], BATCH)
        judged = _batches(head, head.test_on_batch, judged_by, JUDGED_AT_ONCE) if judged_by else learned
        history.append(
            {
                "epoch": epoch,
                "train_loss": learned["loss"],
                **{f"val_{name}": value for name, value in judged.items()},
            }
        )
        if judged["loss"] < best:
            best, since, kept = judged["loss"], epoch, head.get_weights()
        if epoch - since >= PATIENCE:
            break
    head.set_weights(kept)
    return history


def _batches(head: keras.Model, do: Any, arrays: Sequence[np.ndarray], size: int) -> dict[str, float]:
    """``train_on_batch`` or ``test_on_batch`` over all rows: the means of the loss and of each metric."""
    head.reset_metrics()
    for start in range(0, len(arrays[0]), size):
        found = do(*(part[start : start + size] for part in arrays), return_dict=True)
    return {name: float(value) for name, value in found.items()}
