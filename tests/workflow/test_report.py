"""The page of a run tells what the run holds, escapes it, and never costs a training."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import keras_transfer as ktr
from keras_transfer.errors import UsageError
from keras_transfer.run import open_run
from keras_transfer.workflow import report as module
from keras_transfer.workflow.report_facts import facts_of, issues_of

FILES = Path(__file__).parents[1] / "files" / "before_contracts"
NASTY = "<script>alert(1)</script>"


@pytest.fixture
def old(tmp_path):
    """A run of an earlier version, whose data are gone."""
    return Path(shutil.copytree(FILES / "run", tmp_path / "old"))


def changed(run, change):
    info = json.loads((run / "run.json").read_text())
    change(info)
    (run / "run.json").write_text(json.dumps(info))


def cells(text, name):
    """The cells of the rows that begin with this name, of all tables."""
    rows = re.findall(rf'<tr><th scope="row">{re.escape(name)}</th>(.*?)</tr>', text)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_the_numbers_are_those_of_the_record(old):
    text = ktr.report(old).read_text()
    assert "Accuracy 62.5 %, measured on the 8 test images." in text
    assert "The weakest class is flower, of whose images 25.0 % are found." in text
    assert cells(text, "flower") == [
        ["13", "3", "4"],
        ["3", "1"],
        ["china", "3", "75.0 %"],
        ["1", "0.25", "0.4", "4"],
    ]
    assert "keras-transfer train /photos --output old --seed 0" in text
    assert "--val-fraction" not in text and "--backbone tiny" in text and "--strategy probe" in text
    assert "keeps no answers to single images" in text
    for outside in ("http://", "https://", 'src="plots', '<link rel="stylesheet'):
        assert outside not in text


def test_what_an_export_measured(old):
    text = ktr.report(old, bundles=[FILES / "bundle"]).read_text()
    (row,) = cells(text, "model_int8.tflite")
    assert row[:4] == ["int8", "0.05 MB", "62.5 %", "0.098"] and row[-1] == "agrees"


def test_names_are_text_and_never_markup(old):
    def rename(info):
        metrics = info["metrics"]["test"]
        metrics["per_class"] = {
            NASTY: metrics["per_class"]["china"],
            "flower": metrics["per_class"]["flower"],
        }
        info["output"]["names"][0] = info["data"]["source"] = info["request"]["source"] = NASTY

    changed(old, rename)
    text = (old / "split.csv").read_text()
    first = text.splitlines()[1].split(",")
    copy = ",".join([f"{NASTY}.png", "flower", "test", *first[3:]])
    (old / "split.csv").write_text(f"{text}{copy}\n")
    text = ktr.report(old).read_text()
    assert NASTY not in text and text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png (flower, test)" in text
    assert "One image occurs in several splits: split again before you trust the number." in text


def test_copies_are_told_apart():
    def row(path, label, split, sha):
        return {"path": path, "label": label, "split": split, "sha256": sha}

    rows = [row("a", "x", "train", "1"), row("b", "y", "train", "1"), row("c", "x", "val", "2")]
    rows += [row("d", "x", "test", "2"), row("e", "x", "val", "3"), row("f", "x", "val", "3")]
    assert [(one["kind"], one["examples"]) for one in issues_of(rows)] == [
        ("conflict", [["a (x, train)", "b (y, train)"]]),
        ("leak", [["c (x, val)", "d (x, test)"]]),
        ("copies", [["e (x, val)", "f (x, val)"]]),
    ]


def test_many_classes_give_a_list_and_a_small_page(old):
    names = [f"class {i}" for i in range(400)]
    counts = np.eye(400, dtype=int) * 5
    counts[7, 9] = 4

    def many(info):
        metrics = info["metrics"]["test"]
        row = metrics["per_class"]["china"]
        metrics["per_class"] = dict.fromkeys(names, row)
        metrics["confusion_matrix"] = counts.tolist()
        info["output"].update(names=names, shape=[400])

    changed(old, many)
    run = open_run(old)
    facts = facts_of(old, "old", run.record)
    assert facts["matrix"] is None
    assert facts["pairs"] == [{"truth": "class 7", "answer": "class 9", "count": 4, "share": "44.4 %"}]
    assert ktr.report(old).stat().st_size < 3_000_000


def test_several_runs_stand_side_by_side(old, tmp_path, monkeypatch):
    other = Path(shutil.copytree(old, tmp_path / "other"))
    changed(other, lambda info: info["request"]["settings"].update(seed=3))
    monkeypatch.chdir(tmp_path)
    path = ktr.report([old, other])
    assert path == Path("report.html")
    text = path.read_text()
    assert "2 runs side by side" in text and '<section class="run" id="run-2">' in text
    assert cells(text, "seed") == [["0", "3"]] and not cells(text, "epochs")


def test_a_training_leaves_its_page_and_its_answers(finished_run):
    record = finished_run.record
    answers = np.load(finished_run.path / "predictions.npy")
    metrics = record.metrics["test"]
    assert answers.shape == (metrics["images"], 2)
    text = (finished_run.path / "report.html").read_text()
    assert f"{100 * metrics['accuracy']:.1f} %, measured on the {metrics['images']} test images." in text
    assert "Reliability diagram" in text and "The least sure hits" in text
    assert text.count("data:image/jpeg") == len(re.findall("<li><img", text)) > 0
    assert {"predictions.npy", "report.html"} <= set(finished_run.info["files"])
    facts = facts_of(finished_run.path, "run", record)
    error = sum(
        row["images"] * abs(row["confidence"] - row["accuracy"]) for row in facts["bins"] if row["images"]
    )
    assert sum(row["images"] for row in facts["bins"]) == metrics["images"]
    assert 0 <= error / metrics["images"] <= 1


def test_heat_maps_come_with_the_verb_and_a_moved_run_is_told_alike(finished_run, tmp_path):
    moved = Path(shutil.copytree(finished_run.path, tmp_path / "moved"))
    text = ktr.report(moved).read_text()
    assert "Where the model looked in" in text
    assert text.count("data:image/jpeg") == 2 * len(re.findall("<li><img", text)) > 0


def test_where_the_data_are_gone_the_page_says_so(finished_run, tmp_path):
    gone = Path(shutil.copytree(finished_run.path, tmp_path / "gone"))
    changed(gone, lambda info: info["request"].update(source="/nowhere"))
    text = ktr.report(gone).read_text()
    assert "Without pictures: the data cannot be read here." in text
    assert "data:image/jpeg" not in text and "The least sure hits" in text


def test_data_that_changed_give_no_pictures(finished_run, tmp_path):
    moved = Path(shutil.copytree(finished_run.path, tmp_path / "moved"))
    data = Path(shutil.copytree(finished_run.record.request.source, tmp_path / "data"))
    changed(moved, lambda info: info["request"].update(source=str(data)))
    measured = [row for row in (moved / "split.csv").read_text().splitlines() if ",test," in row]
    (data / measured[0].split(",")[0]).unlink()
    assert "Without pictures: the data have changed since the training." in ktr.report(moved).read_text()


def test_a_page_that_cannot_be_written_costs_no_training(finished_run, tmp_path, monkeypatch, caplog):
    def broken(told):
        raise ValueError("no page today")

    monkeypatch.setattr(module, "page", broken)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        module.write_beside(tmp_path, tmp_path, finished_run.record, None)
    assert caplog.messages == ["The report was not written (ValueError: no page today); the run is complete."]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_have_a_page(finished, task):
    run = finished(task)
    text = (run.path / "report.html").read_text()
    assert f"A {task} model on tiny" in text and 'class="plot"' in text and "Traceback" not in text
    assert ktr.report(run).read_text().count("<h1>") == 1


def test_a_task_that_is_gone_and_notes_something_else_has_a_page(old):
    def other(info):
        info["request"]["task"], info["request"]["options"] = "dreams", {"deep": True}
        info["training"] = {"plan": [{"network": "generator"}], "strategy": 3}
        info["metrics"] = {"val": {"images": 6, "note": "text", "depth": 2.5, "per_class": {"a": 1.0}}}

    changed(old, other)
    text = ktr.report(old).read_text()
    assert "A dreams model on tiny, trained with 26 images." in text
    assert "Depth 2.5, measured on the 6 val images." in text and "There is no test split" in text


def test_bad_input_is_a_sentence(old, tmp_path):
    def refused(*given, **more):
        with pytest.raises(UsageError) as caught:
            ktr.report(*given, **more)
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    photo = tmp_path / "photo.html"
    photo.write_text("mine")
    (tmp_path / ".going.partial").mkdir()
    assert refused([]) == "No run was given; at least one folder made by `keras-transfer train` is expected."
    assert refused(empty) == f"{empty} is not a run folder: it has no run.json."
    assert refused(tmp_path / "going") == (
        f"{tmp_path / 'going'}: no such folder. A run folder made by `keras-transfer train` is expected. "
        "An unfinished run is beside it: run the same `train` command again to finish it."
    )
    assert refused(old, photo).startswith(f"{photo} exists, and this tool did not write it")
    assert "never replaced" in refused(old, old / "model.keras", overwrite=True)
    assert refused(old, bundles=[empty]) == (
        f"{empty} is not a bundle: it has no bundle.json. A folder made by `keras-transfer export` is expected."
    )
    assert refused([old, old], bundles=[empty]) == (
        "Bundles were given for 2 runs; give them with the one run they were made of."
    )
    assert photo.read_text() == "mine"
