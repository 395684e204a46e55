"""Gradient training with Keras ``fit``: a low rate that rises, falls along a cosine, and never loses the best weights.

Linear probe first, gradient training from there, is LP-FT (Kumar et al. 2022, arXiv:2202.10054): starting from a
random head distorts pretrained features before the head has become useful.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402

from keras_transfer.data import ImageTable  # noqa: E402
from keras_transfer.data.pipeline import tf_dataset  # noqa: E402
from keras_transfer.errors import DataError, UsageError  # noqa: E402
from keras_transfer.heads import logits_model  # noqa: E402
from keras_transfer.preprocessing import Preprocessing  # noqa: E402
from keras_transfer.training.callbacks import Bars, Checkpoint  # noqa: E402

log = logging.getLogger("keras_transfer")
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class FineTuneResult:
    """What a gradient training did.

    Attributes:
        history: one dictionary an epoch: ``epoch`` (0 is the start), ``loss``, ``accuracy``, ``val_loss``,
            ``val_accuracy``.
        best_epoch: whose weights the model now has; 0 is the start.
        resumed_at: epochs that an interrupted attempt had already done.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    resumed_at: int


def fine_tune(
    model: keras.Model,
    table: ImageTable,
    preprocessing: Preprocessing,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 2e-4,
    warmup: float = 0.1,
    patience: int = 5,
    seed: int = 0,
    state: Path | None = None,
) -> FineTuneResult:
    """Train whatever is trainable in a classifier, and leave it with its best validation weights.

    AdamW with weight decay on kernels only; the learning rate rises linearly for a share of the steps and falls to
    zero along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        model: made by ``heads.add_head``; pixels ``(B, H, W, 3)`` in [0, 255] to probabilities.
        table: its ``train`` split is learned from, its ``val`` split watched (the training loss when it is empty).
        preprocessing: brings the images to ``(H, W)``.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the peak.
        warmup: share of all steps in which the rate rises, in [0, 1).
        patience: epochs without a lower validation loss before stopping.
        seed: fixes order and dropout masks.
        state: a folder that survives an interruption; the same call takes up what is found there, and ends with
            the same weights as an uninterrupted one.

    Raises:
        UsageError: nothing is trainable.
        DataError: no training images, or the loss became infinite or NaN.
    """
    import tensorflow as tf

    train, val = table.indices("train"), table.indices("val")
    if not len(train):
        raise DataError(f"{table.source}: no image is in the training split.")
    if not model.trainable_variables:
        raise UsageError("Nothing is trainable: unfreeze something first (set_trainable, unfreeze_from).")
    with tempfile.TemporaryDirectory() as temporary:
        call = (epochs, batch_size, learning_rate, warmup, patience, seed)
        folder = _state_folder(state or Path(temporary), model, table, preprocessing, call)
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        network = logits_model(model)
        steps = math.ceil(len(train) / batch_size)
        _compile(network, learning_rate, total=steps * epochs, warmup=round(warmup * steps * epochs))
        watched = val if len(val) else train
        held_out = tf_dataset(table, preprocessing, batch_size, indices=watched)
        start = network.evaluate(held_out, return_dict=True, verbose=0)
        prefix = "val_" if len(val) else ""
        first = {f"{prefix}{name}": float(value) for name, value in start.items()}
        checkpoint = Checkpoint(folder, f"{prefix}loss", patience, first)
        done = checkpoint.restore(network)
        if done:
            log.info("Taking up the training after epoch %d.", done)
        if done < epochs and not checkpoint.used_up:
            _fit(
                network,
                tf_dataset(
                    table,
                    preprocessing,
                    batch_size,
                    indices=train,
                    shuffle=True,
                    seed=seed,
                    first_epoch=done,
                    repeat=True,
                    weights=bool(np.any(table.weights != 1)),
                ),
                steps_per_epoch=steps,
                initial_epoch=done,
                epochs=epochs,
                validation_data=held_out if len(val) else None,
                callbacks=[checkpoint, Bars(epochs), keras.callbacks.TerminateOnNaN()],
                verbose=0,
            )
        if not all(math.isfinite(value) for row in checkpoint.rows for value in row.values()):
            raise DataError("The loss is not a finite number any more. Lower --learning-rate.")
        best = checkpoint.restore_best(network)
    return FineTuneResult(checkpoint.rows, best, done)


def _fit(network: keras.Model, *arguments: Any, **keywords: Any) -> None:
    import tensorflow as tf

    try:
        network.fit(*arguments, **keywords)
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.*)", error.message)
        if not found:
            raise
        # An image that vanished in training: tf.data wraps our error in one of its own.
        raise DataError(found[1]) from error


def _compile(network: keras.Model, peak: float, total: int, warmup: int) -> None:
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / 100 if warmup else peak,
        decay_steps=max(total - warmup, 1),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Built now, so that its state is part of every checkpoint, the first one read included.
    optimizer.build(network.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=["accuracy"])


def _state_folder(
    root: Path, model: keras.Model, table: ImageTable, preprocessing: Preprocessing, call: tuple[Any, ...]
) -> Path:
    """A folder for exactly this training: other data, another split or other settings never take up its state."""
    digest = hashlib.sha256(json.dumps([call, preprocessing.to_dict()]).encode())
    digest.update(table.fingerprint().encode())
    digest.update("".join(table.splits.tolist()).encode())
    digest.update(repr([(layer.name, layer.trainable) for layer in model.layers]).encode())
    for variable in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    folder = root / f"fit-{digest.hexdigest()[:16]}"
    for other in root.glob("fit-*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
