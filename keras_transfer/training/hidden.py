"""A head with hidden layers has no closed form: Keras trains it, on the cached features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402

from keras_transfer.heads import CUT, split_head  # noqa: E402
from keras_transfer.training.standardising import folded, standardisation  # noqa: E402

EPOCHS, PATIENCE = 200, 10


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
        The head (features to logits, sharing the model's weights), and one dictionary an epoch: ``epoch``,
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
    judged = "val_" if len(val) else ""
    keras.utils.set_random_seed(seed)
    history = head.fit(
        x[train],
        y[train],
        sample_weight=weight[train],
        validation_data=(x[val], y[val]) if len(val) else None,
        batch_size=64,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(f"{judged}loss", patience=PATIENCE, restore_best_weights=True)
        ],
    ).history
    for layer in head.layers:
        layer.trainable = trainable[layer.name]
    if not own:
        first = next(layer for layer in head.layers if layer.weights)
        kernel, bias = first.get_weights()
        first.set_weights(folded(kernel, bias, mean, deviation))
    return head, [
        {
            "epoch": epoch,
            "train_loss": float(history["loss"][epoch]),
            **{f"val_{name}": float(history[judged + name][epoch]) for name in ("loss", *metrics)},
        }
        for epoch in range(len(history["loss"]))
    ]
