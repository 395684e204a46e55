"""What a training leaves is a plain Keras model: another process loads it without this package, and it converts."""

import keras
import numpy as np
import pytest

from keras_transfer.heads import add_head
from keras_transfer.training.custom_head import replace_head
from keras_transfer.training.embedding_heads import KINDS, fit_embedding_head
from keras_transfer.training.temperature import fold_temperature

pytestmark = pytest.mark.nightly


@pytest.fixture
def features():
    """Three overlapping clouds: float32 ``(60, 8)``, and the classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return np.abs(rng.uniform(0, 2, (3, 8))[labels] + rng.normal(0, 0.5, (60, 8))).astype("float32"), labels


def extractor():
    """Features are its input."""
    image = keras.Input((8,))
    return keras.Model(image, keras.layers.Identity()(image))


def test_a_head_of_the_user_s_own(photos, answers_alike_anywhere):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    backbone = keras.Model(image, keras.layers.Conv2D(12, 3, strides=2, activation="relu")(x))
    layers = [keras.layers.Dense(10, "relu"), keras.layers.Dense(3)]
    pixels = np.stack([photos["china"][90 * i :, 60 * i :][:16, :16] for i in range(4)]).astype("float32")
    answers_alike_anywhere(replace_head(add_head(backbone, 4), layers), pixels)


def test_a_folded_temperature(features, answers_alike_anywhere):
    model = add_head(extractor(), 3)
    fold_temperature(model, 3.0)
    answers_alike_anywhere(model, features[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_on_embeddings(kind, features, answers_alike_anywhere):
    x, y = features
    rows = np.arange(60)
    result = fit_embedding_head(extractor(), kind, x, y, 3, train=rows[::2], val=rows[1::2])
    answers_alike_anywhere(result.model, x)
