"""Measures of unfamiliarity: what was left out is farther, thresholds hold, and the models load with Keras alone."""

import keras
import numpy as np
import pytest

from keras_transfer.errors import DataError, UsageError
from keras_transfer.training.unfamiliarity import METHODS, fit_detector, threshold_of
from keras_transfer.training.unfamiliarity_layers import MOST_BYTES, measure

DIMENSIONS = 48


def blobs(count, classes=4, seed=0, dimensions=DIMENSIONS):
    """Features of classes around points of their own, positive as pooled ones are; the last class is for outside."""
    centres = np.random.default_rng(7).uniform(0.2, 2, (classes + 1, dimensions))
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = centres[y] + rng.normal(0, 0.25, (count, dimensions))
    outside = centres[-1] + rng.normal(0, 0.25, (60, dimensions))
    return x, y, outside


def head_of(x, y):
    """Least squares to one-hot labels, times 5: logits that say something."""
    kernel, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], 5 * np.eye(y.max() + 1)[y], rcond=None)
    return kernel[:-1], kernel[-1]


@pytest.mark.parametrize("method", METHODS)
def test_what_was_never_seen_is_farther_and_the_model_is_the_same_anywhere(method, answers_alike_anywhere):
    x, y, outside = blobs(300)
    one = measure(method, x[:200], y[:200], head=head_of(x[:200], y[:200]))
    familiar, strange = one(x[200:]), one(outside)
    pairs = (strange[:, np.newaxis] > familiar).mean()
    assert pairs > (0.8 if method in ("softmax", "energy") else 0.97)
    unit = keras.Model(one.model.input, one.model.output / float(np.abs(strange).max()))
    answers_alike_anywhere(unit, x[200:].astype(np.float32))


def test_the_distance_is_that_of_shrunk_gaussians_and_the_remainder():
    """The layers against the formula, written out."""
    from sklearn.covariance import ledoit_wolf
    from sklearn.decomposition import PCA

    x, y, outside = blobs(300)
    one = measure("mahalanobis", x, y)
    z, far = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (x, outside))
    pca = PCA(one.components, svd_solver="full").fit(z)
    points, asked = pca.transform(z), pca.transform(far)
    means = np.stack([points[y == c].mean(axis=0) for c in range(4)])
    covariance, shrinkage = ledoit_wolf(points - means[y], assume_centered=True)
    gaps = asked[:, np.newaxis] - means
    distance = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(covariance), gaps).min(axis=1)

    def left(part, at):
        return ((part - pca.inverse_transform(at)) ** 2).sum(axis=1)

    distance += one.components * left(far, asked) / left(z, points).mean()
    assert one.shrinkage == pytest.approx(shrinkage, abs=0.02)
    np.testing.assert_allclose(one(outside), distance, rtol=0.05)


def test_the_wanted_share_of_new_images_is_unknown():
    x, y, _ = blobs(3000)
    train, val, test = np.split(np.arange(3000), [1000, 2000])
    for method in ("mahalanobis", "knn"):
        one = fit_detector(method, x, y, train=train, val=val, reject=0.1)
        assert 0.07 < np.mean(one.measure(x[test]) > one.threshold) < 0.13
        assert one.threshold_from == "1000 validation images"


def test_without_validation_images_folds_tell_the_threshold(caplog):
    x, y, _ = blobs(1000)
    train, test = np.split(np.arange(1000), [400])
    with caplog.at_level("INFO"):
        one = fit_detector("mahalanobis", x, y, train=train, val=train[:0])
    assert one.threshold_from == "400 images, cross-validated" and "found by cross-validation" in caplog.text
    assert 0.01 < np.mean(one.measure(x[test]) > one.threshold) < 0.1


def test_the_threshold_is_a_value_that_the_share_exceeds():
    scores = np.random.default_rng(0).permutation(99).astype(float)
    assert (
        threshold_of(scores, 0.05) == 94
    )  # the 95th smallest of 99: 4 exceed it, and 1 of 100 places is the new one's
    assert threshold_of(scores[:3], 0.05) == scores[:3].max()


def test_auto_leaves_classes_out_and_takes_what_tells_them_apart():
    x, y, _ = blobs(400)
    train, val = np.split(np.arange(400), [300])
    one = fit_detector("auto", x, y, train=train, val=val, head=head_of(x[train], y[train]))
    assert one.chosen_on == "classes left out" and set(one.trials) == {
        "joint",
        "relative",
        "mahalanobis",
        "knn",
        "vim",
    }
    assert one.trials[one.method] == max(one.trials.values()) > 0.9
    again = fit_detector("auto", x, y, train=train, val=val, head=head_of(x[train], y[train]))
    assert again.to_dict() == one.to_dict()


def test_two_classes_leave_one_that_has_no_logits():
    x, y, outside = blobs(300, classes=2)
    rows = {"train": np.arange(200), "val": np.arange(200, 300)}
    assert set(fit_detector("auto", x, y, **rows).trials) == {"mahalanobis", "knn"}
    one = fit_detector("auto", x, y, **rows, head=head_of(x, y))
    assert (one.method, one.trials) == ("joint", {})
    assert np.mean(one.measure(outside) > one.threshold) > 0.9


def test_images_without_single_classes_are_one_cloud():
    x, _, outside = blobs(300)
    one = fit_detector("auto", x, None, train=np.arange(200), val=np.arange(200, 300))
    assert one.method == "mahalanobis" and one.chosen_on == "the images have no classes to leave out"
    assert np.mean(one.measure(outside) > one.threshold) > 0.9


@pytest.mark.parametrize(
    "labels", [np.arange(12), np.r_[np.zeros(11, int), 1]], ids=["all alone", "one alone"]
)
def test_few_images_and_classes_of_one(labels):
    x, _, outside = blobs(12, dimensions=300)
    one = fit_detector("auto", x, labels, train=np.arange(12), val=np.arange(0))
    assert np.isfinite(one.measure(np.r_[x, outside])).all() and np.isfinite(one.threshold)
    assert one.measure(outside).mean() > one.measure(x).mean()


def test_of_few_images_new_ones_are_not_strange_for_being_new():
    """As many components as images leave nothing of these, and of any other image much."""
    x, y, outside = blobs(100, dimensions=300)
    one = measure("mahalanobis", x[:26], y[:26])
    assert np.median(one(x[26:])) < 5 * np.median(one(x[:26])) < np.median(one(outside))


def test_fewer_images_than_features_is_said(caplog):
    x, y, _ = blobs(80, dimensions=300)
    with caplog.at_level("INFO"):
        one = fit_detector("mahalanobis", x, y, train=np.arange(30), val=np.arange(30, 80))
    assert 0 < one.measure.shrinkage <= 1 and "30 images are fewer than the 300 features" in caplog.text


@pytest.mark.parametrize("method", ["mahalanobis", "relative", "knn"])
def test_what_is_added_to_a_model_is_small(method, tmp_path):
    x, y, _ = blobs(2000, classes=20, dimensions=1280)
    one = measure(method, x, y)
    one.model.save(tmp_path / "unfamiliarity.keras")
    assert one.bytes == 4 * one.model.count_params() <= MOST_BYTES
    assert (tmp_path / "unfamiliarity.keras").stat().st_size <= 250_000


def test_what_cannot_be_is_said():
    x, y, _ = blobs(40)
    with pytest.raises(DataError, match="The features of all 40 training images are the same"):
        measure("mahalanobis", np.ones((40, 8)), y)
    with pytest.raises(DataError, match="1 image was given"):
        measure("knn", x[:1], y[:1])
    with pytest.raises(UsageError, match="needs the logits of a classifier"):
        measure("energy", x, y)
    with pytest.raises(UsageError, match="there are no two classes"):
        measure("relative", x, None)
    with pytest.raises(UsageError, match="one of auto, mahalanobis"):
        fit_detector("distance", x, y, train=np.arange(40), val=np.arange(0))
    with pytest.raises(UsageError, match=r"reject=1\.5 was given"):
        fit_detector("knn", x, y, train=np.arange(40), val=np.arange(0), reject=1.5)
