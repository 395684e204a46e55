"""The small network of these tests, and a process of its own that prints its hash and extracts features with it.

python worker_features.py FOLDER OUTPUT.npy ENGINE SECONDS_A_BATCH
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_transfer.data import ImageTable, load_data
from keras_transfer.preprocessing import Preprocessing

SIZE = (48, 48)
PREPROCESSING = Preprocessing(SIZE)
DIM = 24


def small_backbone(seed: int = 0, size: tuple[int | None, int | None] = SIZE) -> keras.Model:
    """Pixels to ``(B, h, w, 24)``: convolutions and a batch normalization whose statistics mean something."""
    rng = np.random.default_rng(seed)
    image = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(12, 3, strides=2, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.Conv2D(DIM, 3, strides=2, padding="same")(x)
    model = keras.Model(image, keras.layers.ReLU()(x), name="small")
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if len(w.shape) == 1 else rng.normal(0, 0.3, w.shape)
            for w in model.weights
        ]
    )
    return model


def load(folder: Path) -> ImageTable:
    """The folder as a table."""
    return load_data(folder)


def main(folder: str, output: str, engine: str, pause: str) -> None:
    """Extract, slowly, with small shards; write the values."""
    from keras_transfer.features import extraction, model_hash
    from keras_transfer.inference import KerasRunner

    extraction.SHARD_IMAGES = 4
    if engine == "keras":
        compute = KerasRunner.predict

        def slow(self: KerasRunner, pixels: np.ndarray) -> np.ndarray:
            time.sleep(float(pause))
            return compute(self, pixels)

        KerasRunner.predict = slow  # type: ignore[method-assign]
    table = load(Path(folder))
    backbone = small_backbone()
    print(model_hash(backbone), flush=True)  # noqa: T201
    result = extraction.extract(table, backbone, preprocessing=PREPROCESSING, engine=engine, batch_size=4)
    np.save(output, result.values)


if __name__ == "__main__":
    main(*sys.argv[1:])
