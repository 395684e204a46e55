"""Balance: every class counts the same, by weight or by sampling; the focal loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_transfer.data import load_data, tf_dataset
from keras_transfer.data.balance import class_weights, sampling_probabilities
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing

SMALL = Preprocessing((12, 12))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_weighted_classes_count_the_same(labels):
    labels = np.array(labels)
    weights = class_weights(labels, 6)
    assert weights.dtype == np.float32 and weights.shape == (6,)
    total = weights * np.bincount(labels, minlength=6)
    present = np.unique(labels)
    np.testing.assert_allclose(total[present], total[present[0]], rtol=1e-5)
    assert np.all(weights[np.setdiff1d(np.arange(6), present)] == 0)
    assert weights[labels].mean() == pytest.approx(1, rel=1e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_sampled_classes_are_equally_likely(labels):
    labels = np.array(labels)
    chances = sampling_probabilities(labels)
    assert chances.dtype == np.float64 and chances.shape == labels.shape
    found = np.unique(labels)
    for label in found:
        assert chances[labels == label].sum() == pytest.approx(1 / len(found))


def test_several_labels_an_image():
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 1]])
    assert class_weights(labels, 3).tolist() == [1.0, 0.0, 0.25]
    with pytest.raises(DataError, match="0 or 1"):
        class_weights(labels * 2, 3)
    with pytest.raises(UsageError, match="class indices"):
        sampling_probabilities(labels)


def test_bad_labels():
    for labels in (np.array([0, 3]), np.array([-1, 0])):
        with pytest.raises(DataError, match="0 to 2"):
            class_weights(labels, 3)
    for function in (lambda labels: class_weights(labels, 3), sampling_probabilities):
        with pytest.raises(DataError, match="no image"):
            function(np.zeros(0, int))
        with pytest.raises(UsageError, match="whole numbers"):
            function(np.array([0.5, 1.0]))


# --- in the pipeline ---


@pytest.fixture(scope="module")
def table(photos):
    """60 real crops, five of them flowers."""
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(55, int), np.ones(5, int)]
    names = ("china", "flower")
    crops = [
        photos[names[label]][y : y + 12, x : x + 12]
        for label, y, x in zip(labels, rng.integers(0, 400, 60), rng.integers(0, 600, 60), strict=True)
    ]
    return load_data((np.stack(crops), labels))


def labels_of(dataset) -> list[int]:
    return np.concatenate([labels for _, labels in dataset.as_numpy_iterator()]).tolist()


@pytest.mark.slow
def test_balanced_epochs(table):
    chances = sampling_probabilities(table.labels)
    dataset = tf_dataset(table, SMALL, 16, seed=3, sampling=chances)
    assert int(dataset.cardinality()) == 4
    epochs = [labels_of(dataset) for _ in range(10)]
    assert all(len(epoch) == 60 for epoch in epochs)
    assert 0.4 < np.mean(epochs) < 0.6
    assert len({tuple(epoch) for epoch in epochs}) == 10
    later = tf_dataset(table, SMALL, 16, seed=3, sampling=chances, first_epoch=4)
    assert labels_of(later) == epochs[4]


def test_labels_go_with_their_images(table):
    rows = np.flatnonzero(np.arange(60) % 2)
    chances = np.arange(len(rows), dtype=float)  # not normalised, and the first row never
    plain = next(iter(tf_dataset(table, SMALL, 60).as_numpy_iterator()))[0]
    dataset = tf_dataset(table, SMALL, 8, indices=rows, sampling=chances)
    for images, labels in dataset.as_numpy_iterator():
        for image, label in zip(images, labels, strict=True):
            (found,) = np.flatnonzero((plain == image).all(axis=(1, 2, 3)))
            assert label == table.labels[found] and found in rows[1:]


def test_bad_sampling(table):
    with pytest.raises(UsageError, match=r"\(60,\)"):
        tf_dataset(table, SMALL, 8, sampling=np.ones(3))
    for bad in (np.zeros(60), np.full(60, -1.0), np.full(60, np.nan)):
        with pytest.raises(UsageError, match="above 0"):
            tf_dataset(table, SMALL, 8, sampling=bad)
    assert list(tf_dataset(table, SMALL, 8, indices=[], sampling=[])) == []
