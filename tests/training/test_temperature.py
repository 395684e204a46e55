"""The temperature: found where it is known, 1 where nothing tells it, and folded without changing a decision."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from keras_transfer.backbones import load_backbone
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.calibration import expected_calibration_error
from keras_transfer.heads import add_head, logits_model
from keras_transfer.training.probe import fit_probe
from keras_transfer.training.temperature import fit_temperature, fold_temperature, tempered


def answers(count=3000, classes=4, seed=0):
    """Logits of a calibrated model, and labels drawn from its probabilities."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return logits, labels


def loss(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_it_finds_how_much_the_logits_were_exaggerated(factor):
    logits, labels = answers()
    found = fit_temperature(factor * logits, labels)
    assert found == pytest.approx(factor, rel=0.06)
    honest = softmax(factor * logits / found, axis=1)
    assert expected_calibration_error(honest, labels) < 0.04


def test_tempered_answers_are_the_same_however_much_they_were_exaggerated():
    logits, labels = answers(400)
    timid, bold = (tempered(softmax(factor * logits, axis=1), labels) for factor in (0.5, 3))
    np.testing.assert_allclose(timid, bold, atol=1e-4)
    assert loss(np.log(timid), labels) <= loss(logits, labels)


def test_no_other_temperature_is_better():
    logits, labels = answers(200)
    best = loss(logits * 3 / fit_temperature(logits * 3, labels), labels)
    others = [loss(logits * 3 / t, labels) for t in np.geomspace(0.05, 20, 200)]
    assert best <= min(others) + 1e-9


def test_it_stays_within_its_bounds():
    logits, labels = answers(50)
    assert 0.05 <= fit_temperature(1e-4 * logits, labels) < 0.06
    wrong = (labels + 1) % 4
    assert 19 < fit_temperature(100 * np.eye(4)[labels], wrong) <= 20


def test_weights_count_like_repeated_images_and_zero_like_none():
    logits, labels = answers(60)
    logits *= 2
    weight = np.arange(60) % 3
    repeated = fit_temperature(np.repeat(logits, weight, axis=0), np.repeat(labels, weight))
    assert fit_temperature(logits, labels, weight) == pytest.approx(repeated, rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "labels", "weight"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), None),
        (np.zeros((0, 3)), np.zeros(0), None),
        (np.eye(3), np.array([1, 2, 0]), np.zeros(3)),
        (np.eye(3), np.arange(3), None),  # all right: no temperature is the most likely
        (np.zeros((3, 3)), np.arange(3), None),  # no opinion: every temperature gives the same loss
    ],
)
def test_it_is_one_when_nothing_tells_it(logits, labels, weight):
    assert fit_temperature(logits, labels, weight) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "weight", "message"),
    [
        (np.zeros(3), np.arange(3), None, "shape"),
        (np.zeros((3, 2)), np.zeros(2, int), None, "shape"),
        (np.zeros((3, 2)), np.zeros(3, int), np.ones(2), "shape"),
        (np.full((3, 2), np.inf), np.zeros(3, int), None, "finite"),
        (np.zeros((3, 2)), np.array([0, 1, 2]), None, "0 to 1"),
        (np.zeros((3, 2)), np.array([0.0, 1.0, 1.0]), None, "whole numbers"),
        (np.zeros((3, 2)), np.zeros(3, int), np.array([1.0, -1.0, 1.0]), "weights"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, weight, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(logits, labels, weight)


def classifier(**head):
    features = keras.Input((8,))
    return add_head(keras.Model(features, keras.layers.Identity()(features)), 3, **head)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_folding_divides_the_logits_and_keeps_every_decision(hidden):
    model = classifier(hidden=hidden)
    dense = model.get_layer("logits")
    dense.set_weights([dense.get_weights()[0], np.array([0.3, -2.0, 1.0], "float32")])
    x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    before, logits = model.predict(x, verbose=0), logits_model(model).predict(x, verbose=0)
    layers = [layer.name for layer in model.layers]
    fold_temperature(model, 2.5)
    after = model.predict(x, verbose=0)
    np.testing.assert_allclose(after, softmax(logits / 2.5, axis=1), atol=1e-6)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert np.abs(after - before).max() > 0.05
    assert [layer.name for layer in model.layers] == layers


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(UsageError, match="above 0"):
        fold_temperature(classifier(), temperature)


def test_a_head_that_does_not_end_in_a_plain_dense_layer_is_refused():
    x = keras.Input((8,))
    last = keras.layers.Activation("linear", name="logits")(x)
    with pytest.raises(UsageError, match="Activation"):
        fold_temperature(keras.Model(x, last), 2.0)
    with pytest.raises(UsageError, match="without activation"):
        fold_temperature(keras.Model(x, keras.layers.Dense(3, "relu", name="logits")(x)), 2.0)
    with pytest.raises(UsageError, match="add_head"):
        fold_temperature(keras.Model(x, keras.layers.Dense(3)(x)), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tiny", pytest.param("efficientnet_lite0", marks=pytest.mark.nightly)])
def test_a_whole_network_becomes_more_honest(photos, backbone):
    """A probe on features of crops of a quarter of which the label is wrong, made over-confident."""
    rng = np.random.default_rng(0)
    crops, labels = [], []
    for label, photo in enumerate(photos.values()):
        for _ in range(60):
            y, x = rng.integers(0, photo.shape[0] - 64), rng.integers(0, photo.shape[1] - 64)
            crops.append(photo[y : y + 64, x : x + 64])
            labels.append(label if rng.random() > 0.25 else 1 - label)
    pixels, labels = np.stack(crops).astype("float32"), np.array(labels)
    model = add_head(load_backbone(backbone, image_size=64), 2)
    features = keras.Model(model.inputs, model.get_layer("head_pooling").output).predict(pixels, verbose=0)
    fit_probe(model, features, np.repeat([0, 1], 60), train=np.arange(0, 120, 2), val=np.arange(0, 120, 4))
    held, measured = np.arange(1, 120, 4), np.arange(3, 120, 4)
    before = model.predict(pixels[measured], verbose=0)
    logits = logits_model(model).predict(pixels[held], verbose=0)
    temperature = fit_temperature(logits, labels[held])
    fold_temperature(model, temperature)
    after = model.predict(pixels[measured], verbose=0)
    assert temperature > 1.5
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    errors = [expected_calibration_error(p, labels[measured]) for p in (before, after)]
    assert errors[1] < errors[0]
