"""A run and a bundle of an earlier version (``tests/files/before_contracts``) say and answer what they said then."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.export.bundle import load_bundle
from keras_transfer.inference import load_runner
from keras_transfer.run import open_run
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.verify import verify

FILES = Path(__file__).parents[1] / "files" / "before_contracts"


@pytest.fixture(scope="module")
def old_run(photo_folder, tmp_path_factory):
    """The run, which knows images by their files' hashes: another Pillow writes other files of the same pixels."""
    folder = tmp_path_factory.mktemp("old") / "run"
    shutil.copytree(FILES / "run", folder)
    with (folder / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["sha256"] = hashlib.sha256((photo_folder / row["path"]).read_bytes()).hexdigest()
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_the_records_are_understood():
    run, bundle = open_run(FILES / "run"), load_bundle(FILES / "bundle")
    request = run.record.request
    assert (request.source, request.task) == ("/photos", "classification")
    assert request.settings.fit.strategy == "probe" and not request.settings.fit.refit
    assert run.learned_from == ("train",)
    assert run.record.contract.names == bundle.record.contract.names == ("china", "flower")
    assert run.record.contract.preprocessing == bundle.record.contract.preprocessing
    assert {one.precision for one in bundle.record.artefacts} == {"float32", "int8"}


def test_no_file_tells_where_it_was_made():
    for path in (path for path in FILES.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [
            word for word in (b"/home/", b"/Users/", b"/tmp/", b"site-packages") if word in content
        ], path


@pytest.mark.slow
def test_an_old_run_measures_what_it_recorded(old_run, photo_folder):
    found, recorded = evaluate(old_run, photo_folder), open_run(old_run).record.metrics["test"]
    assert (found["split"], found["trained_on"]) == ("test", 0)
    assert found["confusion_matrix"] == recorded["confusion_matrix"]
    for name, value in recorded.items():
        if isinstance(value, (int, float)):
            assert found[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.slow
def test_an_old_run_predicts_what_it_predicted(old_run, photo_folder):
    recorded = json.loads((FILES / "answers.json").read_text(encoding="utf-8"))
    for found, row in zip(predict(old_run, [photo_folder], top=2), recorded, strict=True):
        assert Path(found["path"]) == photo_folder / row["path"]
        assert [one["label"] for one in found["classes"]] == [one["label"] for one in row["classes"]]
        for one, other in zip(found["classes"], row["classes"], strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.slow
def test_an_old_bundle_is_verified(photo_folder):
    found = verify(FILES / "bundle", photo_folder)
    assert found.passed, found.to_dict()


@pytest.mark.slow
def test_an_old_run_is_exported_to_a_file_that_answers_like_the_old_one(old_run, photo_folder, tmp_path):
    export_run(old_run, tmp_path / "again", data=photo_folder, formats=("tflite",))
    table, pixels = load_data(photo_folder), open_run(old_run).record.contract.preprocessing
    images = np.stack([table.images.load(row, pixels) for row in range(len(table))])
    old, new = (load_runner(folder / "model.tflite") for folder in (FILES / "bundle", tmp_path / "again"))
    np.testing.assert_allclose(new.predict(images), old.predict(images), rtol=0, atol=1e-6)
