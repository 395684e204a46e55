"""The probe's regression: scikit-learn's minimum in fewer steps, from wherever it begins."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from keras_transfer.training import logistic
from keras_transfer.training.logistic import Linear, LogisticPath, working

PATH = (1e-3, 1e-2, 1e-1, 1.0)


def correlated(count, features, classes, seed=0):
    """Overlapping clouds whose directions vary by a factor of a thousand, standardised: ``x`` and class indices."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    mixing = rng.normal(size=(features, features)) * np.logspace(0, -3, features)
    x = (rng.normal(size=(classes, features))[y] + rng.normal(size=(count, features))) @ mixing.T
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def delivered(x, targets, weight, c, *, softmax):
    path = LogisticPath(x, targets, weight, softmax=softmax)
    head = path.deliver(c, [one for one in PATH if one <= c])
    return x @ head.w + head.b


@pytest.mark.parametrize(
    "shape", [(240, 12, 3), (60, 90, 4), (24, 10, 12)], ids=["many rows", "few rows", "many classes"]
)
@pytest.mark.parametrize("c", [1e-2, 1.0])
def test_classes_are_scikit_learns(shape, c):
    x, y = correlated(*shape)
    weight = np.random.default_rng(1).uniform(0.2, 3.0, len(y))
    expected = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(x, y, weight).predict_proba(x)
    scores = delivered(x, np.eye(shape[2])[y], weight, c, softmax=True)
    np.testing.assert_allclose(softmax(scores, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize("c", [1e-2, 1.0])
def test_labels_are_scikit_learns_each_by_itself(c):
    x, y = correlated(200, 30, 4)
    labels = np.stack([y == 0, y < 2, y == 3], axis=1)
    scores = delivered(x, labels, np.ones(len(y)), c, softmax=False)
    for column, truth in enumerate(labels.T):
        expected = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(x, truth).predict_proba(x)[:, 1]
        np.testing.assert_allclose(expit(scores[:, column]), expected, atol=1e-5)


def test_constant_and_repeated_features_are_fitted_like_any():
    x, y = correlated(120, 8, 3)
    odd = np.concatenate([x, x, np.zeros((len(x), 2))], axis=1)
    expected = LogisticRegression(C=0.1, tol=1e-9, max_iter=10_000).fit(odd, y).predict_proba(odd)
    scores = delivered(odd, np.eye(3)[y], np.ones(len(y)), 0.1, softmax=True)
    np.testing.assert_allclose(softmax(scores, axis=1), expected, atol=1e-5)


def test_rows_of_weight_zero_have_no_say():
    x, y = correlated(120, 8, 3)
    weight = np.where(np.arange(120) < 80, 1.0, 0.0)
    some = LogisticPath(x[:80], np.eye(3)[y[:80]], np.ones(80), softmax=True).deliver(0.1, PATH)
    all_of_them = LogisticPath(x, np.eye(3)[y], weight, softmax=True).deliver(0.1, PATH)
    np.testing.assert_allclose(all_of_them.w, some.w, atol=1e-5)


def test_what_is_delivered_does_not_depend_on_how_far_the_path_was_followed():
    x, y = correlated(120, 20, 3)
    paths = [LogisticPath(x, np.eye(3)[y], np.ones(120), softmax=True) for _ in range(2)]
    for c in PATH:
        paths[0].fit(c)
    first, second = (path.deliver(1e-2, PATH) for path in paths)
    np.testing.assert_array_equal(first.w, second.w)
    np.testing.assert_array_equal(first.b, second.b)


def test_where_it_begins_has_no_say_in_where_it_ends():
    x, y = correlated(200, 20, 3)
    path = LogisticPath(x, np.eye(3)[y], np.ones(200), softmax=True)
    cold = path.deliver(0.1, PATH)
    warm = path.near(0.1, Linear(cold.w * 1.2, cold.b + 0.3))
    np.testing.assert_allclose(warm.w, cold.w, atol=1e-4)
    assert path.near(0.1, Linear(cold.w * -50, cold.b)) is None


@pytest.mark.parametrize("rows", [300, 60], ids=["many rows", "few rows"])
def test_some_directions_lead_to_the_minimum_as_all_do(monkeypatch, rows):
    x, y = correlated(rows, 80, 3)
    targets, weight = np.eye(3)[y], np.random.default_rng(1).uniform(0.2, 3.0, rows)
    expected = delivered(x, targets, weight, 0.1, softmax=True)
    monkeypatch.setattr(logistic, "FEW", 10)
    monkeypatch.setattr(logistic, "DIRECTIONS", 6)
    np.testing.assert_allclose(delivered(x, targets, weight, 0.1, softmax=True), expected, atol=1e-4)


def test_directions_save_steps(monkeypatch):
    asked = []
    objective = LogisticPath._objective
    monkeypatch.setattr(LogisticPath, "_objective", lambda *given: asked.append(1) or objective(*given))
    rng, y = np.random.default_rng(0), np.arange(400) % 4
    spread = np.where(np.arange(300) < 40, np.logspace(2, 1, 300), 1.0)
    x = (rng.normal(size=(4, 300))[y] + rng.normal(size=(400, 300))) * spread
    x = x @ np.linalg.qr(rng.normal(size=(300, 300)))[0] / 30
    delivered(x, np.eye(4)[y], np.ones(400), 1.0, softmax=True)
    with_them = len(asked)
    asked.clear()
    monkeypatch.setattr(logistic, "DIRECTIONS", 1)
    delivered(x, np.eye(4)[y], np.ones(400), 1.0, softmax=True)
    assert with_them < 0.75 * len(asked)


def test_rows_that_span_little_are_fitted_there_and_nowhere_else(monkeypatch):
    x, y = correlated(30, 90, 3)
    path = LogisticPath(x, np.eye(3)[y], np.ones(30), softmax=True)
    head = path.deliver(0.1, PATH)
    outside = np.eye(90) - np.linalg.pinv(x) @ x
    np.testing.assert_allclose(outside @ head.w, 0, atol=1e-9)
    monkeypatch.setattr(logistic, "MOST_ROWS", 10)
    whole = LogisticPath(x, np.eye(3)[y], np.ones(30), softmax=True).deliver(0.1, PATH)
    np.testing.assert_allclose(x @ head.w + head.b, x @ whole.w + whole.b, atol=1e-4)


def test_long_fits_are_float32():
    x = np.zeros((20, 100))
    assert working(x, 20, 1).dtype == np.float64
    assert working(x, 20_000, 1).dtype == np.float32
    assert working(x, 9_000, 10).dtype == np.float64
    assert working(x, 9_000, 100).dtype == np.float32
