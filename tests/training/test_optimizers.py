"""Optimizers: what is decayed, what moves how fast, and a state that survives a checkpoint."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_transfer.backbones import load_backbone
from keras_transfer.errors import UsageError
from keras_transfer.training.optimizers import OPTIMIZERS, make_optimizer
from keras_transfer.training.schedules import make_schedule


def network(seed=0):
    keras.utils.set_random_seed(seed)
    x = entry = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="beta_bias_conv")(x)
    x = keras.layers.BatchNormalization(name="beta_bias_bn")(x)
    x = keras.layers.DepthwiseConv2D(3, name="deep")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(entry, keras.layers.Dense(3, name="last")(x))


def examples(count=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 6, 6, 3)).astype("float32"), rng.integers(0, 3, count)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def step(model, x, y):
    """What a batch of ``fit`` does, without a graph, which takes longer to make than these steps."""
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    variables = model.trainable_variables
    model.optimizer.apply_gradients(
        zip(tape.gradient(loss, [v.value for v in variables]), variables, strict=True)
    )


def train(model, steps, first=0):
    x, y = examples()
    for number in range(first, first + steps):
        rows = slice(8 * (number % 4), 8 * (number % 4) + 8)
        step(model, x[rows], y[rows])


def compiled(optimizer, seed=0):
    model = network(seed)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, LOSS)
    return model


def values(model):
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables}


def decayed(optimizer, model):
    """The names of the variables that gradients of zero change."""
    optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    return {path for path, value in values(model).items() if not np.array_equal(value, np.ones_like(value))}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("multipliers", [None, {"last/kernel": 1.0}])
def test_kernels_are_decayed_whatever_their_layers_are_called_and_nothing_else_is(name, multipliers):
    optimizer = make_optimizer(name, 0.1, weight_decay=0.1, multipliers=multipliers)
    assert decayed(optimizer, network()) == {"beta_bias_conv/kernel", "deep/kernel", "last/kernel"}


@pytest.mark.parametrize(
    ("backbone", "convolutions"),
    [("tiny", 7), pytest.param("efficientnet_lite0", 49, marks=pytest.mark.nightly)],
)
def test_in_a_whole_network_biases_and_normalizations_are_not_decayed(backbone, convolutions):
    model = load_backbone(backbone, image_size=96)
    kernels = {variable.path for variable in model.trainable_variables if variable.name == "kernel"}
    assert len(kernels) == convolutions
    assert any("dwconv" in path for path in kernels)
    assert decayed(make_optimizer("adamw", 0.1, weight_decay=0.1), model) == kernels


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multipliers_of_one_change_nothing_and_of_zero_leave_a_variable_bit_identical(name):
    options = {"weight_decay": 0.01, "ema": 0.9, "accumulate": 2, "clip_norm": 1.0}
    plain = compiled(make_optimizer(name, 0.05, **options))
    ones = compiled(make_optimizer(name, 0.05, multipliers={"last/kernel": 1.0}, **options))
    zeros = compiled(
        make_optimizer(name, 0.05, multipliers={"last/kernel": 0, "deep/kernel": 0.5}, **options)
    )
    before = values(zeros)
    for model in (plain, ones, zeros):
        train(model, 6)
    for path, value in values(plain).items():
        np.testing.assert_allclose(values(ones)[path], value, atol=1e-6)
    zeros.optimizer.finalize_variable_values(zeros.trainable_variables)  # as fit does at its end
    after = values(zeros)
    assert after["last/kernel"].tobytes() == before["last/kernel"].tobytes()
    assert all(not np.array_equal(after[path], before[path]) for path in before if path != "last/kernel")


@pytest.mark.slow
def test_a_multiplier_scales_step_and_decay():
    for decay, gradient in ((0.0, 1.0), (0.1, 0.0)):
        steps = {}
        for multiplier in (1.0, 0.25):
            model = network()
            optimizer = make_optimizer(
                "sgd", 0.1, weight_decay=decay, multipliers={"last/kernel": multiplier}
            )
            optimizer.build(model.trainable_variables)
            before = values(model)["last/kernel"]
            optimizer.apply([keras.ops.full(v.shape, gradient) for v in model.trainable_variables])
            steps[multiplier] = values(model)["last/kernel"] - before
        np.testing.assert_allclose(steps[0.25], 0.25 * steps[1.0], atol=1e-7)
        assert np.abs(steps[1.0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("multipliers", [None, {"deep/kernel": 0.1}])
def test_a_checkpoint_holds_the_whole_state(name, multipliers, tmp_path):
    def fresh(seed):
        schedule = make_schedule("cosine", 0.01, total_steps=5, warmup_steps=2)
        options = {"ema": 0.9, "accumulate": 3, "clip_norm": 1.0, "multipliers": multipliers}
        return compiled(make_optimizer(name, schedule, **options), seed)

    whole, resumed = fresh(0), fresh(1)
    train(whole, 2)
    whole.save_weights(tmp_path / "state.weights.h5")
    train(whole, 2, first=2)
    resumed.load_weights(tmp_path / "state.weights.h5")
    train(resumed, 2, first=2)
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
    for a, b in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


def test_accumulated_batches_equal_one_large_batch():
    x, y = examples(16)
    found = {}
    for accumulate in (1, 2):
        model = network()
        model.get_layer("beta_bias_bn").trainable = False  # its batch statistics would differ
        model.compile(make_optimizer("sgd", 0.1, accumulate=accumulate), LOSS)
        for rows in np.split(np.arange(16), accumulate):
            step(model, x[rows], y[rows])
        found[accumulate] = values(model)
    for path, value in found[1].items():
        np.testing.assert_allclose(found[2][path], value, atol=1e-6)


def test_the_average_decays_once_an_update_however_many_batches_that_takes():
    found = []
    for accumulate in (1, 4):
        variable = keras.Variable(np.zeros(1, "float32"))
        optimizer = make_optimizer("sgd", 1.0, momentum=0, weight_decay=0, ema=0.5, accumulate=accumulate)
        optimizer.build([variable])
        for _ in range(3 * accumulate):
            optimizer.apply([keras.ops.full((1,), -1.0)])
        for _ in range(accumulate - 1):  # what a later average would see
            optimizer.apply([keras.ops.zeros((1,))])
        optimizer.finalize_variable_values([variable])
        found.append(float(variable[0]))
    assert found == pytest.approx([(1 * 0.25 + 2 * 0.25 + 3 * 0.5)] * 2, abs=1e-6)


def test_the_configuration_of_an_optimizer_with_multipliers_makes_an_equal_one():
    optimizer = make_optimizer(
        "adamw", 0.1, weight_decay=0.1, multipliers={"last/kernel": 0.5, "deep/kernel": 0}
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert decayed(again, network()) == {"beta_bias_conv/kernel", "last/kernel"}


def test_impossible_arguments_are_refused():
    with pytest.raises(UsageError, match="Did you mean adamw"):
        make_optimizer("adam", 0.1)
    for options in (
        {"weight_decay": -1},
        {"momentum": 2},
        {"clip_norm": 0},
        {"accumulate": 0},
        {"accumulate": 1.5},
        {"ema": 1.0},
        {"multipliers": {"last/kernel": -1}},
        {"multipliers": {"last/kernel": float("nan")}},
    ):
        with pytest.raises(UsageError, match="expected"):
            make_optimizer("sgd", 0.1, **options)
    with pytest.raises(UsageError, match="None of the 1"):
        make_optimizer("sgd", 0.1, multipliers={"nothing/kernel": 1}).build(network().trainable_variables)
