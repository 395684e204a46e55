"""Class weights: what the user says, and what the pixels say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.objective import SegmentationObjective
from keras_transfer_segmentation.weighting import class_weights, parse_weights

from keras_transfer.errors import UsageError

NAMES = ("sky", "road", "sign")


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3).filter(any))
def test_balanced_classes_weigh_alike_in_all(pixels):
    counts = np.array(pixels)
    weights = np.array(class_weights("balanced", counts, NAMES))
    whole = weights * counts
    assert np.allclose(whole[counts > 0], whole.max()) and (weights[counts == 0] == 0).all()
    assert whole.sum() == pytest.approx(counts.sum())


def test_numbers_are_taken_as_they_are_in_the_order_of_the_classes():
    assert class_weights("1, 2.5,0", np.array([5, 5, 5]), NAMES) == (1.0, 2.5, 0.0)
    assert class_weights("none", np.array([5, 1, 5]), NAMES) is None


@pytest.mark.parametrize("text", ["", "heavy", "1,,2", "1,-1,1", "0,0,0", "1,nan,1", "1,inf,1", "1;2;3"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match=r"--class-weights: .* none, balanced, or a number"):
        parse_weights(text)


def test_another_number_of_weights_is_refused_with_the_classes():
    with pytest.raises(UsageError, match=r"2 numbers and there are 3 classes \(sky, road, sign\)"):
        class_weights("1,2", np.array([5, 5, 5]), NAMES)


def test_the_loss_uses_them():
    """With all weight on one class, only its pixels are learned from."""
    truth = np.array([[[0, 1], [2, 2]]])
    logits = np.zeros((1, 2, 2, 3), np.float32)
    logits[0, 0, 0, 0] = 9.0  # right about class 0, undecided elsewhere

    def loss(weights):
        return float(SegmentationObjective("cross_entropy", Classes(NAMES), weights).loss()(truth, logits))

    assert loss((1.0, 0.0, 0.0)) < 1e-3 < loss((0.0, 1.0, 0.0)) == pytest.approx(np.log(3), rel=1e-4)
    assert loss(None) == pytest.approx(loss((1.0, 1.0, 1.0)))
