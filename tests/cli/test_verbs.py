"""The command line as a user meets it: exit codes, sentences, JSON, and no traceback for a mistake."""

import json
import re

import pytest

from keras_transfer.cli import VERBS
from keras_transfer.testing.command import call

TINY = ("--backbone", "tiny", "--image-size", "64", "--engine", "keras")


@pytest.mark.slow
def test_train_prints_where_and_how_good(photo_folder, tmp_path):
    output = tmp_path / "run"
    out, err = call("train", photo_folder, "--output", output, "--strategy", "probe", *TINY)
    assert "accuracy on" in out
    assert str(output) in out
    assert "40 images" in err
    assert "Strategy: probe" in err


def test_every_verb_has_help_and_the_group_lists_them():
    out, _ = call("--help")
    for verb in VERBS:
        assert verb in out
        assert call(verb, "--help")[0].startswith("Usage:")
    assert "--dropout" in call("train", "--help")[0]


@pytest.mark.slow
def test_evaluate_prints_json_and_a_table(finished_run):
    result = json.loads(call("evaluate", finished_run.path, "--json")[0])
    assert result["split"] == "test"
    assert result["per_class"].keys() == {"china", "flower"}
    text, _ = call("evaluate", finished_run.path, "--quiet")
    assert "balanced accuracy" in text
    assert "flower" in text


@pytest.mark.slow
def test_predict_answers_the_readable_and_fails_for_the_rest(finished_run, photo_folder, tmp_path):
    run = finished_run.path
    good, bad = photo_folder / "flower" / "003.png", tmp_path / "bad.png"
    bad.write_bytes(b"")
    rows = json.loads(call("predict", run, good, "--top", "1", "--json")[0])
    assert rows[0]["classes"][0]["label"] == "flower"
    out, err = call("predict", run, good, bad, code=1)
    assert "flower" in out
    assert "bad.png" in err


@pytest.mark.slow
def test_features_are_saved_with_paths_and_labels(photo_folder, tmp_path):
    import numpy as np

    common = (photo_folder, *TINY)
    facts = json.loads(call("features", *common, "--output", tmp_path / "f.npz", "--json")[0])
    assert (facts["images"], facts["dimensions"], facts["computed"]) == (40, 64, 40)
    stored = np.load(tmp_path / "f.npz")
    assert stored["features"].shape == (40, 64)
    assert [
        str(stored["classes"][label]) in path
        for label, path in zip(stored["labels"], stored["paths"], strict=True)
    ]
    again = json.loads(call("features", *common, "--output", tmp_path / "f.parquet", "--json")[0])
    assert (again["cached"], again["computed"]) == (40, 0)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), stored["features"])
    assert table["label"].to_pylist() == [str(stored["classes"][label]) for label in stored["labels"]]
    assert "--overwrite" in call("features", *common, "--output", tmp_path / "f.npz", code=2)[1]
    assert ".parquet" in call("features", *common, "--output", tmp_path / "f.txt", code=2)[1]


@pytest.mark.slow
def test_the_cache_is_listed_pruned_and_cleared(photo_folder, tmp_path):
    call("features", photo_folder, *TINY, "-o", tmp_path / "f.npz")
    listed = json.loads(call("cache", "ls", "--json")[0])
    assert sum(row["bytes"] for row in listed["entries"]) > 40 * 64 * 4
    assert "features" in call("cache", "ls")[0]
    assert json.loads(call("cache", "prune", "--max-size", "0", "--json")[0])["freed_bytes"] > 40 * 64 * 4
    call("cache", "clear", "--yes")
    assert json.loads(call("cache", "ls", "--json")[0])["entries"] == []
    assert "10GB" in call("cache", "prune", "--max-size", "lots", code=2)[1]


def test_backbones_are_listed_and_explained():
    specs = json.loads(call("backbones", "--json")[0])
    assert len(specs) >= 41
    out, _ = call("backbones")
    assert len(out.splitlines()) == len(specs) + 1
    assert "1280" in call("backbones", "EfficientNetLite0")[0]
    assert "Did you mean" in call("backbones", "mobilnet_v2", code=2)[1]


def test_plugins_lists_the_built_in_task():
    assert json.loads(call("plugins", "--json")[0])[0] == {
        "kind": "task",
        "name": "classification",
        "state": "ok",
        "summary": "One label per image.",
        "reason": "",
        "distribution": "keras-transfer",
        "version": __import__("keras_transfer").__version__,
        "value": "keras_transfer.tasks.builtin:CLASSIFICATION",
    }


@pytest.mark.slow
def test_mistakes_get_a_sentence_and_exit_code_2(finished_run, photo_folder, tmp_path):
    run, out = finished_run.path, tmp_path / "out"
    finetune = ("--strategy", "finetune", *TINY)
    cases = {
        ("trian",): "Did you mean train",
        ("train", tmp_path / "missing", "-o", out): "missing",
        ("train", photo_folder): "--output",
        ("train", photo_folder, "-o", out, "--backbone", "resnet51"): "Did you mean resnet50",
        ("train", photo_folder, "-o", out, "--image-size", "8"): "32",
        ("train", photo_folder, "-o", out, "--epochs", "0"): "at least 1",
        ("train", photo_folder, "-o", out, "--strategy", "magic"): "magic",
        ("train", photo_folder, "-o", out, "--task", "segmantation"): "no task",
        ("train", photo_folder, "-o", out, *finetune, "--unfreeze", "from:block99"): "block99",
        ("train", photo_folder, "-o", run): "--overwrite",
        ("evaluate", tmp_path / "missing"): "missing",
        ("export", tmp_path, "--to", out): "not a run folder",
        ("predict", run, tmp_path / "missing.png"): "missing.png",
    }
    for arguments, said in cases.items():
        _, err = call(*arguments, code=2)
        assert said in err, (arguments, err)
    assert not out.exists()


def test_failures_get_a_sentence_and_exit_code_1(photo_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "one" / "only" / "a.png").write_bytes((photo_folder / "china" / "000.png").read_bytes())
    out = tmp_path / "out"
    cases = {
        ("train", tmp_path / "empty", "-o", out): "empty",
        ("train", tmp_path / "one", "-o", out): "only",
        ("train", photo_folder, "-o", out, "--backbone", "vgg16", "--image-size", "64"): "vgg16_weights",
    }
    for arguments, said in cases.items():
        _, err = call(*arguments, code=1)
        assert said in err, (arguments, err)
    assert not out.exists()


@pytest.mark.slow
def test_the_options_of_one_task_do_not_stay_for_the_next(photo_folder, tmp_path):
    first = json.loads(call("train", photo_folder, *TINY, "--dry-run", "--json", "--head", "svm")[0])
    assert first["strategy"] == "probe"
    rows = [f"{path},{path.parent.name}" for path in photo_folder.glob("*/*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    labelled = (tmp_path / "labels.csv", "--image-root", photo_folder)
    arguments = ("train", *labelled, *TINY, "--task", "multilabel")
    call(*arguments, "--dry-run", "--json", "--labels", "multilabel")
    assert "--head" in call(*arguments, "--dry-run", "--head", "svm", code=2)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--head", "svm", "--strategy", "full"), "--head linear"),
        (("--head", "knn", "--hidden", "8"), "no hidden layers"),
        (("--strategy", "finetune", "--val-fraction", "0"), "--no-guard"),
        (("--strategy", "finetune", "--unfreeze", "blocks:99"), "every layer"),
        (("--learning-rate", "0"), "--learning-rate"),
        (("--strategy", "full", "--monitor", "f1"), "f1"),
        (("--strategy", "finetune", "--augment", "strong", "--cache-boundary", "on"), "--cache-boundary off"),
    ],
)
def test_a_dry_run_refuses_what_the_training_would_refuse(photo_folder, arguments, said):
    code = 1 if "--val-fraction" in arguments else 2
    _, err = call("train", photo_folder, *TINY, "--dry-run", *arguments, code=code)
    assert said in err


def test_a_dry_run_tells_data_network_training_cost_and_files(photo_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown, _ = call("train", photo_folder, *TINY, "--dry-run", "--strategy", "finetune", "-o", "run")
    for said in (
        r"40 images of \S*photo_folder",
        r"china\s+\d+\s+\d+\s+\d+",
        r"tiny at 64x64",
        r"Network tiny_classifier: \(B, 64, 64, 3\) to \(B, 2\), 28,962 parameters",
        r"Strategy: finetune \(asked for\)",
        r"stem\s+\d+\s+1,264\s+-\s+frozen\s+-",
        r"head\s+\d+\s+130\s+130",
        r"\d of 28,962 parameters train",
        r"for the features, .* for the head fitted on them, .* for the gradient training; under 0.1 minutes",
        r"would write run: run.json, model.keras, split.csv, history.csv, skipped.csv, predictions.npy, report.html, ",
        r"Nothing was trained, and nothing written",
    ):
        assert re.search(said, shown.replace("\n", "\n ")), (said, shown)
    assert not list(tmp_path.iterdir())
    told = json.loads(call("train", photo_folder, *TINY, "--dry-run", "--json")[0])
    assert told["cost"]["complete"] and told["task"] == "classification"


def test_a_full_disk_is_a_sentence(photo_folder, tmp_path, monkeypatch):
    from keras_transfer.workflow import features

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "f.npz"))

    monkeypatch.setattr(features, "extract", full)
    _, err = call("features", photo_folder, "--output", tmp_path / "f.npz", *TINY, code=1)
    assert "No space left on device" in err and "f.npz" in err
