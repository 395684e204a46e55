"""``train --deploy int8``: the head is fitted on what the phone computes, and the phone gets that very backbone."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_transfer.data import batches, load_data
from keras_transfer.errors import RunError, UsageError
from keras_transfer.heads import split_head
from keras_transfer.litert import LiteRTModel
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.run import BACKBONE, INFO, open_run
from keras_transfer.testing.command import call
from keras_transfer.training import embedding_problem
from keras_transfer.training.probe import fit_probe
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.replay import replay
from keras_transfer.workflow.train import train

pytestmark = pytest.mark.slow
SIZE = 64
TINY = {"backbone": "tiny", "image_size": SIZE}
OPTIONS = ("--backbone", "tiny", "--image-size", SIZE, "--deploy", "int8", "--quiet")


def images(table, split):
    return np.concatenate(list(batches(table, Preprocessing((SIZE, SIZE)), indices=table.indices(split))))


def softmax(scores):
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def run(shared, photo_folder):
    made = shared(
        "deployed_run", lambda to: train(photo_folder, to / "run", deploy="int8", refit=False, **TINY)
    )
    return open_run(made / "run")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("deployed") / "edge"
    export_run(run, to, formats=("tflite",), precisions=("float32", "int8"))
    return to


@pytest.fixture(scope="module")
def table(run, photo_folder):
    return load_data(photo_folder, split_from=str(run.path))


def test_the_head_is_the_probe_of_the_int8_features(run, table):
    features = LiteRTModel(run.path / BACKBONE).predict(
        np.concatenate([images(table, split) for split in ("train", "val")])
    )
    labels = np.concatenate([table.labels[table.indices(split)] for split in ("train", "val")])
    learned = len(table.indices("train"))
    model, again = run.load_model(), run.load_model()
    again.get_layer("logits").set_weights([np.zeros_like(w) for w in again.get_layer("logits").get_weights()])
    train_rows, val_rows = np.arange(learned), np.arange(learned, len(labels))
    fit_probe(again, features, labels, train=train_rows, val=val_rows, seed=0)
    for fitted, found in zip(
        again.get_layer("logits").get_weights(), model.get_layer("logits").get_weights(), strict=True
    ):
        assert np.array_equal(fitted, found)
    exact = np.asarray(split_head(model)[0](images(table, "test").astype(np.float32), training=False))
    rounded = LiteRTModel(run.path / BACKBONE).predict(images(table, "test"))
    assert 0 < np.abs(exact - rounded).max() < 0.5 * np.abs(exact).max()  # int8's features, and no others


def test_the_phone_computes_what_the_head_was_fitted_on(run, bundle, table):
    pixels = images(table, "test")
    kernel, bias = run.load_model().get_layer("logits").get_weights()
    features = LiteRTModel(run.path / BACKBONE).predict(pixels)
    answers = LiteRTModel(bundle / "model_int8.tflite").predict(pixels)
    assert np.abs(answers - softmax(features @ kernel + bias)).max() < 1e-5


def test_the_bundle_tells_it(bundle):
    assert json.loads((bundle / "bundle.json").read_text())["training"]["head_fitted_on"] == "int8 backbone"


@pytest.mark.nightly
def test_the_run_can_be_repeated_to_the_bit(run):
    assert replay(run)["identical"]


@pytest.mark.nightly
def test_another_head_goes_to_the_phone_the_same_way(photo_folder, table, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_problem, "ENOUGH", 1)  # the few validation images choose
    output, to = tmp_path / "run", tmp_path / "edge"
    call("train", photo_folder, "-o", output, *OPTIONS, "--head", "prototype")
    # Its 8 test images are too few for the usual proof: one that int8 turns is 12 points.
    call("export", output, "--to", to, "--format", "tflite", "--quantize", "int8", "--allow-parity-failure")
    run, pixels = open_run(output), images(table, "test")
    model = run.load_model()
    features = LiteRTModel(run.path / BACKBONE).predict(pixels)
    head = keras.Model(model.get_layer(run.info["training"]["deploy"]["layer"]).output, model.output)
    answers = LiteRTModel(to / "model_int8.tflite").predict(pixels)
    assert np.ptp(answers, axis=0).max() > 0.1  # it tells images apart
    assert np.abs(answers - np.asarray(head(features))).max() < 1e-5


@pytest.mark.nightly
@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_real_backbone_is_as_accurate_on_the_phone(photo_folder, tmp_path, head):
    output, to = tmp_path / "run", tmp_path / "edge"
    asked = ("train", photo_folder, "-o", output, "--image-size", "96", "--quiet")
    call(*asked, "--deploy", "int8", "--head", head)
    shown, _ = call("export", output, "--to", to, "--format", "tflite", "--quantize", "int8", "--json")
    (artefact,) = json.loads(shown)["artefacts"]
    assert artefact["accuracy"] >= 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"all_integer": True}, "would make another"),
        ({"keep_float": 2}, "would make another"),
        ({"calibration_size": 12}, "calibrated on 100 images"),
    ],
)
def test_what_would_make_another_backbone_is_refused(run, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        export_run(run, tmp_path / "edge", formats=("tflite",), precisions=("int8",), **options)
    assert not (tmp_path / "edge").exists()


def test_a_changed_or_missing_backbone_is_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    content = bytearray((copy / BACKBONE).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / BACKBONE).write_bytes(content)
    with pytest.raises(RunError, match="not the backbone"):
        export_run(copy, tmp_path / "edge", formats=("tflite",), precisions=("int8",))
    (copy / BACKBONE).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        export_run(copy, tmp_path / "edge", formats=("tflite",), precisions=("float32", "int8"))
    assert not (tmp_path / "edge").exists()
    assert export_run(copy, tmp_path / "edge", formats=("tflite",)).passed  # float32 has no need of it
    assert (copy / INFO).is_file() and open_run(copy)


@pytest.mark.parametrize("strategy", ["finetune", "full", "scratch"])
def test_only_a_frozen_backbone_can_be_deployed(photo_folder, tmp_path, strategy):
    asked = ("train", photo_folder, "-o", tmp_path / "run", *OPTIONS)
    _, said = call(*asked, "--strategy", strategy, code=2)
    assert "--strategy probe" in said


def test_only_classifiers_can_be_deployed(photo_folder, tmp_path):
    lines = ["path,label", *(f"{path.relative_to(photo_folder)},1.5" for path in photo_folder.rglob("*.png"))]
    (tmp_path / "numbers.csv").write_text("\n".join(lines))
    asked = (
        "train",
        tmp_path / "numbers.csv",
        "--image-root",
        photo_folder,
        "-o",
        tmp_path / "run",
        *OPTIONS,
    )
    _, said = call(*asked, "--task", "regression", code=2)
    assert "task regression does not follow it" in said
