"""The range test: measures what it says, suggests what works, and leaves no trace."""

import json
import math
import random
from dataclasses import asdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import add_head, logits_model
from keras_transfer.training.lr_finder import find_learning_rate
from keras_transfer.training.optimizers import make_optimizer
from keras_transfer.training.plots import lr_finder_plot

LOSS = keras.losses.CategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def crops(photos):
    """64 real crops of two classes: float32 ``(64, 32, 32, 3)``, one-hot float32 ``(64, 2)``."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    pixels = []
    for photo in (list(photos.values())[label] for label in labels):
        y, x = rng.integers(0, photo.shape[0] - 32), rng.integers(0, photo.shape[1] - 32)
        pixels.append(photo[y : y + 32, x : x + 32])
    return np.asarray(pixels, np.float32), np.eye(2, dtype="float32")[labels]


@pytest.fixture(scope="module")
def dataset(crops):
    return tf.data.Dataset.from_tensor_slices(crops).batch(16)


def network(normalise=True, dropout=0.2):
    keras.utils.set_random_seed(0)
    x = entry = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    if normalise:
        x = keras.layers.BatchNormalization()(x)
    return logits_model(add_head(keras.Model(entry, x), 2, dropout=dropout))


def state(model):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in model.variables]


@pytest.mark.slow
def test_the_losses_are_those_of_single_batches_at_rising_rates(dataset, crops):
    found = find_learning_rate(network(False, 0), dataset, loss=LOSS, low=1e-5, high=0.1, steps=21)
    model = network(False, 0)
    model.compile(make_optimizer("adamw", 1e-5), LOSS)
    expected = []
    for step, rate in enumerate(found.rates):
        model.optimizer.learning_rate = rate
        rows = slice(16 * (step % 4), 16 * (step % 4) + 16)
        expected.append(float(model.train_on_batch(crops[0][rows], crops[1][rows])))
        model.reset_metrics()
    np.testing.assert_allclose(found.losses, expected, rtol=1e-4)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), math.log(1e4) / 20)
    assert (found.rates[0], found.rates[-1]) == pytest.approx((1e-5, 0.1))


@pytest.mark.nightly
def test_the_model_is_left_exactly_as_it_was_and_the_same_call_finds_the_same(dataset):
    model = network()
    optimizer = make_optimizer("sgd", 0.1)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, LOSS)
    model.fit(dataset, epochs=1, verbose=0)
    before, steps = state(model), [keras.ops.convert_to_numpy(v).copy() for v in optimizer.variables]
    generators = random.getstate(), np.random.get_state()[1].tolist()
    first = find_learning_rate(model, dataset, loss=LOSS, steps=40, low=1e-5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == generators
    for a, b in zip(before, state(model), strict=True):
        assert a.tobytes() == b.tobytes()
    assert model.optimizer is optimizer
    for a, b in zip(steps, optimizer.variables, strict=True):
        assert a.tobytes() == keras.ops.convert_to_numpy(b).tobytes()
    assert find_learning_rate(model, dataset, loss=LOSS, steps=40, low=1e-5) == first


@pytest.mark.slow
def test_the_model_is_put_back_when_the_data_fail(crops):
    def broken():
        yield from zip(crops[0][:48].reshape(3, 16, 32, 32, 3), crops[1][:48].reshape(3, 16, 2), strict=True)
        raise ValueError("the disk is gone")

    signature = (tf.TensorSpec((16, 32, 32, 3)), tf.TensorSpec((16, 2)))
    model = network()
    before = state(model)
    with pytest.raises(tf.errors.OpError, match="the disk is gone"):
        data = tf.data.Dataset.from_generator(broken, output_signature=signature)
        find_learning_rate(model, data, loss=LOSS, steps=40)
    for a, b in zip(before, state(model), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["adamw", pytest.param("sgd", marks=pytest.mark.nightly)])
def test_the_suggestion_trains_better_than_a_much_lower_and_a_much_higher_rate(name, dataset):
    found = find_learning_rate(network(), dataset, loss=LOSS, optimizer=name, low=1e-5, high=100.0)
    assert found.rates[0] < found.suggestion == min(found.steepest, found.tenth_of_minimum)
    losses = []
    for factor in (1e-3, 1, 1e3):
        model = network()
        model.compile(make_optimizer(name, found.suggestion * factor), LOSS)
        losses.append(model.fit(dataset, epochs=6, shuffle=False, verbose=0).history["loss"][-1])
    assert losses[1] < 0.8 * losses[0]
    assert losses[1] < losses[2] or not math.isfinite(losses[2])


@pytest.mark.slow
def test_it_stops_when_the_loss_diverges_and_draws_a_picture(dataset, tmp_path):
    found = find_learning_rate(network(), dataset, loss=LOSS, low=1e-3, high=1e6, steps=60, smoothing=0.5)
    assert found.diverged_at is not None
    assert found.diverged_at < 1e6
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 60
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)
    lr_finder_plot(found, tmp_path / "new" / "finding.png")
    with Image.open(tmp_path / "new" / "finding.png") as picture:
        assert picture.size[0] > 400


@pytest.mark.nightly
def test_a_loss_that_never_falls_and_too_few_batches_are_said(dataset):
    with pytest.raises(DataError, match="never fell"):
        find_learning_rate(network(), dataset, loss=LOSS, low=1e-9, high=1e-8, steps=12)
    with pytest.raises(DataError, match="at least 10"):
        find_learning_rate(network(), dataset, loss=LOSS, steps=9)
    with pytest.raises(DataError, match="Only 0 batches"):
        find_learning_rate(network(), dataset.take(0), loss=LOSS, steps=12)
    with pytest.raises(DataError, match="diverged"):
        bad = dataset.map(lambda pixels, labels: (pixels, labels * math.nan))
        find_learning_rate(network(), bad, loss=LOSS, steps=12)


@pytest.mark.slow
def test_impossible_arguments_are_refused(dataset):
    for options in ({"low": 0.0}, {"low": 1.0, "high": 0.1}, {"high": math.inf}, {"smoothing": 1.0}):
        with pytest.raises(UsageError, match="expected"):
            find_learning_rate(network(), dataset, loss=LOSS, **options)
    with pytest.raises(UsageError, match="no optimizer"):
        find_learning_rate(network(), dataset, loss=LOSS, optimizer="adm")
    frozen = network()
    frozen.trainable = False
    with pytest.raises(UsageError, match="Nothing is trainable"):
        find_learning_rate(frozen, dataset, loss=LOSS)
