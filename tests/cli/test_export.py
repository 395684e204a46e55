"""`export` on a finished run: artefacts, evidence, and what `evaluate` says of them afterwards."""

import json
import shutil

import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.testing.command import call
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.predict import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """A run, its export through the command line, and what that said."""
    edge = tmp_path_factory.mktemp("exported") / "edge"
    precisions = ("--quantize", "float32", "--quantize", "int8")
    out, _ = call("export", finished_run.path, "--to", edge, *precisions, "--json")
    return finished_run, edge, json.loads(out)


@pytest.mark.parametrize("name", ["saved_model", "model.tflite", "model_int8.tflite"])
def test_each_artefact_is_evaluated_and_asked_like_the_run(exported, photo_folder, name):
    run, edge, _ = exported
    ours = evaluate(run.path, photo_folder, split="all")
    theirs = evaluate(edge / name, photo_folder)
    assert theirs["images"] == ours["images"]
    assert abs(theirs["accuracy"] - ours["accuracy"]) <= (0.05 if "int8" in name else 0)
    image = photo_folder / "flower" / "001.png"
    (answer,), (reference,) = list(predict(edge / name, [image])), list(predict(run.path, [image]))
    assert answer["classes"][0]["label"] == "flower"
    if "int8" not in name:
        pairs = zip(answer["classes"], reference["classes"], strict=True)
        assert all(np.isclose(a["probability"], b["probability"], atol=1e-4) for a, b in pairs)


@pytest.fixture(scope="module")
def from_moved(finished_run, photo_folder, tmp_path_factory):
    """The run's export to one ``.tflite`` with the data at another place: a folder, and the report."""
    folder = tmp_path_factory.mktemp("from_moved")
    shutil.copytree(photo_folder, folder / "moved")
    report = export_run(finished_run, folder / "edge", formats=["tflite"], data=folder / "moved")
    return folder, report.to_dict()


def test_data_that_moved_are_given_again_and_split_as_recorded(exported, from_moved):
    run, _, first = exported
    folder, report = from_moved
    assert report["images"] == first["images"]
    assert report["artefacts"][0]["keras_accuracy"] == first["artefacts"][0]["keras_accuracy"]
    with pytest.raises(UsageError, match="edge"):
        export_run(run, folder / "edge", formats=["tflite"], data=folder / "moved")


def test_verify_says_what_it_checked_and_fails_after_a_change(exported, photo_folder, tmp_path):
    _, edge, first = exported
    out, _ = call("verify", edge)
    assert "golden images, pixels identical." in out and "FAILED" not in out
    out, _ = call("verify", edge, photo_folder, "--json")
    result = json.loads(out)
    assert result["passed"] and result["data"]["images"] == 40
    assert [row["file"] for row in result["artefacts"]] == [row["file"] for row in first["artefacts"]]
    assert all(row["accuracy"] > 0.8 and row["agreement"] > 0.8 for row in result["artefacts"])
    out, _ = call("verify", edge, photo_folder)
    assert "accuracy" in out and "Measured on 40 images (all)" in out
    copy = shutil.copytree(edge, tmp_path / "copy")
    (copy / "golden" / "stranger.txt").write_text("hello")
    out, err = call("verify", copy, "--json", code=1)
    assert not json.loads(out)["passed"] and "stranger.txt" in err
    (copy / "labels.txt").write_text("a\nb\n")
    _, err = call("verify", copy, code=1)
    assert "labels.txt is not the file that was exported" in err
    call("verify", tmp_path, code=2)
    call("verify", edge, "--split", "val", code=2)


def test_benchmark_prints_and_draws(from_moved, tmp_path):
    edge = from_moved[0] / "edge"
    arguments = ("benchmark", edge, "--threads", "1", "--seconds", "0.05")
    out, _ = call(*arguments, "--plot", tmp_path / "latency.png")
    assert "images/s" in out and "model.tflite" in out
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(call(*arguments, "--json")[0])["timings"]
    assert [row["file"] for row in rows] == ["model.tflite"]
    assert 0 < rows[0]["p50"] <= rows[0]["p90"] <= rows[0]["p99"] and rows[0]["memory"] > 0
    call("benchmark", tmp_path, code=2)
    call("benchmark", edge, "--threads", "0", code=2)
    for plot in ("latency.bmp", tmp_path):
        _, err = call("benchmark", edge, "--plot", plot, code=2)
        assert ".png, .svg, .pdf" in err


def test_the_bundle_tells_where_it_comes_from(exported):
    run, edge, _ = exported
    info = json.loads((edge / "bundle.json").read_text())
    assert info["title"] == "run" and info["training"]["backbone"] == "tiny"
    assert info["training"]["data"] == run.info["data"]["fingerprint"]
    assert info["licences"] == {"weights": "Apache-2.0", "data": None}
    card = (edge / "README.md").read_text()
    assert "LiteRT takes any batch after `resize_tensor_input`" in card
    front = card.split("---")[1]
    assert 'pipeline_tag: "image-classification"' in front and "model_int8.tflite" in card


@pytest.mark.nightly
def test_the_doctor_examines_and_export_keeps_what_it_found(exported, tmp_path):
    run, _, _ = exported
    arguments = ("doctor", run.path, "--keep", "0", "--keep", "2", "--calibration-size", "8")
    found = json.loads(call(*arguments, "--plot", tmp_path / "doctor.png", "--json")[0])
    errors = [row["error"] for row in found["layers"]]
    assert errors == sorted(errors, reverse=True) and len(errors) > 5
    assert [row["keep"] for row in found["trials"]] == [None, 0, 2]
    assert found["trials"][2]["bytes"] >= found["trials"][1]["bytes"] > 10_000
    assert (tmp_path / "doctor.png").read_bytes().startswith(b"\x89PNG")
    out, _ = call("export", run.path, "--to", tmp_path / "edge", "--format", "tflite", "--quantize", "int8",
                  "--keep-float", "2", "--calibration-size", "8", "--json")  # fmt: skip
    (row,) = json.loads(out)["artefacts"]
    assert row["passed"] and row["bytes"] > found["trials"][2]["bytes"]  # the same, and its metadata
    for wrong in (("--keep-float", "2"), ("--all-integer",), ("--fallback", "int8")):
        call("export", run.path, "--to", tmp_path / "no", *wrong, code=2)
    call("doctor", run.path, "--keep", "999", "--calibration-size", "8", code=2)
    call("doctor", tmp_path, code=2)
