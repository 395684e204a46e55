"""Records of runs: parsed once, checked field by field, written as they were read. Bundles: export/test_bundle.py."""

import copy
import json

import pytest
from keras_transfer_tests.records import run_record

from keras_transfer.errors import RunError
from keras_transfer.records import DamagedError, RunRecord
from keras_transfer.run import open_run
from keras_transfer.settings import TrainSettings


def without(info, path):
    """A copy of nested objects without one field."""
    info = copy.deepcopy(info)
    *places, last = path.split(".")
    inside = info
    for place in places:
        inside = inside[place]
    del inside[last]
    return info


def test_a_record_is_written_as_it_is_read(finished_run):
    info = json.loads((finished_run.path / "run.json").read_text())
    record = RunRecord.parse(info)
    assert {**record.to_dict(), "schema": info["schema"], "files": info["files"]} == info
    assert RunRecord.parse(json.loads(json.dumps(record.to_dict()))).to_dict() == record.to_dict()
    assert record.request.settings == TrainSettings.of(**info["request"]["settings"])
    assert record.contract.preprocessing.to_dict() == info["preprocessing"]
    assert record.data.images("train") == info["data"]["splits"]["train"]["images"] > 0


@pytest.mark.parametrize(
    "path",
    [
        *("request", "request.task", "request.options", "request.settings", "data", "data.fingerprint"),
        *("data.source", "data.splits", "data.splits.train.images", "backbone", "preprocessing", "output"),
        *("output.kind", "output.shape", "output.names", "training", "metrics"),
    ],
)
def test_a_run_without_a_field_that_is_relied_on_names_it(path):
    with pytest.raises(DamagedError, match=f"^'{path}' is missing$"):
        RunRecord.parse(without(run_record().to_dict(), path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"request": []}, "'request' is a list, not an object"),
        ({"metrics": {"test": 0.9}}, "'metrics.test' is a number, not an object"),
        ({"resumed": 1}, "'resumed' is a whole number, not true or false"),
        (
            {"output": {"kind": "values", "shape": [True], "names": ["a"]}},
            "'output.shape' is not a list of whole",
        ),
        ({"output": {"kind": "values", "shape": [1], "names": "a"}}, "'output.names' is a text, not a list"),
        (
            {"plugin": {"distribution": 3, "version": "1"}},
            "'plugin.distribution' is a whole number, not a text",
        ),
    ],
)
def test_a_field_of_another_kind_is_named_with_both_kinds(changes, said):
    with pytest.raises(DamagedError, match=said):
        run_record(**changes)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("epochs", "many"), ("not_a_setting", 1)])
def test_settings_that_no_training_takes_are_damage(name, value):
    info = run_record().to_dict()
    info["request"]["settings"][name] = value
    with pytest.raises(
        DamagedError, match=r"'request\.settings' cannot be used: .*" + name.replace("_", ".")
    ):
        RunRecord.parse(info)


def test_opening_a_damaged_run_names_file_and_field(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")
    info = {"schema": 1, **without(run_record().to_dict(), "output.kind")}
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=r"run\.json is damaged: 'output\.kind' is missing\. Train again"):
        open_run(tmp_path)


def test_what_was_called_otherwise_when_a_run_was_written_is_understood():
    info = run_record().to_dict()
    info["request"]["options"] = {"pooling": "average", "margin": 0.5}
    assert RunRecord.parse(info).contract.options == {"pooling": "avg", "margin": 0.5}
