"""Metrics against hand-made numbers and invariants."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from keras_transfer.errors import DataError
from keras_transfer.evaluation.metrics import classification_metrics


def test_numbers_that_were_worked_out_by_hand():
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.25, 0.75, 0.0]])
    result = classification_metrics(probabilities, labels, ["a", "b", "never"])
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert result["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.75]).mean())
    assert result["confusion_matrix"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert result["per_class"]["never"] == {"precision": None, "recall": None, "f1": None, "images": 0}
    assert result["per_class"]["b"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "images": 1,
    }
    assert "top5_accuracy" not in result


def test_top5_appears_with_more_than_five_classes():
    probabilities = np.tile([0.3, 0.25, 0.2, 0.15, 0.06, 0.04], (2, 1))
    result = classification_metrics(probabilities, np.array([4, 5]), list("abcdef"))
    assert result["top5_accuracy"] == 0.5


def test_a_certain_mistake_is_finite():
    result = classification_metrics(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"])
    assert result["log_loss"] == pytest.approx(-np.log(1e-7))


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_they_are_those_of_scikit_learn(count, images, seed):
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, count, images), rng.dirichlet(np.ones(count), images)
    predicted, occurs = probabilities.argmax(axis=1), np.unique(labels)
    result = classification_metrics(probabilities, labels, [f"c{i}" for i in range(count)])
    every = range(count)
    assert result["confusion_matrix"] == metrics.confusion_matrix(labels, predicted, labels=every).tolist()
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-12)
    recall = metrics.recall_score(labels, predicted, labels=occurs, average="macro", zero_division=0)
    assert result["balanced_accuracy"] == pytest.approx(recall, abs=1e-12)
    f1 = metrics.f1_score(labels, predicted, labels=occurs, average="macro", zero_division=0)
    assert result["macro_f1"] == pytest.approx(f1, abs=1e-12)
    loss = metrics.log_loss(labels, np.clip(probabilities, 1e-7, 1.0), labels=every)
    assert result["log_loss"] == pytest.approx(loss, rel=1e-5)
    each = metrics.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=np.nan)
    for i, row in enumerate(result["per_class"].values()):
        assert row["images"] == each[3][i]
        for name, value in zip(("precision", "recall", "f1"), (column[i] for column in each), strict=False):
            assert row[name] is None or row[name] == pytest.approx(value, abs=1e-12)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_invariants(count, images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count, images)
    probabilities = rng.dirichlet(np.ones(count), images)
    names = [f"c{i}" for i in range(count)]
    result = classification_metrics(probabilities, labels, names)
    json.dumps(result, allow_nan=False)
    matrix = np.array(result["confusion_matrix"])
    assert matrix.sum() == len(labels)
    assert result["accuracy"] == pytest.approx(np.trace(matrix) / len(labels))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert 0 <= result[name] <= 1
    order = np.argsort(names)[::-1]
    turned = classification_metrics(
        probabilities[:, order], np.argsort(order)[labels], [names[i] for i in order]
    )
    assert turned["macro_f1"] == pytest.approx(result["macro_f1"])


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        (np.empty((0, 2)), np.empty(0, int), "no images"),
        (np.ones((3, 3)) / 3, np.zeros(3, int), "shape"),
        (np.array([[np.nan, 1.0]]), np.array([1]), "finite"),
    ],
)
def test_what_cannot_be_measured_is_said(probabilities, labels, said):
    with pytest.raises(DataError, match=said):
        classification_metrics(probabilities, labels, ["a", "b"])
