"""Metrics: equal to counting by hand, absent classes left out, the two kinds of means kept apart."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_transfer_segmentation.metrics import SegmentationMetrics, boundary_f1, confusion_matrix, dice, iou

from keras_transfer.errors import DataError, UsageError

NAMES = ("sky", "tree", "road")
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 1], [0, 0, 0, 2]], np.uint8)


def measure(pairs, **arguments):
    metrics = SegmentationMetrics(NAMES, **arguments)
    for truth, prediction in pairs:
        metrics.update(truth, prediction)
    return metrics.result()


def masks(values):
    shape = st.shared(arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6), key="shape")
    return shape.flatmap(lambda s: arrays.arrays(np.uint8, s, elements=st.sampled_from(values)))


TRUTHS, PREDICTIONS = masks([0, 1, 2, 255]), masks([0, 1, 2])


def test_by_hand():
    """7 pixels count: sky has 4 in the truth, tree 3; one of each is taken for the other; road is nowhere."""
    result = measure([(TRUTH, PREDICTION)])
    assert result["confusion_matrix"] == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert result["per_class"]["sky"]["iou"] == pytest.approx(3 / 5)
    assert result["per_class"]["tree"]["iou"] == pytest.approx(2 / 4)
    assert result["per_class"]["road"]["iou"] is None
    assert result["mean_iou"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert result["mean_dice"] == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert result["pixel_accuracy"] == pytest.approx(5 / 7)
    assert result["frequency_weighted_iou"] == pytest.approx((4 * 3 / 5 + 3 * 2 / 4) / 7)
    assert (result["images"], result["pixels"]) == (1, 7)
    assert (
        result["per_class"]["sky"]["precision"]
        == result["per_class"]["sky"]["recall"]
        == pytest.approx(3 / 4)
    )
    assert (result["per_class"]["tree"]["pixels"], result["per_class"]["tree"]["predicted_pixels"]) == (3, 3)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_class_that_is_only_predicted_counts_as_wrong():
    result = measure([(np.zeros((2, 2), int), np.array([[0, 0], [0, 2]]))])
    assert result["per_class"]["road"]["iou"] == 0
    assert result["mean_iou"] == pytest.approx((3 / 4 + 0) / 2)


def test_the_two_means_differ_as_they_say():
    """A large image that is all right, a small one that is all wrong."""
    large, small = np.zeros((10, 10), int), np.zeros((1, 2), int)
    result = measure([(large, large), (small, small + 1)])
    assert result["pixel_accuracy"] == pytest.approx(100 / 102)
    assert result["per_image_pixel_accuracy"] == pytest.approx(1 / 2)
    assert result["mean_iou"] == pytest.approx((100 / 102 + 0) / 2)
    assert result["per_image_mean_iou"] == pytest.approx((1 + 0) / 2)


def test_an_image_that_is_ignored_altogether_is_no_image():
    result = measure([(TRUTH, PREDICTION), (np.full((2, 4), 255), PREDICTION)])
    assert result == measure([(TRUTH, PREDICTION)])
    with pytest.raises(DataError, match="no pixels to measure"):
        measure([(np.full((2, 4), 255), PREDICTION)])


@pytest.mark.slow
@given(st.lists(st.tuples(TRUTHS, PREDICTIONS), min_size=1, max_size=4))
def test_equal_to_counting_pixel_by_pixel(pairs):
    counted = [
        (int(t), int(p))
        for truth, pred in pairs
        for t, p in zip(truth.flat, pred.flat, strict=True)
        if t != 255
    ]
    if not counted:
        return
    result = measure(pairs)
    ious = {}
    for c, name in enumerate(NAMES):
        union = sum(c in pair for pair in counted)
        if union:
            ious[c] = counted.count((c, c)) / union
            assert result["per_class"][name]["iou"] == pytest.approx(ious[c])
            assert result["per_class"][name]["dice"] == pytest.approx(2 * ious[c] / (1 + ious[c]))
        else:
            assert result["per_class"][name]["iou"] is None
    assert result["mean_iou"] == pytest.approx(sum(ious.values()) / len(ious))
    assert result["pixel_accuracy"] == pytest.approx(sum(t == p for t, p in counted) / len(counted))
    weighted = sum(ious[t] for t, _ in counted) / len(counted)
    assert result["frequency_weighted_iou"] == pytest.approx(weighted)
    assert sum(map(sum, result["confusion_matrix"])) == result["pixels"] == len(counted)


@pytest.mark.slow
@given(TRUTHS, PREDICTIONS, PREDICTIONS)
def test_predictions_under_ignored_pixels_change_nothing(truth, prediction, other):
    other = np.where(truth == 255, other, prediction)
    if (truth != 255).any():
        assert measure([(truth, prediction)]) == measure([(truth, other)])


@pytest.mark.slow
@given(st.lists(st.tuples(TRUTHS, PREDICTIONS), min_size=2, max_size=4))
def test_the_order_of_images_does_not_matter(pairs):
    if all((truth == 255).all() for truth, _ in pairs):
        return
    one, other = measure(pairs), measure(pairs[::-1])
    assert one["confusion_matrix"] == other["confusion_matrix"]
    for name in ("per_image_mean_iou", "boundary_f1"):
        assert one[name] == pytest.approx(other[name])


def slow_boundary_f1(truth, prediction, c, tolerance):
    def boundary(mask):
        found = []
        for y, x in np.ndindex(mask.shape):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                v, u = y + dy, x + dx
                inside_image = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
                if (
                    inside_image and truth[y, x] != 255 and truth[v, u] != 255
                    and mask[y, x] == c and mask[v, u] != c
                ):  # fmt: skip
                    found.append((y, x))
                    break
        return found

    true, predicted = boundary(truth), boundary(prediction)
    if not true and not predicted:
        return None
    if not true or not predicted:
        return 0.0
    precision = np.mean([min(math.dist(a, b) for b in true) <= tolerance for a in predicted])
    recall = np.mean([min(math.dist(a, b) for b in predicted) <= tolerance for a in true])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.slow
@given(TRUTHS, PREDICTIONS, st.sampled_from([0, 1, 1.5, 2, 3]))
def test_boundary_f1_is_equal_to_searching_pixel_by_pixel(truth, prediction, tolerance):
    scores = boundary_f1(truth, prediction, 3, tolerance)
    for c in range(3):
        expected = slow_boundary_f1(truth, prediction, c, tolerance)
        assert scores[c] == pytest.approx(math.nan if expected is None else expected, nan_ok=True)


def test_boundary_f1_forgives_a_shift_up_to_its_tolerance():
    truth = np.zeros((20, 20), int)
    truth[:, 10:] = 1
    shifted = np.roll(truth, 2, axis=1)
    shifted[:, :2] = 0
    assert boundary_f1(truth, shifted, 2, tolerance=2).tolist() == [1, 1]
    assert boundary_f1(truth, shifted, 2, tolerance=1).tolist() == [0, 0]
    result = measure([(truth, shifted)], boundary_tolerance=2)
    assert (result["boundary_f1"], result["boundary_tolerance"]) == (1, 2)
    assert result["per_class"]["road"]["boundary_f1"] is None


def test_no_boundary_anywhere_is_none_and_it_can_be_left_out():
    plain = np.zeros((3, 3), int)
    assert measure([(plain, plain)])["boundary_f1"] is None
    without = measure([(plain, plain)], boundary_tolerance=None)
    assert not any("boundary" in name for name in [*without, *without["per_class"]["sky"]])


def test_functions_take_stacks_of_matrices():
    one = confusion_matrix(TRUTH, PREDICTION, 3)
    both = np.stack([one, one * 3])
    np.testing.assert_allclose(iou(both), np.stack([iou(one)] * 2))
    np.testing.assert_allclose(dice(both)[1], dice(one))


@pytest.mark.parametrize(
    ("truth", "prediction", "named"),
    [
        (TRUTH, PREDICTION[:1], r"\(2, 4\) and the prediction \(1, 4\)"),
        (TRUTH, PREDICTION / 1.0, "prediction is float64"),
        (TRUTH, PREDICTION + 2, "from 2 to 3; expected class indices from 0 to 2."),
        (TRUTH.astype(int) - 1, PREDICTION, "truth has values from -1 to 254"),
    ],
)
def test_what_cannot_be_counted_is_refused(truth, prediction, named):
    with pytest.raises(DataError, match=named):
        SegmentationMetrics(NAMES).update(truth, prediction)


def test_a_negative_tolerance_is_refused():
    with pytest.raises(UsageError, match="boundary_tolerance is -1"):
        SegmentationMetrics(NAMES, boundary_tolerance=-1)
