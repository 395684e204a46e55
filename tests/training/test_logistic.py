"""The probe's regression: scikit-learn's minimum in fewer steps, from wherever it begins."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from keras_transfer.training import logistic
from keras_transfer.training.logistic import DELIVERED, Linear, LogisticPath, principal_axes, turned

PATH = (1e-3, 1e-2, 1e-1, 1.0)


def correlated(count, features, classes, seed=0):
    """Overlapping clouds whose directions vary by a factor of a thousand, standardised: ``x`` and class indices."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    mixing = rng.normal(size=(features, features)) * np.logspace(0, -3, features)
    x = (rng.normal(size=(classes, features))[y] + rng.normal(size=(count, features))) @ mixing.T
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def delivered(x, targets, weight, c, *, softmax):
    axes = principal_axes(x)
    path = LogisticPath(turned(x, axes), targets, weight, softmax=softmax)
    head = path.deliver(c, [one for one in PATH if one <= c])
    return x @ axes @ head.w + head.b


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
    axes, weight = principal_axes(x), np.where(np.arange(120) < 80, 1.0, 0.0)
    z = turned(x, axes)
    some = LogisticPath(z[:80], np.eye(3)[y[:80]], np.ones(80), softmax=True).deliver(0.1, PATH)
    all_of_them = LogisticPath(z, np.eye(3)[y], weight, softmax=True).deliver(0.1, PATH)
    np.testing.assert_allclose(all_of_them.w, some.w, atol=1e-5)


def test_what_is_delivered_does_not_depend_on_how_far_the_path_was_followed():
    x, y = correlated(120, 20, 3)
    z = turned(x, principal_axes(x))
    paths = [LogisticPath(z, np.eye(3)[y], np.ones(120), softmax=True) for _ in range(2)]
    for c in PATH:
        paths[0].fit(c)
    first, second = (path.deliver(1e-2, PATH) for path in paths)
    np.testing.assert_array_equal(first.w, second.w)
    np.testing.assert_array_equal(first.b, second.b)


def test_where_it_begins_has_no_say_in_where_it_ends():
    x, y = correlated(200, 20, 3)
    path = LogisticPath(turned(x, principal_axes(x)), np.eye(3)[y], np.ones(200), softmax=True)
    cold = path.deliver(0.1, PATH)
    warm = path.near(0.1, Linear(cold.w * 1.2, cold.b + 0.3), DELIVERED)
    np.testing.assert_allclose(warm.w, cold.w, atol=1e-4)
    assert path.near(0.1, Linear(cold.w * -50, cold.b), DELIVERED) is None


def test_the_axes_are_orthonormal_and_span_the_rows():
    for count, features in ((200, 30), (30, 200)):
        x, _ = correlated(count, features, 2)
        axes = principal_axes(x)
        np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-4)
        np.testing.assert_allclose(x @ axes @ axes.T, x, atol=1e-3 * np.abs(x).max())


def test_too_many_features_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(logistic, "MOST_AXES", 5)
    x, _ = correlated(20, 10, 2)
    np.testing.assert_array_equal(principal_axes(x), np.eye(10))
