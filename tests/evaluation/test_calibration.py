"""Calibration: what is measured, at the edges of the bins too, and that the picture is drawn."""

import numpy as np
import pytest
from PIL import Image

from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.calibration import calibration_error, expected_calibration_error, reliability
from keras_transfer.evaluation.plots_calibration import reliability_plot


def two_classes(confidence, right):
    """Probabilities of two classes whose larger one is ``confidence``, and labels that make ``right`` of them right."""
    confidence = np.asarray(confidence, float)
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


def test_always_sure_and_half_right_is_half_wrong_about_itself():
    probabilities, labels = two_classes(np.ones(10), np.arange(10) % 2 == 0)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.5)


def test_four_in_five_right_at_80_percent_is_no_error():
    probabilities, labels = two_classes(np.full(50, 0.8), np.arange(50) % 5 > 0)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.0, abs=1e-12)


def test_it_is_the_weighted_mean_of_the_gaps():
    confidence, right = [0.95, 0.95, 0.95, 0.55], [True, True, False, False]
    probabilities, labels = two_classes(confidence, right)
    expected = 3 / 4 * abs(2 / 3 - 0.95) + 1 / 4 * abs(0 - 0.55)
    assert expected_calibration_error(probabilities, labels, bins=10) == pytest.approx(expected)


@pytest.mark.parametrize("bins", [1, 4, 15, 100])
def test_every_image_is_in_the_bin_its_confidence_belongs_to(bins):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 300)
    probabilities[0] = [0, 0, 1, 0]
    probabilities[1] = [0.25, 0.25, 0.25, 0.25]  # on an edge
    rows = reliability(probabilities, rng.integers(0, 4, 300), bins)
    assert len(rows) == bins
    assert sum(row["images"] for row in rows) == 300
    top = probabilities.max(axis=1)
    for row in rows:
        assert row["images"] == np.sum((top > row["low"]) & (top <= row["high"]))
        if row["images"]:
            assert row["low"] - 1e-9 <= row["confidence"] <= row["high"] + 1e-9
            assert 0 <= row["accuracy"] <= 1
        else:
            assert row["confidence"] is None
            assert row["accuracy"] is None


def test_the_error_of_the_bins_is_the_error_and_one_bin_compares_the_means():
    rng = np.random.default_rng(1)
    probabilities, labels = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    error = expected_calibration_error(probabilities, labels)
    assert calibration_error(reliability(probabilities, labels)) == error
    gap = probabilities.max(axis=1).mean() - np.mean(probabilities.argmax(axis=1) == labels)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(gap))
    assert error >= abs(gap) - 1e-12


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "no images"),
        (np.ones(3), np.zeros(3, int), "shape"),
        (np.full((3, 2), 0.5), np.zeros(2, int), "shape"),
        (np.array([[3.0, -2.0]]), np.array([0]), "softmax"),
        (np.array([[np.nan, 0.5]]), np.array([0]), "softmax"),
        (np.array([[0.5, 0.5]]), np.array([2]), "from 0 to 1"),
        (np.array([[0.5, 0.5]]), np.array([0.5]), "whole numbers"),
    ],
)
def test_what_is_no_probability_or_label_is_refused(probabilities, labels, message):
    with pytest.raises(DataError, match=message):
        expected_calibration_error(probabilities, labels)


def test_no_bins_are_refused():
    with pytest.raises(UsageError, match="bins"):
        reliability(np.array([[0.5, 0.5]]), np.array([0]), bins=0)


def test_the_picture_is_written_also_with_empty_bins(tmp_path):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    sure = np.eye(3)[logits.argmax(axis=1)]
    path = tmp_path / "plots" / "reliability.png"
    reliability_plot(reliability(sure, labels), reliability(np.full((200, 3), 1 / 3), labels), path)
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 400
    assert [p.name for p in path.parent.iterdir()] == ["reliability.png"]
