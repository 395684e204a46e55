"""What a task of a plugin gives back is checked where it is given: a wrong value is a sentence to its author."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL

from keras_transfer.errors import PluginError
from keras_transfer.tasks import loading
from keras_transfer.tasks.base import NOTHING, Fitted, OutputContract
from keras_transfer.tasks.classification import Classification
from keras_transfer.tasks.returned import checked_metrics, checked_notes, plain
from keras_transfer.workflow.train import train


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, r"evaluate gave None; a dictionary of metrics is expected"),
        ([0.5], r"evaluate gave a list \(\[0.5\]\)"),
        ({"kappa": 0.2}, r"promised the metrics score and evaluate gave none; it gave kappa"),
        ({}, "it gave nothing"),
        ({"score": "good"}, r"score = a str \('good'\); a finite number is expected"),
        ({"score": np.nan}, "a finite number is expected"),
        ({"score": 0.5, "more": object()}, r"evaluate holds 'more', which JSON cannot hold"),
    ],
)
def test_metrics_that_cannot_be_told(given, words):
    with pytest.raises(PluginError, match=rf"The task 'novelty'.*{words}"):
        checked_metrics("The task 'novelty'", given, {"score": "higher"})


def test_numbers_of_numpy_are_numbers():
    given = {"score": np.float32(0.5), "by_class": {"a": np.arange(2)}, "none": None, "images": np.int64(3)}
    found = checked_metrics("The task 'novelty'", given, {"score": "higher", "none": "lower"})
    assert json.loads(json.dumps(found)) == {
        "score": 0.5,
        "by_class": {"a": [0, 1]},
        "none": None,
        "images": 3,
    }
    assert checked_notes(
        "The task 'novelty'", {"threshold": np.float64(0.25), "pair": (1, np.bool_(True))}
    ) == {
        "threshold": 0.25,
        "pair": [1, True],
    }
    assert plain("text") == "text"


def test_a_note_that_no_file_can_hold_is_named():
    with pytest.raises(PluginError, match=r"fit's notes holds 'model', which JSON cannot hold"):
        checked_notes("The task 'novelty'", {"fine": 1, "model": object()})


class _Wrong(Classification):
    """A classifier whose author made one mistake."""

    mistake = ""

    def __init__(self, options, notes=NOTHING, run_path=None):
        super().__init__(options, notes, run_path)
        if notes and self.mistake == "unreadable notes":
            notes["what it never noted"]

    def load_data(self, *arguments, **more):
        table = super().load_data(*arguments, **more)
        return (table, 1) if self.mistake == "a tuple of data" else table

    def build(self, data, context):
        model = super().build(data, context)
        return [model] if self.mistake == "a list of models" else model

    def fit(self, model, data, context):
        fitted = super().fit(model, data, context)
        if self.mistake == "a trained backbone":
            layer = next(layer for layer in context.backbone.layers if layer.weights)
            layer.set_weights([weight + 0.01 for weight in layer.get_weights()])
        wrong = {
            "nothing fitted": None,
            "nothing to ship": Fitted(None),
            "an odd note": Fitted(model, {"seen": {1, 2}}),
            "odd rows": Fitted(model, {}, [("loss", 0.5)]),
        }
        return wrong.get(self.mistake, fitted)

    def output_contract(self, shape, data):
        if self.mistake == "no contract":
            return None
        if self.mistake == "another shape":
            return OutputContract("probabilities", (3,), ("a", "b", "c"))
        return super().output_contract(shape, data)

    def evaluate(self, outputs, data):
        return None if self.mistake == "no metrics" else super().evaluate(outputs, data)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        pytest.param(
            "a tuple of data",
            r"load_data gave a tuple .*; an ImageTable is expected",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "a list of models", r"build gave a list .*; a Keras model is expected", marks=pytest.mark.slow
        ),
        pytest.param(
            "no contract",
            r"output_contract gave None; an OutputContract is expected",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "another shape",
            r"output_contract says 3 names and the shape \(3,\); the model gives \(2,\)",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "a trained backbone", "changed the backbone under --strategy probe", marks=pytest.mark.slow
        ),
        pytest.param(
            "unreadable notes",
            r"cannot be made with what its fit noted \(KeyError\('what it never noted'\)\)",
            marks=pytest.mark.slow,
        ),
        pytest.param("nothing fitted", r"fit gave None; a Fitted is expected", marks=pytest.mark.slow),
        pytest.param(
            "nothing to ship", r"fit's model gave None; a Keras model is expected", marks=pytest.mark.nightly
        ),
        pytest.param(
            "odd rows",
            r"fit's history gave a tuple .*; one dictionary per epoch is expected",
            marks=pytest.mark.nightly,
        ),
        pytest.param("no metrics", "evaluate gave None", marks=pytest.mark.nightly),
        pytest.param(
            "an odd note", "fit's notes holds 'seen', which JSON cannot hold", marks=pytest.mark.slow
        ),
    ],
)
def test_a_training_says_what_its_task_did_wrong(photo_folder, tmp_path, monkeypatch, mistake, words):
    monkeypatch.setattr(_Wrong, "mistake", mistake)
    monkeypatch.setattr(loading, "import_object", lambda factory: _Wrong)
    with pytest.raises(PluginError, match=rf"The task 'classification' of keras-transfer .*{words}"):
        train(photo_folder, tmp_path / "run", strategy="probe", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_right_values_train(photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "import_object", lambda factory: _Wrong)
    run = train(photo_folder, tmp_path / "run", strategy="probe", **SMALL)
    assert isinstance(run.load_model(), keras.Model)
