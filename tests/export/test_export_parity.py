from dataclasses import dataclass, replace

import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.export.parity import AGREES, Judge, Parity, doubts, measure_parity, tolerance_for
from keras_transfer.export.parity import breaches as judged_breaches
from keras_transfer.records import Tolerance
from keras_transfer.records.layout import TFLITE
from keras_transfer.wording import score

REFERENCE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
LABELS = np.array([0, 1, 1, 1])


@dataclass
class Images:
    """What the judge asks of a table."""

    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, rows):
        return Images(self.labels[rows])


JUDGE = Judge(
    ("a", "b"),
    measure=lambda answers, table: {"accuracy": float(np.mean(answers.argmax(axis=1) == table.labels))},
)
TOLERANCES = {precision: tolerance_for(precision, JUDGE, REFERENCE) for precision in TFLITE}


def compare(reference, candidate, labels):
    return measure_parity(reference, candidate, JUDGE, Images(labels))


def breaches(parity, tolerance):
    return judged_breaches(parity, tolerance, JUDGE)


def test_the_same_answers_are_in_parity():
    parity = compare(REFERENCE, REFERENCE.copy(), LABELS)
    assert (parity.agreement, parity.max_difference, parity.score, parity.keras_score) == (
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
    assert (parity.score, parity.keras_score) == (0.5, 0.75)


def test_float32_may_differ_by_a_ten_thousandth_and_never_in_the_class():
    tolerance = TOLERANCES["float32"]
    assert breaches(compare(REFERENCE, REFERENCE + np.float32(5e-5), LABELS), tolerance) == ()
    (reason,) = breaches(compare(REFERENCE, REFERENCE + np.float32(5e-4), LABELS), tolerance)
    assert "0.0005" in reason and "1e-04" in reason
    tie = np.array([[0.50001, 0.49999]], np.float32)
    (reason,) = breaches(compare(tie, tie[:, ::-1], np.array([0])), tolerance)
    assert "1 of 1" in reason and "100%" in reason


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
@pytest.mark.parametrize(
    ("images", "wrong", "verdict"),
    [
        (200, 2, "passes"),
        (200, 3, "cannot be told"),
        (200, 6, "cannot be told"),
        (200, 7, "fails"),
        (57, 1, "cannot be told"),
        (57, 5, "fails"),
        (2000, 20, "passes"),
        (2000, 32, "fails"),
    ],
)
def test_reduced_precision_may_lose_one_point_and_what_the_images_cannot_tell(
    precision, images, wrong, verdict
):
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (images, 1))
    candidate = reference.copy()
    candidate[:wrong] = [0.1, 0.9]
    parity = compare(reference, candidate, np.zeros(images, int))
    reasons, told = breaches(parity, TOLERANCES[precision]), doubts(parity, TOLERANCES[precision], JUDGE)
    assert (bool(reasons), bool(told)) == (verdict == "fails", verdict == "cannot be told")
    if (images, wrong) == (200, 7):
        assert "100.00% to 96.50%, by 3.50 points (7 of 200 images); at most 1 is allowed" in reasons[0]
    if (images, wrong) == (57, 1):
        assert told[0].startswith("Accuracy is worse by 1.75 points on 57 images, and 1 is allowed")
        assert told[0].endswith("about 1600 could.")


def test_what_is_lost_and_won_is_counted_image_by_image():
    """40 of 400 other answers, 22 worse and 18 better: one point, and no proof of one."""
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (400, 1))
    labels = np.zeros(400, int)
    labels[22:40] = 1
    candidate = reference.copy()
    candidate[:40] = [0.1, 0.9]
    parity = compare(reference, candidate, labels)
    assert parity.loss == pytest.approx(0.01) and -0.02 < parity.loss_low < 0
    assert breaches(parity, TOLERANCES["int8"]) == ()


def test_a_poor_model_that_answers_otherwise_is_refused():
    """Half of the answers change, and as many are right as before."""
    rng = np.random.default_rng(0)
    reference = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 400)]
    candidate = reference.copy()
    candidate[:200] = np.roll(candidate[:200], 1, axis=1)
    labels = rng.integers(0, 10, 400)
    parity = compare(reference, candidate, labels)
    parity_of_a_few = compare(reference[195:201], candidate[195:201], labels[195:201])
    assert parity.loss < 0.05 and TOLERANCES["int8"].agreement == AGREES
    assert any(
        f"agrees on 50.00% of the images (200 of 400 differ); {100 * AGREES:g}% is required" in reason
        for reason in breaches(parity, TOLERANCES["int8"])
    )
    assert any("is required" in reason for reason in breaches(parity_of_a_few, TOLERANCES["int8"]))


def test_a_better_artefact_passes():
    reference = np.array([[0.6, 0.4]] * 40, np.float32)
    candidate = reference.copy()
    candidate[:3] = candidate[:3, ::-1]
    parity = compare(reference, candidate, np.array([1] * 3 + [0] * 37))
    assert parity.loss < 0 and parity.loss_low is None
    assert breaches(parity, TOLERANCES["int8"]) == doubts(parity, TOLERANCES["int8"], JUDGE) == ()


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


AGE = Judge(
    ("age",),
    task="regression",
    kind="values",
    metric="mae",
    higher=False,
    drop=0.05,
    others=("rmse",),
    measure=lambda answers, truth: {
        "mae": float(np.abs(answers[:, 0] - truth).mean()),
        "rmse": float(np.sqrt(((answers[:, 0] - truth) ** 2).mean())),
    },
    decide=lambda outputs: None,
)
AGES = np.tile(np.array([[20.0], [30.0], [40.0], [50.0]], np.float32), (10, 1))
TRUE_AGES = np.tile(np.array([22.0, 30.0, 40.0, 48.0]), 10)


def test_numbers_are_compared_on_their_own_scale_and_decide_nothing():
    tolerance = tolerance_for("float32", AGE, AGES)
    assert tolerance == Tolerance(max_difference=pytest.approx(50e-4))
    near, far = (measure_parity(AGES, AGES + np.float32(off), AGE, TRUE_AGES) for off in (0.004, 0.02))
    assert near.agreement is None and judged_breaches(near, tolerance, AGE) == ()
    (reason,) = judged_breaches(far, tolerance, AGE)
    assert reason.startswith("A number differs by 0.02")


def test_less_is_better_where_the_judge_says_so():
    tolerance = tolerance_for("int8", AGE, AGES)
    parity = measure_parity(AGES, AGES + np.float32(1), AGE, TRUE_AGES)
    assert (parity.keras_score, parity.score) == (1.0, 1.5) and parity.metrics == {
        "rmse": pytest.approx(3**0.5)
    }
    (reason,) = judged_breaches(parity, tolerance, AGE)
    assert reason == "Mae rises from 1 to 1.5; at most 5% more is allowed."
    for keras, same in ((-2.0, -2.0), (0.0, 0.0)):  # of a negative score, and of none
        worth = Parity(4, None, 0.0, 0.0, same, keras, True)
        assert judged_breaches(worth, tolerance, AGE) == ()
    (reason,) = judged_breaches(Parity(4, None, 0.0, 0.0, -1.0, -2.0, True), tolerance, AGE)
    assert "rises from -2 to -1" in reason
    (reason,) = judged_breaches(Parity(4, None, 0.0, 0.0, None, None, True), tolerance, AGE)
    assert reason == "Mae cannot be measured on these images, so nothing is proven."
    few = measure_parity(AGES[:4], AGES[:4] + np.float32(1), AGE, TRUE_AGES[:4])
    assert judged_breaches(few, tolerance, AGE) == ()
    (doubt,) = doubts(few, tolerance, AGE)
    assert doubt.startswith("Mae is worse by 50.00 % on 4 images, and 5 is allowed")
    better = measure_parity(AGES + np.float32(1), AGES, AGE, TRUE_AGES)
    assert judged_breaches(better, tolerance, AGE) == ()


@pytest.mark.parametrize(
    ("metric", "breach", "doubt"),
    [
        (
            "kappa",
            "Kappa falls from 0.8 to 0.6, by 0.2; at most 0.01 is allowed (the task 'grading' says so: TaskSpec.drop).",
            "Kappa is worse by 0.2 on 50 images, and 0.01 is allowed",
        ),
        (
            "one_shot_accuracy",
            "One shot accuracy falls from 80.00% to 60.00%, by 20.00 points; at most 1 is allowed",
            "One shot accuracy is worse by 20.00 points on 50 images, and 1 is allowed",
        ),
    ],
)
def test_only_an_accuracy_is_told_in_percent(metric, breach, doubt):
    """A kappa of 0.8 is not 80 % of anything."""
    judge = Judge(("low", "high"), task="grading", metric=metric)
    lost = Parity(50, 1.0, 0.0, 0.0, 0.6, 0.8, True, loss=0.2, loss_low=0.15)
    (reason,) = judged_breaches(lost, Tolerance(drop=0.01), judge)
    assert reason.startswith(breach)
    maybe = replace(lost, loss_low=0.005)
    assert judged_breaches(maybe, Tolerance(drop=0.01), judge) == ()
    (told,) = doubts(maybe, Tolerance(drop=0.01), judge)
    assert told.startswith(doubt)


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("accuracy", 0.8537, "85.4 %"),
        ("one_shot_accuracy", 0.5, "50.0 %"),
        ("kappa", 0.4321, "0.4321"),
        ("mean_iou", 0.7, "0.7"),
        ("r2", -0.25, "-0.25"),
        ("accuracy", None, "-"),
        ("kappa", None, "-"),
    ],
)
def test_a_metric_as_people_read_it(metric, value, shown):
    assert score(metric, value) == shown


def test_of_many_decisions_an_image_a_thousandth_may_differ():
    pixels = Judge(
        ("sky", "sea"),
        task="segmentation",
        shape=(40, 50, 2),
        metric="mean_iou",
        measure=lambda answers, truth: {"mean_iou": 0.5},
        decide=lambda outputs: outputs.argmax(axis=-1),
    )
    reference = np.tile(np.array([0.51, 0.49], np.float32), (1, 40, 50, 1))
    candidate = reference.copy()
    candidate[0, 0, :2] = candidate[0, 0, :2, ::-1]
    tolerance = tolerance_for("float32", pixels, reference)
    assert tolerance.agreement == 0.999
    kept = Tolerance(agreement=0.999)
    assert judged_breaches(measure_parity(reference, candidate, pixels, [0]), kept, pixels) == ()
    candidate[0, 1, 0] = candidate[0, 1, 0, ::-1]
    (reason,) = judged_breaches(measure_parity(reference, candidate, pixels, [0]), kept, pixels)
    assert reason == "Its decision agrees on 99.85%; 99.9% is required."


def test_images_may_differ_by_one_level_of_255():
    images = Judge(("grey",), kind="images", shape=(2, 2, 1), decide=lambda outputs: None)
    reference = np.full((1, 2, 2, 1), 9, np.float32)  # dark: the scale is 255 all the same
    tolerance = tolerance_for("float32", images, reference)
    assert tolerance.agreement is None
    assert 1 < tolerance.max_difference < 1.1


def test_embeddings_are_compared_by_their_direction():
    judge = Judge(
        ("d0", "d1"), kind="embeddings", measure=lambda *_: {"accuracy": 1.0}, decide=lambda _: None
    )
    reference = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    assert measure_parity(reference, 3 * reference, judge, LABELS[:2]).metrics["cosine"] == pytest.approx(1)
    turned = np.array([[0.0, 1.0], [0.0, 2.0]], np.float32)
    assert measure_parity(reference, turned, judge, LABELS[:2]).metrics["cosine"] == pytest.approx(0.5)
    assert "cosine" not in measure_parity(REFERENCE, REFERENCE, JUDGE, Images(LABELS)).metrics


@pytest.mark.parametrize("size", [57, 164, 400])
def test_a_sound_file_is_seldom_refused_and_a_broken_one_never_passes_in_silence(size):
    """200 small test sets of 2,000 answers: 1 % of the decisions differ, half of them for the better; or 10 points are
    lost.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    right = rng.random(2000) < 0.85
    reference = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    sound, broken = reference.copy(), reference.copy()
    for rows in (rng.choice(np.flatnonzero(right), 10), rng.choice(np.flatnonzero(~right), 10)):
        sound[rows] = sound[rows, ::-1]
    rows = rng.choice(np.flatnonzero(right), 200, replace=False)
    broken[rows] = broken[rows, ::-1]
    refused, silent = [], []
    for draw in range(200):
        some = np.random.default_rng((draw, size)).choice(2000, size, replace=False)
        for candidate, noted in ((sound, refused), (broken, silent)):
            parity = compare(reference[some], candidate[some], labels[some])
            reasons = breaches(parity, TOLERANCES["int8"])
            said = doubts(parity, TOLERANCES["int8"], JUDGE)
            noted.append(bool(reasons) if candidate is sound else not reasons and not said)
    assert np.mean(refused) < 0.05
    assert np.mean(silent) == 0 if size > 57 else np.mean(silent) < 0.02
