"""Several labels per image: the probe, its thresholds, and the task from a CSV of real crops to an answer."""

import logging

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_transfer_tests import SMALL
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import add_head, split_head
from keras_transfer.settings import DataSettings
from keras_transfer.tasks.builtin import MULTILABEL, MultiLabelOptions
from keras_transfer.tasks.multilabel import MultiLabel
from keras_transfer.training import hidden as hidden_heads
from keras_transfer.training.multilabel_probe import (
    best_threshold,
    fit_multilabel_probe,
    refit_multilabel_probe,
)
from keras_transfer.training.standardising import standardisation
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.train import train

LABELS = ("blurred", "bright", "flower")
EVERYTHING = DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1)


def problem(count=300, dimensions=10, seed=0):
    """Features whose axes differ in scale by a factor of a thousand, and labels of different frequency."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimensions))
    scores = x @ rng.normal(size=(dimensions, 3)) + rng.normal(size=(count, 3)) + [0, 1, -2]
    return (x * np.logspace(-2, 1, dimensions)).astype("float32"), (scores > 0).astype("uint8")


def head(dimensions, labels=3, **more):
    features = keras.Input((dimensions,))
    body = keras.Model(features, keras.layers.Identity()(features))
    return add_head(body, labels, activation="sigmoid", **more)


def test_the_dense_layer_equals_the_standardised_regressions():
    x, y = problem()
    model, weight = head(x.shape[1]), np.ones(len(x))
    mean, deviation = standardisation(x.astype("float64"), weight)
    standard = (x - mean) / deviation
    refit_multilabel_probe(model, x, y, rows=np.arange(len(x)), c=0.1)
    parts = [LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(standard, y[:, i]) for i in range(3)]
    expected = [part.predict_proba(standard)[:, 1] for part in parts]
    np.testing.assert_allclose(model.predict(x, verbose=0), np.transpose(expected), atol=1e-5)


@pytest.mark.parametrize("hidden", [(), pytest.param((16,), marks=pytest.mark.nightly)])
def test_it_learns_without_touching_what_lies_below(hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 20)
    x, y = problem(2000)
    model = head(x.shape[1], hidden=hidden)
    body = [w.copy() for w in split_head(model)[0].get_weights()]
    result = fit_multilabel_probe(model, x, y, train=np.arange(1500), val=np.arange(1500, 1700))
    given = model.predict(x[1700:], verbose=0) >= result.thresholds
    assert np.mean(given == y[1700:]) > np.mean(y[:1500].mean(axis=0).round() == y[1700:]) + 0.08
    assert result.chosen_on == "validation"
    assert (result.c is None) == bool(hidden)
    assert all(np.isfinite(trial["val_loss"]) for trial in result.trials)
    for before, after in zip(body, split_head(model)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_thresholds_are_the_best_on_validation_and_the_probabilities_stay_calibrated():
    x, y = problem(600)
    model, val = head(x.shape[1]), np.arange(200, 600)
    result = fit_multilabel_probe(model, x, y, train=np.arange(200), val=val)
    probabilities = model.predict(x[val], verbose=0)
    assert abs(probabilities[:, 2].mean() - y[val, 2].mean()) < 0.06
    for i in range(3):
        tuned = f1_score(y[val, i], probabilities[:, i] >= result.thresholds[i])
        assert tuned >= max(f1_score(y[val, i], probabilities[:, i] >= t) for t in np.arange(0.05, 1, 0.05))


@pytest.mark.slow
@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_no_other_threshold_has_a_higher_f1(images, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, images)
    probabilities = rng.choice(rng.random(5), images)
    chosen = best_threshold(probabilities, truth)
    assert 0 < chosen < 1
    f1 = f1_score(truth, probabilities >= chosen, zero_division=0.0)
    for other in (*np.unique(probabilities), 0.5):
        again = f1_score(truth, probabilities >= other, zero_division=0.0)
        assert again <= f1 + 1e-9
        if again >= f1 - 1e-12 and other == 0.5:
            assert chosen == 0.5


def test_where_nothing_speaks_for_another_threshold_it_is_one_half():
    assert best_threshold(np.array([0.1, 0.9]), np.array([0, 0])) == 0.5
    assert best_threshold(np.array([0.1, 0.9]), np.array([0, 1])) == 0.5
    assert best_threshold(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 1])) == pytest.approx(0.15)


@pytest.mark.parametrize("hidden", [(), pytest.param((8,), marks=pytest.mark.nightly)])
def test_a_label_that_does_not_vary_gets_its_smoothed_share_and_a_warning(caplog, hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 12)
    x, y = problem()
    y[:200, 0], y[:200, 1] = 0, 1
    model = head(x.shape[1], hidden=hidden)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        result = fit_multilabel_probe(
            model, x, y, train=np.arange(200), val=np.arange(200, 300), names=["cat", "sky", "dog"]
        )
    assert result.constant == (0, 1)
    assert "No training image has the label 'cat'" in caplog.text
    assert "Every training image has the label 'sky'" in caplog.text
    assert "dog" not in caplog.text
    probabilities = model.predict(x, verbose=0)
    np.testing.assert_allclose(probabilities[:, 0], 1 / 202, atol=1e-5)
    np.testing.assert_allclose(probabilities[:, 1], 201 / 202, atol=1e-5)
    assert np.ptp(probabilities[:, 2]) > 0.2


@pytest.mark.slow
def test_without_validation_images_cross_validation_chooses_and_one_label_is_enough():
    x, y = problem()
    model = head(x.shape[1], 1)
    result = fit_multilabel_probe(model, x, y[:, 2:], train=np.arange(150), val=np.arange(0))
    assert result.chosen_on == "cross-validation"
    given = model.predict(x[150:], verbose=0) >= result.thresholds
    assert f1_score(y[150:, 2], given[:, 0]) > 0.5
    with pytest.raises(DataError, match="one training image and no validation"):
        fit_multilabel_probe(model, x, y[:, 2:], train=np.arange(1), val=np.arange(0))


@pytest.mark.slow
def test_an_image_without_weight_is_not_learned_from():
    x, y = problem()
    weight = np.where(np.arange(len(x)) < 100, 0.0, 1.0)
    found = []
    for train_rows, weights in ((np.arange(200), weight), (np.arange(100, 200), None)):
        model = head(x.shape[1])
        fit_multilabel_probe(
            model, x, y, train=train_rows, val=np.arange(200, 300), sample_weight=weights
        )  # fmt: skip
        found.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(*found, atol=1e-4)
    with pytest.raises(DataError, match="weight above 0"):
        fit_multilabel_probe(model, x, y, train=np.arange(90), val=np.arange(200, 300), sample_weight=weight)


@pytest.mark.parametrize("hidden", [(), pytest.param((8,), marks=pytest.mark.nightly)])
def test_the_same_call_gives_the_same_weights(hidden, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 12)  # equal is equal, however far it came
    x, y = problem()
    weights = []
    for _ in range(2):
        model = head(x.shape[1], hidden=hidden, dropout=0.2)
        fit_multilabel_probe(model, x, y, train=np.arange(200), val=np.arange(0), seed=3)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def other_labels(crops, path, labels):
    """A CSV of the same images with these labels."""
    lines = [f"{crops.parent / f'{i}.png'},{label}" for i, label in enumerate(labels)]
    path.write_text("\n".join(["path,label", *lines]) + "\n")
    return path


def test_single_classes_are_taken_only_when_asked_for(multilabel_crops, photo_folder, tmp_path):
    task = MultiLabel(MultiLabelOptions())
    assert task.load_data(multilabel_crops, EVERYTHING, 0).classes == LABELS
    single = other_labels(multilabel_crops, tmp_path / "single.csv", ["a", "b", "a", "b"])
    root = {"val_fraction": 0.0, "test_fraction": 0.0, "image_root": str(multilabel_crops.parent)}
    with pytest.raises(UsageError, match="--labels multilabel"):
        task.load_data(single, DataSettings(**root), 0)
    assert task.load_data(single, DataSettings(label_mode="multilabel", **root), 0).label_mode == "multilabel"
    with pytest.raises(UsageError, match="read as classes"):
        task.load_data(photo_folder, EVERYTHING, 0)


def test_for_a_trained_model_one_label_an_image_is_fine_and_an_unknown_one_is_named(
    multilabel_crops, tmp_path
):
    task = MultiLabel(MultiLabelOptions())
    root = DataSettings(val_fraction=0.0, test_fraction=0.0, image_root=str(multilabel_crops.parent))
    single = other_labels(multilabel_crops, tmp_path / "single.csv", ["flower", "bright", ""])
    table = task.load_data(single, root, 0, names=LABELS)
    np.testing.assert_array_equal(table.labels, [[0, 0, 1], [0, 1, 0], [0, 0, 0]])
    strange = other_labels(multilabel_crops, tmp_path / "strange.csv", ["flower", "dog;bright"])
    with pytest.raises(DataError, match=r"'dog' in line 3.*blurred, bright, flower"):
        task.load_data(strange, root, 0, names=LABELS)


def test_a_table_with_other_labels_than_the_models_is_refused(multilabel_crops):
    task = MultiLabel(MultiLabelOptions())
    table = load_data(multilabel_crops)
    outputs = np.full((len(table), 3), 0.4)
    assert task.evaluate(outputs, table)["per_class"]["flower"]["threshold"] == 0.5
    task = MultiLabel(MultiLabelOptions(), {"thresholds": {"blurred": 0.3, "bright": 0.5, "dog": 0.1}})
    with pytest.raises(DataError, match="does not know 'flower'"):
        task.evaluate(outputs, table)
    task = MultiLabel(MultiLabelOptions(), {"thresholds": dict.fromkeys(reversed(LABELS), 0.3)})
    with pytest.raises(DataError, match="flower, bright, blurred, in this order"):
        task.evaluate(outputs, table)


def test_an_answer_lists_what_reaches_its_threshold_and_the_most_probable():
    task = MultiLabel(MultiLabelOptions())
    outputs = np.array([[0.4, 0.6, 0.9], [0.1, 0.2, 0.3]], "float32")
    named = [[row["label"] for row in answer["labels"]] for answer in task.predict(outputs, LABELS, 2)]
    assert named == [["flower", "bright"], []]
    task = MultiLabel(MultiLabelOptions(), {"thresholds": dict(zip(LABELS, (0.3, 0.7, 0.25), strict=True))})
    first, second = task.predict(outputs, LABELS, 2)
    assert [row["label"] for row in first["labels"]] == ["flower", "blurred"]
    assert [row["label"] for row in first["classes"]] == ["flower", "bright"]
    assert second["labels"] == [{"label": "flower", "probability": pytest.approx(0.3)}]


@pytest.mark.slow
def test_a_run_on_real_crops_beats_the_shares_and_tells_what_it_did(multilabel_run, multilabel_crops):
    info, metrics = multilabel_run.info, multilabel_run.info["metrics"]["test"]
    assert set(MULTILABEL.metrics) <= set(metrics)
    assert info["output"] == {"kind": "probabilities", "shape": [3], "names": list(LABELS)}
    truth = np.array([[metrics["per_class"][name]["images"]] for name in LABELS]) / metrics["images"]
    assert metrics["mean_average_precision"] > truth.mean() + 0.25
    assert metrics["log_loss"] < -np.mean(truth * np.log(truth) + (1 - truth) * np.log(1 - truth))
    assert metrics["hamming_loss"] < np.minimum(truth, 1 - truth).mean()
    thresholds = info["training"]["thresholds"]
    assert list(thresholds) == list(LABELS)
    assert {name: row["threshold"] for name, row in metrics["per_class"].items()} == thresholds
    assert info["training"]["strategy"] == "probe"
    assert {path.name for path in (multilabel_run.path / "plots").iterdir()} == {
        "precision_recall.png",
        "regularisation.png",
    }
    assert (multilabel_run.path / "history.csv").read_text().startswith("C,train_loss,val_loss")


@pytest.mark.slow
def test_evaluated_again_it_uses_the_tuned_thresholds(multilabel_run, multilabel_crops):
    again, recorded = evaluate(multilabel_run.path), multilabel_run.info["metrics"]["test"]
    for name, row in recorded["per_class"].items():
        assert again["per_class"][name] == pytest.approx(row, abs=1e-5)
    for name in MULTILABEL.metrics:
        assert again[name] == pytest.approx(recorded[name], abs=1e-5)
    everything = evaluate(multilabel_run.path, multilabel_crops, split="all")
    assert everything["images"] == 48
    thresholds = multilabel_run.info["training"]["thresholds"]
    assert everything["per_class"]["bright"]["threshold"] == thresholds["bright"]


@pytest.mark.slow
def test_labels_the_model_does_not_know_are_an_error_that_names_them(
    multilabel_run, multilabel_crops, tmp_path
):
    settings = DataSettings(min_per_class=1, image_root=str(multilabel_crops.parent))
    strange = other_labels(multilabel_crops, tmp_path / "strange.csv", ["flower;dog", "bright"])
    with pytest.raises(DataError, match="'dog'"):
        evaluate(multilabel_run.path, strange, settings=settings)


@pytest.mark.slow
def test_predictions_name_every_label_over_its_threshold(multilabel_run, multilabel_crops):
    thresholds = multilabel_run.info["training"]["thresholds"]
    files = [multilabel_crops.parent / f"{i}.png" for i in range(12)]
    for answer in predict(multilabel_run.path, files, top=3):
        told = {row["label"]: row["probability"] for row in answer["classes"]}
        assert len(told) == 3
        over = {name for name, probability in told.items() if probability >= thresholds[name]}
        assert {row["label"] for row in answer["labels"]} == over


@pytest.mark.nightly
def test_a_hidden_layer_trains_too_and_so_does_the_network(multilabel_crops, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 5)
    more = {"task": "multilabel", **SMALL}
    hidden = MultiLabelOptions(hidden=(16,))
    run = train(multilabel_crops, tmp_path / "hidden", task_options=hidden, **more)
    assert run.info["training"]["probe"]["C"] is None
    assert (run.path / "plots" / "probe_curves.png").is_file()
    deeper = {
        "strategy": "finetune",
        "unfreeze": "from:block5b",
        "epochs": 2,
        "guard": False,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "monitor": "average_precision",
    }
    run = train(multilabel_crops, tmp_path / "deeper", **deeper, **more)
    notes = run.info["training"]
    assert notes["gradient"]["best_epoch"] >= 1 and notes["guard"]["metric"] == "mean_average_precision"
    assert set(notes["thresholds"]) == set(LABELS)
    assert evaluate(run)["macro_f1"] == run.info["metrics"]["test"]["macro_f1"]
    assert (run.path / "plots" / "learning_curves.png").is_file()
