"""Regression metrics: numbers worked out by hand, invariants, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_transfer.errors import DataError
from keras_transfer.evaluation.plots_tasks import loss_curves, predicted_against_true
from keras_transfer.evaluation.regression import regression_metrics


def test_numbers_that_were_worked_out_by_hand():
    targets = np.array([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0]])
    values = np.array([[1.0, 10.0], [2.0, 20.0], [2.0, 40.0]])
    result = regression_metrics(values, targets, ["a", "b"])
    first, second = result["per_target"]["a"], result["per_target"]["b"]
    assert first == {
        "mae": pytest.approx(1.0),
        "rmse": pytest.approx(np.sqrt(5 / 3)),
        "r2": pytest.approx(1 - 5 / 8),
    }
    assert second["mae"] == pytest.approx(10 / 3) and second["r2"] == pytest.approx(1 - 100 / 600)
    assert result["images"] == 3
    for name in ("mae", "rmse", "r2"):
        assert result[name] == pytest.approx((first[name] + second[name]) / 2)


def test_r2_is_unknown_where_nothing_varies():
    for targets in (np.array([[3.0]]), np.array([[3.0], [3.0]])):
        result = regression_metrics(targets + 1, targets, ["a"])
        assert result["r2"] is None and result["mae"] == 1.0
        json.dumps(result, allow_nan=False)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 2**32 - 1), st.floats(0.01, 1000))
def test_invariants(count, images, seed, unit):
    rng = np.random.default_rng(seed)
    targets, values = rng.normal(size=(2, images, count))
    names = [f"t{i}" for i in range(count)]
    result = regression_metrics(values, targets, names)
    json.dumps(result, allow_nan=False)
    for row in result["per_target"].values():
        assert 0 <= row["mae"] <= row["rmse"] + 1e-12
        assert row["r2"] <= 1
    in_other_units = regression_metrics(unit * values + 5, unit * targets + 5, names)
    assert in_other_units["rmse"] == pytest.approx(unit * result["rmse"], rel=1e-6)
    assert in_other_units["r2"] == pytest.approx(result["r2"], rel=1e-6, abs=1e-6)
    mean = np.broadcast_to(targets.mean(axis=0), targets.shape)
    assert regression_metrics(mean, targets, names)["r2"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "targets", "said"),
    [
        (np.empty((0, 1)), np.empty((0, 1)), "no images"),
        (np.ones((3, 2)), np.ones((3, 1)), "shape"),
        (np.ones((3, 1)), np.ones((3, 2)), "shape"),
        (np.array([[np.inf]]), np.ones((1, 1)), "finite"),
    ],
)
def test_what_cannot_be_measured_is_said(values, targets, said):
    with pytest.raises(DataError, match=said):
        regression_metrics(values, targets, ["a"])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_panel_is_drawn_for_each_target(tmp_path, count):
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(2, 20, count))
    result = regression_metrics(values, targets, [f"t{i}" for i in range(count)])
    predicted_against_true(values, targets, result["per_target"], tmp_path / "plots" / "a.png")
    assert (tmp_path / "plots" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("over", "chosen"), [("alpha", 0.1), ("epoch", None)])
def test_losses_are_drawn_over_strengths_and_over_epochs(tmp_path, over, chosen):
    trials = [{over: 10.0**-i, "train_loss": 1 / (i + 1), "val_loss": 1 / (i + 2)} for i in range(3)]
    loss_curves(trials, over, tmp_path / "curves.png", loss="squared error", chosen=chosen)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
