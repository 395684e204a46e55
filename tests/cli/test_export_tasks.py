"""Export, verify, evaluate and predict for tasks other than classification: their own metric, their own numbers."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_transfer.errors import BundleError
from keras_transfer.export import load_bundle
from keras_transfer.hashing import size_and_sha256
from keras_transfer.litert import LiteRTModel
from keras_transfer.testing.command import call
from keras_transfer.testing.samples import with_labels, with_numbers

pytestmark = pytest.mark.slow
TASKS = {"regression": (with_numbers, "mae"), "multilabel": (with_labels, "mean_average_precision")}
FORMATS = ("saved-model", "tflite", "keras")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("regression", FORMATS[1:2]), id="regression"),
        pytest.param(("multilabel", FORMATS[1:2]), id="multilabel", marks=pytest.mark.nightly),
        *[pytest.param((task, FORMATS), id=f"{task}-every", marks=pytest.mark.nightly) for task in TASKS],
    ],
)
def exported(request, tmp_path_factory):
    """The name of a task, its metric, its data, its bundle, and what the export said."""
    task, formats = request.param
    sample, metric = TASKS[task]
    folder = tmp_path_factory.mktemp(task)
    (folder / "images").mkdir()
    data = sample(folder / "images")
    network = ("--backbone", "tiny", "--image-size", "64")
    arguments = ("--task", task, *network, "--strategy", "probe", "--quiet")
    call("train", data, "-o", folder / "run", *arguments)
    precisions = ["--quantize", "float32", "--quantize", "int8"]
    forms = [word for form in formats for word in ("--format", form)]
    said, _ = call("export", folder / "run", "--to", folder / "edge", *forms, *precisions, "--json")
    return task, metric, data, folder / "edge", json.loads(said)


def test_every_artefact_is_judged_by_the_tasks_own_metric(exported):
    task, metric, _, edge, report = exported
    assert report["metric"] == metric and report["passed"]
    for row in report["artefacts"]:
        assert np.isfinite([row[metric], row[f"keras_{metric}"]]).all()
        assert "accuracy" not in row
        if row["precision"] == "float32":
            assert row["max_difference"] <= row["tolerance"]["max_difference"] <= 1e-4
            assert row["agreement"] == (None if task == "regression" else 1)
    info = json.loads((edge / "bundle.json").read_text())
    assert (info["task"], info["output"]["metric"]) == (task, metric)
    assert metric.replace("_", " ") in (edge / "README.md").read_text()


def test_it_verifies_with_and_without_data_and_notices_a_change(exported, tmp_path):
    _, metric, data, edge, _ = exported
    assert json.loads(call("verify", edge, "--json")[0])["passed"]
    found = json.loads(call("verify", edge, data, "--split", "all", "--json")[0])
    assert found["passed"] and found["metrics"][0] == metric
    assert all(np.isfinite(row[metric]) for row in found["artefacts"])
    shown, _ = call("verify", edge, data, "--split", "all")
    assert metric.split("_")[0] in shown
    copy = tmp_path / "edge"
    shutil.copytree(edge, copy)
    golden = copy / "golden" / "golden.json"
    content = json.loads(golden.read_text())
    content["expected"]["model.tflite"][0][0] += 0.5
    golden.write_text(json.dumps(content))
    info = json.loads((copy / "bundle.json").read_text())
    size, sha256 = size_and_sha256(golden)
    info["files"]["golden/golden.json"] = {"bytes": size, "sha256": sha256}
    (copy / "bundle.json").write_text(json.dumps(info))
    _, said = call("verify", copy, code=1)
    assert "differs by 0.5" in said


def test_its_files_answer_beside_the_bundle_as_the_run_does(exported):
    task, metric, data, edge, _ = exported
    whole = json.loads(call("evaluate", edge.parent / "run", data, "--split", "all", "--json")[0])
    small = json.loads(call("evaluate", edge / "model.tflite", data, "--json")[0])
    assert small["task"] == task and small[metric] == pytest.approx(whole[metric], abs=1e-5)
    image = data.parent / "china00.png"
    answers = [
        json.loads(call("predict", one, image, "--json")[0])
        for one in (edge.parent / "run", edge / "model.tflite")
    ]
    first, second = (answer[0] if isinstance(answer, list) else answer for answer in answers)
    key = "values" if task == "regression" else "labels"
    if task == "regression":
        assert second[key]["target"] == pytest.approx(first[key]["target"], abs=1e-5)
    else:
        assert [one["label"] for one in first[key]] == [one["label"] for one in second[key]] != []


def test_the_script_tells_numbers_as_numbers_and_chances_in_percent(exported):
    task, _, data, edge, _ = exported
    for arguments in (["--self-test"], [data.parent / "china00.png"]):
        done = subprocess.run(
            [sys.executable, str(edge / "classify.py"), *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert ("%" in done.stdout) == (task == "multilabel")
    bundle = load_bundle(edge)
    (answer,) = bundle.predict([data.parent / "china00.png"])
    shown = f"target {answer[0]:.4g}" if task == "regression" else f"china {100 * answer[1]:.1f} %"
    assert shown in done.stdout


def test_a_manifest_that_does_not_fit_is_refused(exported):
    edge = exported[3]
    text = (edge / "bundle.json").read_text()
    for field, wrong in (("shape", [7]), ("shape", []), ("shape", [1] * 70), ("kind", 3)):
        info = json.loads(text)
        info["output"][field] = wrong
        (edge / "bundle.json").write_text(json.dumps(info))
        with pytest.raises(BundleError, match=r"output|what the models give"):
            load_bundle(edge)
    (edge / "bundle.json").write_text(text)
    assert load_bundle(edge).shape == tuple(json.loads(text)["output"]["shape"])


def test_numbers_of_every_artefact_are_those_of_the_model(exported):
    _, _, data, edge, _ = exported
    bundle = load_bundle(edge)
    images = sorted(data.parent.glob("*.png"))[:5]
    pixels = np.stack([bundle.preprocessing.load(path) for path in images])
    assert np.array_equal(
        bundle.predict(images, "model.tflite"), LiteRTModel(edge / "model.tflite").predict(pixels)
    )
    assert bundle.predict([]).shape == (0, *bundle.shape)


CRAFTED = {
    "multilabel": [
        ("notes", {"thresholds": [0.5]}),
        ("notes", {"thresholds": {"china": "x"}}),
        ("options", {"hidden": ["abc"]}),
        ("options", {"dropout": 10**400}),
    ],
    "regression": [("options", {"nonsense": 1}), ("options", {"hidden": "wide"})],
}


def test_crafted_options_and_notes_are_a_sentence(exported, tmp_path):
    name, _, data, edge, _ = exported
    copy = tmp_path / "edge"
    shutil.copytree(edge, copy)
    info = json.loads((copy / "bundle.json").read_text())
    for field, wrong in CRAFTED[name]:
        (copy / "bundle.json").write_text(json.dumps({**info, field: wrong}))
        for arguments in (
            ["verify", copy, data],
            ["predict", copy / "model.tflite", data.parent / "china00.png"],
        ):
            _, said = call(*arguments, code=(1, 2))
            assert len(said) > 40


def test_a_shape_that_the_model_does_not_give_is_noticed(exported, tmp_path):
    copy = tmp_path / "edge"
    shutil.copytree(exported[3], copy)
    info = json.loads((copy / "bundle.json").read_text())
    info["output"]["shape"] = [1, *info["output"]["shape"]]
    (copy / "bundle.json").write_text(json.dumps(info))
    _, said = call("verify", copy, code=1)
    assert "bundle.json says (1," in said
    with pytest.raises(BundleError, match="the model gives"):
        load_bundle(copy).predict([exported[2].parent / "china00.png"])
