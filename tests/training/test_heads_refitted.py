"""A head that is fitted again learns from all rows it is given, at the setting chosen before, and from no others."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from keras_transfer.heads import add_head
from keras_transfer.training.embedding_heads import KINDS, fit_embedding_head
from keras_transfer.training.multilabel_probe import refit_multilabel_probe
from keras_transfer.training.probe import fit_probe, out_of_fold_logits, refit_probe
from keras_transfer.training.regression_probe import refit_regression_probe
from keras_transfer.training.standardising import standardisation

TRAIN, VAL, REST = np.arange(120), np.arange(120, 180), np.arange(180, 240)
BOTH = np.concatenate([TRAIN, VAL])


def clouds():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    x = np.abs(rng.uniform(0, 2, size=(3, 10))[y] + 0.9 * rng.normal(size=(240, 10)))
    return (x * np.logspace(-1, 1, 10)).astype("float32"), y


def bare(dimensions):
    features = keras.Input((dimensions,))
    return keras.Model(features, keras.layers.Identity()(features))


def head(outputs, activation):
    return add_head(bare(10), outputs, activation=activation)


def standard(x, rows):
    mean, deviation = standardisation(x[rows].astype("float64"), np.ones(len(rows)))
    return (x - mean) / deviation


@pytest.mark.slow
def test_the_probes_are_scikit_learns_on_all_rows():
    x, y = clouds()
    z = standard(x, BOTH)
    model = head(3, "softmax")
    refit_probe(model, x, y, rows=BOTH, c=0.1)
    expected = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(z[BOTH], y[BOTH]).predict_proba(z)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    model, several = head(3, "sigmoid"), np.eye(3, dtype="uint8")[y]
    refit_multilabel_probe(model, x, several, rows=BOTH, c=0.1)
    for i in range(3):
        one = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(z[BOTH], several[BOTH, i])
        np.testing.assert_allclose(model.predict(x, verbose=0)[:, i], one.predict_proba(z)[:, 1], atol=1e-4)
    model, numbers = head(1, "linear"), 100 * x[:, :1] - 7
    refit_regression_probe(model, x, numbers, rows=BOTH, alpha=10.0)
    centre, spread = numbers[BOTH].mean(dtype="float64"), numbers[BOTH].std(dtype="float64")
    ridge = Ridge(10.0).fit(z[BOTH], (numbers[BOTH, 0] - centre) / spread)
    np.testing.assert_allclose(
        model.predict(x, verbose=0)[:, 0], ridge.predict(z) * spread + centre, rtol=1e-3
    )


def test_other_rows_have_no_say_and_rows_of_weight_zero_neither():
    x, y = clouds()
    weights = []
    for i in range(3):
        model, other, rows, weight = head(3, "softmax"), x.copy(), BOTH, np.ones(240)
        other[REST] = i
        if i == 2:
            rows, weight[REST] = np.arange(240), 0.0
        refit_probe(model, other, y, rows=rows, c=0.1, sample_weight=weight)
        weights.append(model.get_layer("logits").get_weights())
    for kernel, bias in weights[1:]:
        np.testing.assert_array_equal(kernel, weights[0][0])
        np.testing.assert_array_equal(bias, weights[0][1])


def test_at_the_same_strength_on_the_same_rows_it_is_the_first_fit_again():
    x, y = clouds()
    first, again = head(3, "softmax"), head(3, "softmax")
    result = fit_probe(first, x, y, train=TRAIN, val=VAL)
    refit_probe(again, x, y, rows=TRAIN, c=result.c)
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_another_head_keeps_its_setting_and_its_trials(kind):
    x, y = clouds()
    extractor = bare(10)

    def fit(**more):
        return fit_embedding_head(extractor, kind, x, y, 3, train=TRAIN, val=VAL, **more)

    before, after, again = fit(), fit(refit=True), fit(refit=True)
    assert before.chosen == after.chosen and before.trials == after.trials
    chances = [np.asarray(one.model(x[REST])) for one in (before, after, again)]
    assert np.abs(chances[1] - chances[0]).max() > 1e-3
    np.testing.assert_array_equal(chances[1], chances[2])
    assert np.mean(chances[1].argmax(axis=1) == y[REST]) > 0.5  # by chance a third
    unheard = fit(refit=True, sample_weight=np.where(np.isin(np.arange(240), VAL), 0.0, 1.0))
    np.testing.assert_allclose(np.asarray(unheard.model(x[REST])), chances[0], atol=1e-5)


def test_what_neighbours_and_prototypes_remember_are_all_rows():
    x, y = clouds()
    extractor = bare(10)

    def fit(kind):
        return fit_embedding_head(extractor, kind, x, y, 3, train=TRAIN, val=VAL, refit=True)

    assert fit("knn").model.get_layer("head_memory").kernel.shape[1] == len(BOTH)
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    centres = np.stack([z[BOTH][y[BOTH] == one].mean(axis=0) for one in range(3)])
    found = fit("prototype")
    scores = np.exp(-((z[REST][:, None] - centres) ** 2).sum(axis=2) * found.chosen["scale"])
    np.testing.assert_allclose(
        np.asarray(found.model(x[REST])), scores / scores.sum(axis=1, keepdims=True), atol=1e-4
    )


def test_what_is_said_out_of_fold_was_not_learned_by_heart():
    """Of noise: a head that had learned from an image would know its label."""
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(160, 80)).astype("float32"), rng.integers(0, 2, 160)
    labels[0], rows = 2, np.arange(1, 150)
    judged, logits = out_of_fold_logits(noise, labels, 3, rows=rows, c=10.0)
    assert sorted(judged) == list(rows) and logits.shape == (149, 3)
    assert np.mean(logits.argmax(axis=1) == labels[judged]) < 0.65
    features = keras.Input((80,))
    model = add_head(keras.Model(features, keras.layers.Identity()(features)), 3)
    refit_probe(model, noise, labels, rows=rows, c=10.0)
    assert np.mean(model.predict(noise[rows], verbose=0).argmax(axis=1) == labels[rows]) > 0.95
    judged, logits = out_of_fold_logits(noise, labels, 3, rows=np.arange(2), c=10.0)
    assert len(judged) == 0 and logits.shape == (0, 3)
