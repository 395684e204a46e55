"""A process whose processor has three parts: it trains alike on one device and on three, and writes what came out.

python worker_devices.py PHOTOS OUTPUT.json

TensorFlow divides the processor only before it computes anything, which the process of the tests has long done.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from keras_transfer.training.devices import prepare_devices

THREE = "cpu:3"
EVERYTHING = {
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "schedule": "onecycle",
    "ema": 0.9,
    "accumulate": 2,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "augment": "light",
    "balance": "weights",
    "layer_decay": 0.5,
}


def network(dropout: float) -> Any:
    """Three blocks and a head on 32 pixels."""
    import keras

    from keras_transfer.heads import add_head

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(image)
    for block in (1, 2, 3):
        x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False, name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
    return add_head(keras.Model(image, x, name="small"), 2, dropout=dropout)


def trained(photos: Path, devices: str, dropout: float = 0.0, **values: Any) -> dict[str, Any]:
    """Two phases, two epochs, 32 images in batches of 7 (the last has 4), 8 for validation (the last batch has 1)."""
    import keras
    import numpy as np

    from keras_transfer.data import load_data
    from keras_transfer.freeze_plan import FreezePlan
    from keras_transfer.preprocessing import Preprocessing
    from keras_transfer.training.feeds import Boundary
    from keras_transfer.training.finetune import fine_tune
    from keras_transfer.training.phases import Phase

    table = load_data(photos, val_fraction=0.2, test_fraction=0.0)
    model = network(dropout)
    before = {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in model.weights}
    norms, decay = values.pop("batchnorm", "frozen"), values.pop("layer_decay", 1.0)
    boundary, phases = values.pop("boundary", "off"), values.pop("rules", ("blocks:1", "blocks:2"))
    plans = [FreezePlan.for_model(model, rule, batchnorm=norms, layer_decay=decay) for rule in phases]
    result = fine_tune(
        model,
        table,
        Preprocessing((32, 32)),
        phases=[Phase(start, plan) for start, plan in enumerate(plans)],
        boundary=Boundary(boundary, views=2, engine="keras"),
        devices=devices,
        **{"epochs": 2, "batch_size": 7, "learning_rate": 1e-2, "patience": 9, "keep_start": False, **values},
    )
    after = {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in model.weights}
    return {
        "history": result.history,
        "weights": {path: value.ravel().tolist() for path, value in after.items()},
        "changed": sorted(path for path in after if not np.array_equal(before[path], after[path])),
        "hash": hashlib.sha256(b"".join(value.tobytes() for value in after.values())).hexdigest(),
        "count": result.devices.count,
        "best": result.best_epoch,
        "resumed": result.resumed_at,
    }


def interrupted(photos: Path, folder: Path) -> list[dict[str, Any]]:
    """Three epochs on three devices with dropout, whole and in two attempts."""
    from keras_transfer.training.callbacks import CloseEpoch

    values = {"dropout": 0.2, "epochs": 3, "batchnorm": "train"}
    whole = trained(photos, THREE, state=folder / "whole", **values)
    honest = CloseEpoch.on_epoch_end

    def stopping(self: Any, epoch: int, logs: Any = None) -> None:
        honest(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    CloseEpoch.on_epoch_end = stopping  # type: ignore[method-assign]
    try:
        trained(photos, THREE, state=folder / "parts", **values)
    except KeyboardInterrupt:
        CloseEpoch.on_epoch_end = honest  # type: ignore[method-assign]
    return [whole, trained(photos, THREE, state=folder / "parts", **values)]


def comparing() -> list[list[float]]:
    """One step with a loss that compares the images of a batch with each other: the weights after it, either way."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_transfer.training.replicas import Replicas

    class Apart(keras.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            differences = y_pred[:, None] - y_pred[None]
            return tf.reduce_sum(tf.square(differences), axis=(1, 2)) * y_true[:, 0]

    rng, found = np.random.default_rng(0), []
    x = rng.uniform(0, 255, (7, 32, 32, 3)).astype("float32")
    y = rng.uniform(0, 1, (7, 1)).astype("float32")
    for several in (False, True):
        model = network(0.0)
        model = keras.Model(model.input, model.get_layer("logits").output)
        model.compile(keras.optimizers.SGD(1e-2), Apart())
        model.optimizer.build(model.trainable_variables)
        if several:
            Replicas(model, model, prepare_devices(THREE).strategy, Apart()).install()
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(7), verbose=0)
        found.append(np.concatenate([np.ravel(weight) for weight in model.get_weights()]).tolist())
    return found


def watched() -> set[str]:
    """The devices that outputs are computed on, as they are seen."""
    from keras_transfer.training.replicas import Replicas

    gathered, seen = Replicas._gathered, set()

    def noting(self: Any, own: Any, total: Any) -> Any:
        seen.add(own.device.rpartition("/device:")[2])
        return gathered(self, own, total)

    Replicas._gathered = noting  # type: ignore[method-assign]
    return seen


def main(photos: Path, output: Path) -> None:
    """Everything that the tests look at."""
    prepare_devices(THREE)
    used = watched()
    cases: dict[str, dict[str, Any]] = {
        "plain": {"balance": "weights"},
        "norms": {"batchnorm": "train"},
        "everything": {**EVERYTHING, "boundary": "on"},
        "bfloat16": {"precision": "mixed_bfloat16", "rules": ("blocks:1",)},
    }
    found: dict[str, Any] = {
        name: [trained(photos, devices, **values) for devices in ("1", THREE)]
        for name, values in cases.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        found["interrupted"] = interrupted(photos, Path(folder))
    found["comparing"] = comparing()
    found["used"] = sorted(used)
    output.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
