"""Local response normalization: the paper's formula, TensorFlow's operator, and one operator in a TFLite file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_transfer.backbones.classic import LocalResponseNormalization
from keras_transfer.errors import UsageError
from keras_transfer.litert import LiteRTModel, convert

NUMBERS = [
    {},
    {"depth_radius": 0},
    {"depth_radius": 5, "bias": 1.0, "alpha": 0.5, "beta": 0.5},
    {"alpha": 1.0, "beta": 1.0},
]


@pytest.fixture(scope="module")
def activations() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 20, (2, 5, 7, 9)).astype("float32")


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_it_is_the_papers_formula_and_tensorflows_operator(activations, numbers):
    layer = LocalResponseNormalization(**numbers)
    assert layer.weights == []
    answer = np.asarray(layer(activations))
    np.testing.assert_array_equal(
        answer,
        tf.nn.local_response_normalization(
            activations, layer.depth_radius, layer.bias, layer.alpha, layer.beta
        ),
    )
    expected = np.empty_like(activations)
    for i in range(9):
        window = activations[..., max(i - layer.depth_radius, 0) : i + layer.depth_radius + 1].astype(float)
        strength = layer.bias + layer.alpha * (window**2).sum(axis=-1)
        expected[..., i] = activations[..., i] / strength**layer.beta
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_it_becomes_one_native_operator(activations):
    image = keras.Input((5, 7, 9))
    model = keras.Model(image, LocalResponseNormalization(alpha=0.01)(image))
    content = convert(model)
    runtime = Interpreter(model_content=content)
    operators = {row["op_name"] for row in runtime._get_ops_details()} - {"DELEGATE"}
    assert operators == {"LOCAL_RESPONSE_NORMALIZATION"}
    np.testing.assert_allclose(LiteRTModel(content).predict(activations), model(activations), rtol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_it_is_saved_and_loaded(activations, tmp_path, suffix):
    image = keras.Input((5, 7, 9))
    model = keras.Model(image, LocalResponseNormalization(3, 1.5, 0.01, 0.6, name="norm")(image))
    model.save(tmp_path / f"model{suffix}")
    again = keras.models.load_model(tmp_path / f"model{suffix}", compile=False)
    assert again.get_layer("norm").get_config() == model.get_layer("norm").get_config()
    np.testing.assert_array_equal(again(activations), model(activations))


def test_it_passes_gradients_and_half_precision(activations):
    layer = LocalResponseNormalization()
    values = tf.constant(activations)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = tf.reduce_sum(layer(values))
    step = tf.sign(tape.gradient(loss, values))
    assert float(tf.reduce_sum(layer(values + 1e-2 * step))) > float(loss)
    half = LocalResponseNormalization(dtype="mixed_bfloat16")(activations)
    assert half.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(half, tf.float32), layer(activations), rtol=0.02)


@pytest.mark.parametrize(
    "numbers", [{"depth_radius": -1}, {"depth_radius": 2.0}, {"bias": 0}, {"alpha": -1e-4}]
)
def test_impossible_numbers(numbers):
    with pytest.raises(UsageError, match="expected"):
        LocalResponseNormalization(**numbers)
