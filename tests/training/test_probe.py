"""The probe: folded exactly, regularisation chosen on what it did not learn from."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_transfer.errors import DataError
from keras_transfer.heads import add_head, split_head
from keras_transfer.training import hidden as hidden_heads
from keras_transfer.training.probe import fit_probe, refit_probe
from keras_transfer.training.standardising import standardisation


def problem(classes=3, count=240, dimensions=12, seed=0):
    """Overlapping clouds in a space whose axes differ in scale by a factor of a thousand."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = rng.normal(size=(classes, dimensions))
    scales = np.logspace(-2, 1, dimensions)
    return ((centres[labels] + rng.normal(size=(count, dimensions))) * scales).astype("float32"), labels


def classifier(dimensions, classes, **head):
    features = keras.Input((dimensions,))
    return add_head(keras.Model(features, keras.layers.Identity()(features)), classes, **head)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_dense_layer_equals_the_standardised_regression(classes):
    x, y = problem(classes)
    model = classifier(x.shape[1], classes)
    mean, deviation = standardisation(x.astype("float64"), np.ones(len(x)))
    fitted = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit((x - mean) / deviation, y)
    refit_probe(model, x, y, rows=np.arange(len(x)), c=0.1)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), fitted.predict_proba((x - mean) / deviation), atol=1e-5
    )


@pytest.mark.parametrize("hidden", [(), pytest.param((16,), marks=pytest.mark.slow)])
def test_it_learns_and_the_choice_is_made_on_validation(hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 20)
    x, y = problem(count=2400)
    model = classifier(x.shape[1], 3, hidden=hidden)
    body = [w.copy() for w in split_head(model)[0].get_weights()]
    result = fit_probe(model, x, y, train=np.arange(1200), val=np.arange(1200, 1800))
    assert np.mean(model.predict(x[1800:], verbose=0).argmax(1) == y[1800:]) > 0.7
    assert result.chosen_on == "validation"
    if not hidden:
        best = min(result.trials, key=lambda trial: trial["val_loss"])
        assert result.c == best["C"]
        assert len(result.trials) > 3
    for before, after in zip(body, split_head(model)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_noise_is_answered_with_strong_regularisation_and_signal_with_weak():
    rng = np.random.default_rng(0)
    x, y = problem(2, 200)
    noise = rng.normal(size=(200, 60)).astype("float32")
    few, many = np.arange(100), np.arange(100, 200)
    for_noise = fit_probe(classifier(60, 2), noise, y, train=few, val=many)
    for_signal = fit_probe(classifier(x.shape[1], 2), x * 3, y, train=few, val=many)
    assert for_noise.c < for_signal.c


@pytest.mark.slow
def test_without_validation_images_cross_validation_chooses():
    x, y = problem()
    result = fit_probe(classifier(x.shape[1], 3), x, y, train=np.arange(100), val=np.arange(0))
    assert result.chosen_on == "cross-validation"


@pytest.mark.slow
def test_weights_count():
    x, _ = problem(2)
    y = np.random.default_rng(1).integers(0, 2, len(x))  # nothing to learn but how often each class counts
    heavy = np.where(y == 1, 50.0, 1.0)
    plain, weighted = classifier(x.shape[1], 2), classifier(x.shape[1], 2)
    train, val = np.arange(160), np.arange(160, 240)
    fit_probe(plain, x, y, train=train, val=val)
    fit_probe(weighted, x, y, train=train, val=val, sample_weight=heavy)
    assert weighted.predict(x, verbose=0)[:, 1].mean() > plain.predict(x, verbose=0)[:, 1].mean() + 0.2


@pytest.mark.slow
def test_the_strength_is_chosen_by_what_counts():
    """Validation rows that count nothing have no say: the trials are those of the rest alone."""
    x, y = problem(3)
    train, val = np.arange(160), np.arange(160, 240)
    judged = np.zeros(len(y))
    judged[val[:60]] = 2.0
    some = fit_probe(classifier(x.shape[1], 3), x, y, train=train, val=val, judged=judged)
    few = fit_probe(classifier(x.shape[1], 3), x, y, train=train, val=val[:60])
    whole = fit_probe(classifier(x.shape[1], 3), x, y, train=train, val=val)
    assert [t["val_loss"] for t in some.trials] == pytest.approx([t["val_loss"] for t in few.trials])
    assert some.trials[0]["val_loss"] != pytest.approx(whole.trials[0]["val_loss"])


@pytest.mark.slow
def test_a_class_without_training_images_is_never_predicted_and_one_class_is_refused():
    x, y = problem(3)
    train = np.flatnonzero(y[:160] != 1)
    model = classifier(x.shape[1], 3)
    fit_probe(model, x, y, train=train, val=np.arange(160, 240))
    assert 1 not in model.predict(x, verbose=0).argmax(1)
    with pytest.raises(DataError, match="at least 2"):
        fit_probe(model, x, y, train=np.flatnonzero(y == 0), val=np.arange(10))


@pytest.mark.slow
def test_a_constant_feature_does_not_explode():
    x, y = problem(2)
    x = np.concatenate([x, np.full((len(x), 1), 7.0, "float32")], axis=1)
    x[0, -1] += 1e-6
    model = classifier(x.shape[1], 2)
    fit_probe(model, x, y, train=np.arange(160), val=np.arange(160, 240))
    odd = x[:20].copy()
    odd[:, -1] += 0.5
    np.testing.assert_allclose(model.predict(odd, verbose=0), model.predict(x[:20], verbose=0), atol=0.2)


@pytest.mark.slow
def test_the_same_call_gives_the_same_weights(monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 3)  # equal is equal, however far it came
    x, y = problem()
    weights = []
    for _ in range(2):
        model = classifier(x.shape[1], 3, hidden=(8,))
        fit_probe(model, x, y, train=np.arange(160), val=np.arange(160, 240), seed=3)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_features_that_hardly_vary_get_no_enormous_weight():
    """A steep head turns the smallest change below it into another answer: nothing can be trained under it."""
    x, y = problem(dimensions=9)
    x[:, 0] *= 1e-4
    model = classifier(x.shape[1], 3)
    fit_probe(model, x, y, train=np.arange(120), val=np.arange(120, 180))
    weights = np.abs(model.get_layer("logits").get_weights()[0]).max(axis=1)
    assert weights[0] < weights[1:].max()
    _, deviation = standardisation(x.astype("float64"), np.ones(len(x)))
    assert deviation.min() == pytest.approx(np.median(x.std(axis=0, dtype="float64")), rel=0.5)
    assert deviation.max() == pytest.approx(x.std(axis=0, dtype="float64").max())
