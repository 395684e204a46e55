"""LogME: the evidence is the evidence, at its maximum; and features that tell the classes apart score higher."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group

from keras_transfer.errors import DataError
from keras_transfer.training.transferability import logme


def problem(count, dimensions, classes=3, signal=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    centres = signal * rng.normal(size=(classes, dimensions))
    return centres[labels] + rng.normal(size=(count, dimensions)), labels


def brute_force(x, labels):
    """The marginal likelihood as a Gaussian over all labels at once, maximised from several starts."""
    scores = []
    for label in np.unique(labels):
        target = (labels == label).astype(float)

        def loss(logs, target=target):
            alpha, beta = np.exp(np.clip(logs, -25, 25))
            covariance = np.eye(len(x)) / beta + x @ x.T / alpha
            return -multivariate_normal.logpdf(target, np.zeros(len(x)), covariance, allow_singular=True)

        starts = ((-2, 0), (2, 3), (7, 3))
        fits = [
            minimize(loss, start, method="Nelder-Mead", options={"fatol": 1e-6, "xatol": 1e-3})
            for start in starts
        ]
        scores.append(-min(fit.fun for fit in fits))
    return np.mean(scores) / len(labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "dimensions", "signal"),
    [(24, 3, 1.0), (24, 3, 0.2), (12, 30, 1.0), (20, 20, 0.5)],
)
def test_it_is_the_maximum_of_the_marginal_likelihood(count, dimensions, signal):
    x, labels = problem(count, dimensions, signal=signal)
    assert logme(x, labels) == pytest.approx(brute_force(x, labels), abs=2e-4)


@pytest.mark.parametrize(("count", "dimensions"), [(60, 12), (20, 40)])
def test_rotating_the_features_or_changing_their_unit_changes_nothing(count, dimensions):
    x, labels = problem(count, dimensions)
    rotation = ortho_group.rvs(dimensions, random_state=0)
    assert logme(x @ rotation, labels) == pytest.approx(logme(x, labels), abs=1e-6)
    for unit in (1e-4, 1e5):
        assert logme(unit * x, labels) == pytest.approx(logme(x, labels), abs=1e-6)
    order = np.random.default_rng(1).permutation(count)
    assert logme(x[order], labels[order]) == pytest.approx(logme(x, labels), abs=1e-6)


@pytest.mark.parametrize("dimensions", [5, 30, 200])
def test_informative_features_score_above_noise_and_more_signal_above_less(dimensions):
    labels = problem(90, dimensions)[1]
    noise = logme(problem(90, dimensions, signal=0.0)[0], labels)
    weak = logme(problem(90, dimensions, signal=0.3)[0], labels)
    strong = logme(problem(90, dimensions, signal=2.0)[0], labels)
    assert noise < weak < strong


def test_features_that_only_add_noise_lower_the_score():
    x, labels = problem(80, 6)
    noise = np.random.default_rng(3).normal(size=(80, 40))
    assert logme(np.concatenate([x, noise], axis=1), labels) < logme(x, labels)


def test_features_that_tell_nothing_or_everything_have_a_finite_score():
    labels = np.arange(30) % 3
    nothing, everything = logme(np.zeros((30, 4)), labels), logme(np.eye(3)[labels], labels)
    noise_alone = 0.5 * (np.log(3) - np.log(2 * np.pi) - 1)
    assert nothing == pytest.approx(noise_alone)
    assert np.isfinite(everything)
    assert everything > 3 > nothing


def test_a_class_that_does_not_occur_counts_for_nothing():
    x, labels = problem(40, 5)
    assert logme(x, labels * 7 + 2) == pytest.approx(logme(x, labels))


def test_a_better_view_of_real_photographs_scores_higher(photos):
    """Crops of two photographs, described by their mean colour, or by noise of the same size."""
    rng = np.random.default_rng(0)
    colours, labels = [], []
    for label, photo in enumerate(photos.values()):
        for _ in range(40):
            y, x = rng.integers(0, photo.shape[0] - 64), rng.integers(0, photo.shape[1] - 64)
            colours.append(photo[y : y + 64, x : x + 64].mean(axis=(0, 1)))
            labels.append(label)
    colours = np.array(colours)
    shuffled = rng.permutation(colours)
    assert logme(colours, np.array(labels)) > logme(shuffled, np.array(labels)) + 0.05


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.zeros(4), np.arange(4), "shape"),
        (np.zeros((4, 2)), np.arange(3), "shape"),
        (np.full((4, 2), np.nan), np.arange(4), "finite"),
        (np.zeros((4, 2)), np.zeros(4, int), "at least 2"),
        (np.zeros((0, 2)), np.zeros(0, int), "at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(x, labels, message):
    with pytest.raises(DataError, match=message):
        logme(x, labels)
