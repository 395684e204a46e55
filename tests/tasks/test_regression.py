"""Numbers instead of classes: the ridge probe, units, and the task from a CSV of real crops to an answer."""

import csv

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL
from sklearn.linear_model import Ridge

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import add_head, split_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.builtin import REGRESSION, RegressionOptions
from keras_transfer.tasks.regression import Regression
from keras_transfer.training import hidden as hidden_heads
from keras_transfer.training.guard import FEW
from keras_transfer.training.regression_probe import fit_regression_probe
from keras_transfer.training.standardising import standardisation
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.train import train

EVERYTHING = DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1)


def problem(count=300, dimensions=10, seed=0):
    """Features and targets whose axes differ in scale by a factor of a thousand."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimensions))
    y = x @ rng.normal(size=(dimensions, 2)) + rng.normal(size=(count, 2))
    return (x * np.logspace(-2, 1, dimensions)).astype("float32"), (y * [0.01, 50] + [3, 1000]).astype(
        "float32"
    )


def head(dimensions, targets=2, **more):
    features = keras.Input((dimensions,))
    body = keras.Model(features, keras.layers.Identity()(features))
    return add_head(body, targets, activation="linear", **more)


@pytest.mark.parametrize("targets", [1, 2])
def test_the_dense_layer_equals_the_standardised_ridge_in_real_units(targets):
    x, y = problem()
    y = y[:, :targets]
    model, rows = head(x.shape[1], targets), np.arange(200)
    result = fit_regression_probe(model, x, y, train=rows, val=np.arange(200, 300))
    mean, deviation = standardisation(x[rows].astype("float64"), np.ones(200))
    centre, spread = y[rows].mean(axis=0, dtype="float64"), y[rows].std(axis=0, dtype="float64")
    ridge = Ridge(result.alpha).fit((x[rows] - mean) / deviation, (y[rows] - centre) / spread)
    expected = ridge.predict((x - mean) / deviation).reshape(len(x), targets) * spread + centre
    given = model.predict(x, verbose=0)
    np.testing.assert_allclose((given - centre) / spread, (expected - centre) / spread, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), pytest.param((16,), marks=pytest.mark.nightly)])
def test_it_learns_without_touching_what_lies_below(hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 20)
    x, y = problem(2000)
    model = head(x.shape[1], hidden=hidden)
    body = [w.copy() for w in split_head(model)[0].get_weights()]
    result = fit_regression_probe(model, x, y, train=np.arange(1500), val=np.arange(1500, 1700))
    errors = np.mean((model.predict(x[1700:], verbose=0) - y[1700:]) ** 2, axis=0)
    assert (errors < 0.5 * y[1700:].var(axis=0)).all()
    assert result.chosen_on == "validation"
    assert (result.alpha is None) == bool(hidden)
    for before, after in zip(body, split_head(model)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_other_units_give_the_same_model_in_those_units():
    x, y = problem()
    first, second = head(x.shape[1]), head(x.shape[1])
    rows = {"train": np.arange(200), "val": np.arange(200, 300)}
    fit_regression_probe(first, x, y, **rows)
    fit_regression_probe(second, x, y * 1000 - 7, **rows)
    expected = first.predict(x, verbose=0) * 1000 - 7
    np.testing.assert_allclose(second.predict(x, verbose=0) / expected, 1, atol=1e-3)


def test_noise_is_answered_with_strong_regularisation_and_signal_with_weak():
    rng = np.random.default_rng(0)
    x, y = problem(200)
    noise = rng.normal(size=(200, 60)).astype("float32")
    rows = {"train": np.arange(100), "val": np.arange(100, 200)}
    for_noise = fit_regression_probe(head(60), noise, y, **rows)
    for_signal = fit_regression_probe(head(x.shape[1]), x, y, **rows)
    assert for_noise.alpha > for_signal.alpha
    assert min(trial["val_loss"] for trial in for_signal.trials) < 0.5


def test_a_target_that_never_varies_is_refused_by_name():
    x, y = problem()
    y[:200, 1] = 7
    with pytest.raises(DataError, match="the same width, 7"):
        fit_regression_probe(
            head(x.shape[1]), x, y, train=np.arange(200), val=np.arange(200, 300), names=["height", "width"]
        )
    y[0, 1] = 8  # varies, but only in an image that does not count
    weight = np.ones(len(x))
    weight[0] = 0
    with pytest.raises(DataError, match="target_1"):
        fit_regression_probe(
            head(x.shape[1]), x, y, train=np.arange(200), val=np.arange(200, 300), sample_weight=weight
        )


@pytest.mark.parametrize("hidden", [(), pytest.param((8,), marks=pytest.mark.nightly)])
def test_the_same_call_gives_the_same_weights_and_cross_validation_replaces_validation(hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 12)  # equal is equal, however far it came
    x, y = problem()
    weights = []
    for _ in range(2):
        model = head(x.shape[1], hidden=hidden, dropout=0.2)
        result = fit_regression_probe(model, x, y, train=np.arange(200), val=np.arange(0), seed=3)
        weights.append(model.get_weights())
    assert result.chosen_on == ("training loss" if hidden else "cross-validation")
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def other_labels(crops, path, labels):
    """A CSV of the same images with these labels."""
    lines = [f"{crops / f'{i}.png'},{label}" for i, label in enumerate(labels)]
    path.write_text("\n".join(["path,label", *lines]) + "\n")
    return DataSettings(val_fraction=0.0, test_fraction=0.0, image_root=str(crops))


def test_whole_numbers_are_numbers_here(regression_crops, tmp_path):
    task = Regression(RegressionOptions())
    settings = other_labels(regression_crops, tmp_path / "a.csv", [3, 5, 8])
    table = task.load_data(tmp_path / "a.csv", settings, 0)
    assert table.label_mode == "regression"
    np.testing.assert_array_equal(table.labels, [[3], [5], [8]])
    assert task.output_contract((1,), table).names == ("target",)
    both = task.output_contract((2,), task.load_data(regression_crops / "both.csv", EVERYTHING, 0))
    assert (both.kind, both.shape, both.names) == ("values", (2,), ("target_0", "target_1"))


@pytest.mark.parametrize("labels", [["3.5", "cat", "1"], ["cat", "dog", "cat"]])
def test_a_label_that_is_no_number_is_said_with_its_line(regression_crops, tmp_path, labels):
    asked = other_labels(regression_crops, tmp_path / "a.csv", labels)
    with pytest.raises(DataError, match=r"'cat' in line [23] of .* is not a number"):
        Regression(RegressionOptions()).load_data(tmp_path / "a.csv", asked, 0)


def test_what_cannot_be_numbers_is_refused(regression_crops, photo_folder):
    task = Regression(RegressionOptions())
    with pytest.raises(UsageError, match="a folder's labels are classes"):
        task.load_data(photo_folder, EVERYTHING, 0)
    asked = DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1, label_mode="classes")
    with pytest.raises(UsageError, match="read as classes"):
        task.load_data(regression_crops / "brightness.csv", asked, 0)


def test_a_trained_model_wants_as_many_numbers_as_it_gives(regression_crops):
    task = Regression(RegressionOptions())
    assert len(task.load_data(regression_crops / "brightness.csv", EVERYTHING, 0, names=("target",))) == 340
    with pytest.raises(DataError, match="2 numbers per image, and the model gives 1"):
        task.load_data(regression_crops / "both.csv", EVERYTHING, 0, names=("target",))


def test_an_answer_is_the_numbers_by_name():
    answers = Regression(RegressionOptions()).predict(np.array([[1.5, 2.0]]), ("a", "b"), top=1)
    assert answers == [{"values": {"a": 1.5, "b": 2.0}}]


@pytest.mark.nightly
def test_a_run_on_real_features_beats_the_mean_and_tells_what_it_did(regression_crops, tmp_path):
    data = regression_crops / "both.csv"
    run = train(data, tmp_path / "run", task="regression", image_size=96, engine="keras", test_fraction=0.3)
    info, metrics = run.info, run.info["metrics"]["test"]
    assert set(REGRESSION.metrics) <= set(metrics)
    assert info["output"] == {"kind": "values", "shape": [2], "names": ["target_0", "target_1"]}
    table = load_data(data, split_from=run.path)
    learned, measured = (table.labels[table.indices(split)] for split in ("train", "test"))
    for i, row in enumerate(metrics["per_target"].values()):
        assert row["mae"] < 0.75 * np.abs(measured[:, i] - learned[:, i].mean()).mean()
        assert row["r2"] > 0.4
    assert info["training"]["probe"]["alpha"] > 0
    assert {path.name for path in (run.path / "plots").iterdir()} == {
        "predicted_against_true.png",
        "regularisation.png",
    }
    assert (run.path / "history.csv").read_text().startswith("alpha,train_loss,val_loss")


@pytest.mark.slow
def test_evaluated_again_it_gives_the_recorded_metrics_and_answers_in_real_units(
    regression_run, regression_crops
):
    again, recorded = evaluate(regression_run.path), regression_run.info["metrics"]["test"]
    for name in REGRESSION.metrics:
        assert again[name] == pytest.approx(recorded[name], abs=1e-3)
    everything = evaluate(regression_run.path, regression_crops / "both.csv", split="all")
    assert everything["images"] == 340 and everything["r2"] > 0.5
    answers = list(predict(regression_run.path, [regression_crops / f"{i}.png" for i in range(340)]))
    table = load_data(regression_crops / "both.csv")
    said = np.array([list(answer["values"].values()) for answer in answers])
    assert np.corrcoef(said[:, 0], table.labels[:, 0])[0, 1] > 0.8
    assert abs(said[:, 0].mean() - table.labels[:, 0].mean()) < 10
    with pytest.raises(DataError, match="the model gives 2"):
        evaluate(regression_run.path, regression_crops / "brightness.csv")


@pytest.mark.nightly
def test_a_hidden_layer_trains_too_and_so_does_the_network(regression_crops, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 5)
    more = {"task": "regression", **SMALL}
    data = regression_crops / "brightness.csv"
    run = train(data, tmp_path / "hidden", task_options=RegressionOptions(hidden=(16,)), **more)
    assert run.info["training"]["probe"]["alpha"] is None
    assert (run.path / "plots" / "probe_curves.png").is_file()
    deeper = {"strategy": "finetune", "unfreeze": "from:block5b", "epochs": 2, "batch_size": 8}
    run = train(data, tmp_path / "deeper", **deeper, **more)
    guard = run.info["training"]["guard"]
    assert guard["images"] >= FEW and guard["metric"] == "mae"
    assert guard["kept"] == ("fine-tuned" if guard["tuned"] < guard["probe"] else "probe")
    losses = [row["val_loss"] for row in _history(run)]
    assert len(losses) == 3 and min(losses) < 2, "in units of the target's spread"


def _history(run):
    with (run.path / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
