import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.export.parity import TOLERANCES, breaches, compare

REFERENCE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_the_same_answers_are_in_parity():
    parity = compare(REFERENCE, REFERENCE.copy(), LABELS)
    assert (parity.agreement, parity.max_difference, parity.accuracy, parity.keras_accuracy) == (
        1,
        0,
        0.75,
        0.75,
    )
    assert all(breaches(parity, tolerance) == () for tolerance in TOLERANCES.values())


def test_differences_are_measured():
    candidate = REFERENCE.copy()
    candidate[0] = [0.4, 0.6]
    parity = compare(REFERENCE, candidate, LABELS)
    assert parity.agreement == 0.75
    assert parity.max_difference == pytest.approx(0.5)
    assert parity.mean_difference == pytest.approx(0.125)
    assert (parity.accuracy, parity.keras_accuracy) == (0.5, 0.75)


def test_float32_may_differ_by_a_ten_thousandth_and_never_in_the_class():
    tolerance = TOLERANCES["float32"]
    assert breaches(compare(REFERENCE, REFERENCE + np.float32(5e-5), LABELS), tolerance) == ()
    (reason,) = breaches(compare(REFERENCE, REFERENCE + np.float32(5e-4), LABELS), tolerance)
    assert "0.0005" in reason and "1e-04" in reason
    tie = np.array([[0.50001, 0.49999]], np.float32)
    (reason,) = breaches(compare(tie, tie[:, ::-1], np.array([0])), tolerance)
    assert "1 of 1" in reason and "100%" in reason


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
@pytest.mark.parametrize(("wrong", "passes"), [(2, True), (3, False)])
def test_reduced_precision_may_lose_one_point(precision, wrong, passes):
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (200, 1))
    candidate = reference.copy()
    candidate[:wrong] = [0.1, 0.9]
    reasons = breaches(compare(reference, candidate, np.zeros(200, int)), TOLERANCES[precision])
    assert (reasons == ()) == passes
    if not passes:
        assert "100.00% to 98.50%, by 1.50 points (3 of 200 images); at most 1 is allowed" in reasons[0]


def test_a_better_artefact_passes():
    reference = np.array([[0.6, 0.4]] * 4, np.float32)
    assert breaches(compare(reference, 1 - reference, np.ones(4, int)), TOLERANCES["int8"]) == ()


def test_numbers_that_are_not_finite_fail_every_precision():
    candidate = REFERENCE.copy()
    candidate[3, 1] = np.nan
    parity = compare(REFERENCE, candidate, LABELS)
    assert all("not finite" in breaches(parity, tolerance)[0] for tolerance in TOLERANCES.values())


@pytest.mark.parametrize(
    ("candidate", "labels"), [(REFERENCE[:3], LABELS), (REFERENCE[:, :1], LABELS), (REFERENCE, LABELS[:2])]
)
def test_shapes_that_do_not_fit_are_refused(candidate, labels):
    with pytest.raises(UsageError):
        compare(REFERENCE, candidate, labels)


def test_no_images_are_no_proof():
    with pytest.raises(UsageError, match="at least one image"):
        compare(REFERENCE[:0], REFERENCE[:0], LABELS[:0])
