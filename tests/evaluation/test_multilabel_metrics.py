"""Multi-label metrics: numbers worked out by hand, invariants, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from keras_transfer.errors import DataError
from keras_transfer.evaluation.multilabel import multilabel_metrics
from keras_transfer.evaluation.plots_tasks import precision_recall_curves

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
PROBABILITIES = np.array([[0.9, 0.1, 0.2], [0.4, 0.8, 0.1], [0.6, 0.7, 0.1], [0.2, 0.3, 0.1]])


def test_numbers_that_were_worked_out_by_hand():
    result = multilabel_metrics(PROBABILITIES, LABELS, ["a", "b", "never"])
    assert result["images"] == 4
    # "a" is ranked true, false, true, false: (1/1 + 2/3) / 2; "b" perfectly.
    assert result["per_class"]["a"]["average_precision"] == pytest.approx(5 / 6)
    assert result["mean_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    # At 0.5, "a" has one hit, one miss and one false alarm; "b" two hits.
    assert result["per_class"]["a"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "threshold": 0.5,
        "average_precision": pytest.approx(5 / 6),
        "images": 2,
    }
    assert result["macro_f1"] == pytest.approx((0.5 + 1) / 2)
    assert result["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert result["subset_accuracy"] == 0.5
    assert result["hamming_loss"] == pytest.approx(2 / 12)
    told = np.where(LABELS, PROBABILITIES, 1 - PROBABILITIES)
    assert result["log_loss"] == pytest.approx(-np.log(told).mean())
    never = {"precision": None, "recall": None, "f1": None, "threshold": 0.5}
    assert result["per_class"]["never"] == {**never, "average_precision": None, "images": 0}


def test_a_threshold_is_reached_from_itself_on_and_changes_decisions_only():
    even = multilabel_metrics(PROBABILITIES, LABELS, list("abc"))
    tuned = multilabel_metrics(PROBABILITIES, LABELS, list("abc"), [0.4, 0.75, 0.9])
    assert tuned["per_class"]["a"]["recall"] == 1.0
    assert tuned["per_class"]["b"]["recall"] == 0.5
    for name in ("mean_average_precision", "log_loss"):
        assert tuned[name] == even[name]


def test_no_label_at_all_is_not_an_error():
    result = multilabel_metrics(np.full((3, 1), 0.2), np.zeros((3, 1), int), ["a"])
    assert result["mean_average_precision"] is None and result["macro_f1"] is None
    assert result["subset_accuracy"] == 1.0 and result["micro_f1"] == 0.0
    json.dumps(result, allow_nan=False)


def test_a_certain_mistake_is_finite():
    result = multilabel_metrics(np.array([[1.0, 0.0]]), np.array([[0, 1]]), ["a", "b"])
    assert result["log_loss"] == pytest.approx(-np.log(1e-7))


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_they_are_those_of_scikit_learn(count, images, seed):
    """With probabilities that several images share, too."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (images, count))
    probabilities = rng.integers(0, 11, (images, count)) / 10
    given = probabilities >= 0.5
    result = multilabel_metrics(probabilities, labels, [f"l{i}" for i in range(count)])
    micro = metrics.f1_score(labels.ravel(), given.ravel(), zero_division=0)
    assert result["micro_f1"] == pytest.approx(micro, abs=1e-12)
    assert result["hamming_loss"] == pytest.approx(np.mean(labels != given), abs=1e-12)
    for i, row in enumerate(result["per_class"].values()):
        truth, answers = labels[:, i], given[:, i]
        if not truth.any():
            assert row["average_precision"] is None and row["f1"] is None
            continue
        average = metrics.average_precision_score(truth, probabilities[:, i])
        assert row["average_precision"] == pytest.approx(average, abs=1e-12)
        assert row["f1"] == pytest.approx(metrics.f1_score(truth, answers, zero_division=0), abs=1e-12)
        assert row["recall"] == pytest.approx(metrics.recall_score(truth, answers), abs=1e-12)
        if answers.any():
            assert row["precision"] == pytest.approx(metrics.precision_score(truth, answers), abs=1e-12)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_invariants(count, images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (images, count))
    probabilities = rng.random((images, count))
    names = [f"c{i}" for i in range(count)]
    cuts = rng.random(count)
    result = multilabel_metrics(probabilities, labels, names, cuts)
    json.dumps(result, allow_nan=False)
    assert result["subset_accuracy"] <= 1 - result["hamming_loss"] + 1e-12
    order = rng.permutation(count)
    turned = multilabel_metrics(
        probabilities[:, order], labels[:, order], [names[i] for i in order], cuts[order]
    )
    for name, value in result.items():
        if isinstance(value, float):
            assert turned[name] == pytest.approx(value)
    assert turned["per_class"] == result["per_class"]
    perfect = multilabel_metrics(labels.astype(float), labels, names)
    assert perfect["subset_accuracy"] == 1.0 and perfect["hamming_loss"] == 0.0
    if labels.any():
        assert perfect["mean_average_precision"] == perfect["macro_f1"] == perfect["micro_f1"] == 1.0


@pytest.mark.parametrize(
    ("probabilities", "labels", "cuts", "said"),
    [
        (np.empty((0, 2)), np.empty((0, 2), int), None, "no images"),
        (np.ones((3, 3)), np.zeros((3, 2), int), None, "shape"),
        (np.ones((3, 2)), np.zeros((3, 3), int), None, "shape"),
        (np.array([[np.nan, 1.0]]), np.ones((1, 2), int), None, "0 to 1"),
        (np.array([[3.0, 1.0]]), np.ones((1, 2), int), None, "0 to 1"),
        (np.ones((1, 2)), np.ones((1, 2), int), [0.5], "1 thresholds and 2 labels"),
    ],
)
def test_what_cannot_be_measured_is_said(probabilities, labels, cuts, said):
    with pytest.raises(DataError, match=said):
        multilabel_metrics(probabilities, labels, ["a", "b"], cuts)


@pytest.mark.parametrize("count", [1, 30])
def test_curves_are_drawn_for_one_label_and_for_many(tmp_path, count):
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, (40, count)), rng.random((40, count))
    labels[:, 0] = 0  # a label that never occurs has no curve
    result = multilabel_metrics(probabilities, labels, [f"label ${i}" for i in range(count)])
    precision_recall_curves(probabilities, labels, result["per_class"], tmp_path / "plots" / "curves.png")
    assert (tmp_path / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")
