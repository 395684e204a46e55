"""The hash of a network: equal for equal networks in any process, different for what computes differently."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from worker_features import small_backbone

from keras_transfer.backbones.classic import LocalResponseNormalization
from keras_transfer.errors import CacheError
from keras_transfer.features import model_hash


def network(activation="relu", axis=1, factor=2.0, dtype=None, order=("a", "b")) -> keras.Model:
    """Nested, with operations, shared inputs and wrapped layers."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, dtype=dtype)(image)
    branches = {
        "a": keras.layers.Activation(activation)(x),
        "b": keras.layers.AveragePooling2D(3, 1, "same")(x),
    }
    x = keras.layers.Subtract()([branches[name] for name in order]) * factor
    x = keras.layers.TimeDistributed(keras.layers.Dense(3))(x)
    x = keras.Sequential([keras.layers.Conv2D(3, 3), keras.layers.ReLU()])(x)
    return keras.Model(image, keras.ops.mean(x, axis=axis))


def test_the_same_network_built_twice_has_one_hash():
    first, second = network(), network()
    assert [layer.name for layer in first.layers] != [layer.name for layer in second.layers]
    assert model_hash(first) == model_hash(second)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"activation": "tanh"},
        {"axis": 2},
        {"factor": 2.5},
        {"dtype": "bfloat16"},
        {"order": ("b", "a")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_computes_differently_has_another_hash(change):
    assert model_hash(network()) != model_hash(network(**change))


def test_one_weight_changes_the_hash():
    model = small_backbone()
    before = model_hash(model)
    weights = model.get_weights()
    weights[0].flat[5] = np.nextafter(weights[0].flat[5], np.float32(np.inf))
    model.set_weights(weights)
    assert model_hash(model) != before


def test_batch_normalization_statistics_count():
    model = small_backbone()
    before = model_hash(model)
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_variance.assign(norm.moving_variance * 2)
    assert model_hash(model) != before


def test_freezing_does_not_change_the_hash():
    model = small_backbone()
    before = model_hash(model)
    model.trainable = False
    assert model_hash(model) == before


def test_saving_and_loading_does_not_change_the_hash(tmp_path):
    model = small_backbone()
    model.save(tmp_path / "model.keras")
    assert model_hash(keras.saving.load_model(tmp_path / "model.keras")) == model_hash(model)


def unknown_code(x):
    return x * 2


class Doubling(keras.layers.Layer):
    def call(self, x):
        return x * 2

    def compute_output_shape(self, shape):
        return shape


class Subclassed(keras.Model):
    def call(self, x):
        return x * 2


@pytest.mark.parametrize(
    "layer",
    [
        Doubling,
        lambda: keras.layers.TimeDistributed(Doubling()),
        lambda: keras.layers.Lambda(unknown_code),
        lambda: keras.layers.Activation(unknown_code),
        lambda: keras.Sequential([keras.Input((4, 3)), Doubling()]),
    ],
    ids=["custom", "wrapped", "lambda", "function", "nested"],
)
def test_code_the_configuration_does_not_describe_has_no_hash(layer):
    image = keras.Input((4, 3))
    with pytest.raises(CacheError, match="no lasting identity"):
        model_hash(keras.Model(image, layer()(image)))


def test_local_response_normalization_has_a_hash_and_its_numbers_count():
    def hashed(**numbers):
        image = keras.Input((4, 4, 3))
        return model_hash(keras.Model(image, LocalResponseNormalization(**numbers)(image)))

    assert hashed() == hashed(name="another") != hashed(alpha=1.0)


def test_a_subclassed_model_has_no_hash():
    model = Subclassed()
    model(np.zeros((1, 3), np.float32))
    with pytest.raises(CacheError, match="Subclassed"):
        model_hash(model)
