"""A frozen normalization that is folded into its convolution: same function, same gradients, same weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_transfer.data import load_data
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training import finetune
from keras_transfer.training.folding import FoldedConvolution, fold_frozen_norms

L = keras.layers


def network(convolution, **norm):
    """Two convolutions with normalizations, whose weights and statistics are anything but 0 and 1."""
    image = keras.Input((9, 9, 4))
    x = convolution(image)
    x = L.BatchNormalization(name="first_bn", **norm)(x)
    x = L.ReLU(6.0)(x)
    x = L.Conv2D(5, 1, use_bias=False, name="last")(x)
    x = L.BatchNormalization(name="last_bn")(x)
    model = keras.Model(image, L.Dense(3, name="logits")(L.GlobalAveragePooling2D()(x)))
    random = np.random.default_rng(0)
    for weight in model.weights:
        values = random.uniform(0.5, 1.5, weight.shape) * random.choice([-1, 1], weight.shape)
        weight.assign(np.abs(values) if "variance" in weight.path else values * 0.5)
    return model


def freeze_norms(model, frozen=True):
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.trainable = not frozen
    return model


def folded(model):
    return [layer.normalization.name for layer in model.layers if isinstance(layer, FoldedConvolution)]


def gradients(model, of):
    pixels = np.random.default_rng(1).normal(size=(6, 9, 9, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        logits = model(pixels, training=True)
        loss = keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(np.arange(6) % 3, logits, from_logits=True)
        )
    return np.array(logits), [np.array(g) for g in tape.gradient(loss, [v.value for v in of])]


CONVOLUTIONS = {
    "plain": lambda: L.Conv2D(8, 3, padding="same", use_bias=False),
    "bias, strides": lambda: L.Conv2D(8, 3, strides=2, padding="valid"),
    "dilated": lambda: L.Conv2D(8, 3, dilation_rate=2, padding="same"),
    "groups": lambda: L.Conv2D(8, 3, groups=2, padding="same"),
    "depthwise": lambda: L.DepthwiseConv2D(3, padding="same", use_bias=False),
    "depthwise, multiplied": lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=3, padding="same"),
}


@pytest.mark.parametrize(
    ("convolution", "norm"),
    [
        pytest.param(name, norm, marks=pytest.mark.nightly if norm and name != "plain" else ())
        for name in CONVOLUTIONS
        for norm in ({}, {"scale": False}, {"center": False, "epsilon": 0.1})
    ],
)
def test_the_same_answers_and_gradients(convolution, norm):
    model = freeze_norms(network(CONVOLUTIONS[convolution](), **norm))
    twin = fold_frozen_norms(model)
    assert folded(twin) == ["first_bn", "last_bn"]
    assert {id(v) for v in twin.variables} == {id(v) for v in model.variables}
    assert {id(v) for v in twin.trainable_variables} == {id(v) for v in model.trainable_variables}
    variables = model.trainable_variables
    expected, expected_gradients = gradients(model, variables)
    answers, found = gradients(twin, variables)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(found, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_training_the_twin_trains_the_network():
    images = np.random.default_rng(2).normal(size=(16, 9, 9, 4)).astype(np.float32)
    labels = np.arange(16) % 3
    models = [freeze_norms(network(CONVOLUTIONS["plain"]())) for _ in range(2)]
    for model, trained in zip(models, (models[0], fold_frozen_norms(models[1])), strict=True):
        before = {weight.path: np.array(weight) for weight in model.weights}
        trained.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
        trained.fit(images, labels, batch_size=8, epochs=3, shuffle=False, verbose=0)
        moved = {weight.path for weight in model.weights if not np.array_equal(weight, before[weight.path])}
        assert moved == {weight.path for weight in model.trainable_weights}
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_trains_or_is_something_else_stays():
    model = freeze_norms(network(CONVOLUTIONS["plain"]()), frozen=False)
    assert fold_frozen_norms(model) is model
    model.get_layer("last_bn").trainable = False
    assert folded(fold_frozen_norms(model)) == ["last_bn"]
    active = network(L.Conv2D(8, 3, activation="relu"))
    assert folded(fold_frozen_norms(freeze_norms(active))) == ["last_bn"]
    penalised = network(L.Conv2D(8, 3, activity_regularizer="l2"))
    assert folded(fold_frozen_norms(freeze_norms(penalised))) == ["last_bn"]
    assert folded(fold_frozen_norms(freeze_norms(network(L.SeparableConv2D(8, 3))))) == ["last_bn"]
    for layer in freeze_norms(model).layers:
        layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    assert fold_frozen_norms(model) is model
    plain = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    assert fold_frozen_norms(plain) is plain


@pytest.mark.slow
def test_fine_tuning_trains_the_folded_network(photo_folder, monkeypatch):
    trained = []

    def fold(network):
        trained.append(fold_frozen_norms(network))
        return trained[-1]

    monkeypatch.setattr(finetune, "fold_frozen_norms", fold)
    table = load_data(photo_folder)
    image = keras.Input((32, 32, 3))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="block1_conv")(image))
    model = add_head(keras.Model(image, x), 2)
    set_trainable(model, "all")
    kernel = np.array(model.get_layer("block1_conv").kernel)
    finetune.fine_tune(model, table, Preprocessing((32, 32)), epochs=1, keep_start=False)
    assert [folded(network) for network in trained] == [["bn"]]
    assert trained[0].optimizer.iterations.numpy() > 0
    assert not np.array_equal(model.get_layer("block1_conv").kernel, kernel)


def test_layers_that_are_used_twice_stay_one():
    image = keras.Input((9, 9, 4))
    shared, norm, other = L.Conv2D(4, 1, name="shared"), L.BatchNormalization(name="norm"), L.Conv2D(4, 1)
    x = norm(shared(norm(shared(image))))
    model = freeze_norms(keras.Model(image, norm(other(x))))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    twin = fold_frozen_norms(model)
    assert folded(twin) == ["norm", "norm"]
    pixels = random.normal(size=(2, 9, 9, 4)).astype(np.float32)
    np.testing.assert_allclose(twin(pixels), model(pixels), rtol=1e-4)


def test_the_network_is_saved_as_before(tmp_path):
    model = freeze_norms(network(CONVOLUTIONS["depthwise"]()))
    names = [layer.name for layer in model.layers]
    fold_frozen_norms(model)
    assert [layer.name for layer in model.layers] == names
    model.save(tmp_path / "model.keras")
    pixels = np.ones((1, 9, 9, 4), np.float32)
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(pixels), model(pixels))
