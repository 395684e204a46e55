"""The same metrics whatever is asked, the contract found beside the model, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_tests import SMALL

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, RunError, UsageError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.predict import predict


def test_a_run_evaluated_again_gives_its_recorded_metrics(finished_run):
    result = evaluate(finished_run.path)
    recorded = finished_run.info["metrics"]["test"]
    assert result["split"] == "test"
    assert result["trained_on"] == 0
    for name, value in recorded.items():
        if isinstance(value, float):
            assert result[name] == pytest.approx(value, abs=1e-5)
    assert result["confusion_matrix"] == recorded["confusion_matrix"]


def test_a_run_made_from_a_relative_path_is_evaluated_from_anywhere(photo_folder, tmp_path, monkeypatch):
    from keras_transfer.workflow.train import train

    monkeypatch.chdir(photo_folder.parent)
    run = train(photo_folder.name, tmp_path / "run", strategy="probe", **SMALL)
    monkeypatch.chdir(tmp_path)
    assert evaluate("run")["accuracy"] == run.info["metrics"]["test"]["accuracy"]


def test_the_model_file_inside_a_run_and_a_keras_object_give_the_same(finished_run, photo_folder):
    by_path = evaluate(finished_run.model_path, photo_folder)
    assert by_path["split"] == "all"
    assert by_path["images"] == 40
    by_object = evaluate(finished_run.load_model(), load_data(photo_folder), split="all")
    assert by_object["log_loss"] == pytest.approx(by_path["log_loss"], abs=1e-5)


def test_images_that_were_trained_on_are_counted(finished_run, photo_folder):
    result = evaluate(finished_run.path, photo_folder, split="all")
    assert result["trained_on"] == len(load_data(photo_folder).indices("train"))


@pytest.mark.parametrize("content", [None, "path,label\n"])
def test_a_run_that_lost_its_split_says_so(finished_run, photo_folder, tmp_path, content):
    damaged = shutil.copytree(finished_run.path, tmp_path / "run")
    (damaged / "split.csv").unlink()
    if content is not None:
        (damaged / "split.csv").write_text(content + "a,b\n")
    with pytest.raises(RunError, match="which images were trained on"):
        evaluate(damaged, photo_folder, split="all")


def test_wrong_requests_are_refused(finished_run, photo_folder, tmp_path):
    with pytest.raises(UsageError, match="one of train, val, test, all"):
        evaluate(finished_run.path, split="tset")
    with pytest.raises(UsageError):
        evaluate(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"head: the training decides that.*can set: nothing"):
        evaluate(finished_run.path, task_options={"head": "svm"})
    with pytest.raises(UsageError, match="Did you mean head"):
        evaluate(finished_run.path, task_options=["haed=svm"])
    stranger = tmp_path / "stranger"
    (stranger / "dog").mkdir(parents=True)
    (stranger / "cat").mkdir()
    for name in ("dog", "cat"):
        (stranger / name / "a.png").write_bytes((photo_folder / "china" / "000.png").read_bytes())
    with pytest.raises((UsageError, DataError), match=r"dog|cat"):
        evaluate(finished_run.path, stranger)


def test_predictions_are_ordered_named_and_equal_to_the_model(finished_run, photo_folder, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"")
    first = photo_folder / "flower" / "000.png"
    answers = list(predict(finished_run.path, [first, broken, photo_folder / "china"], top=2))
    assert len(answers) == 22
    assert answers[0]["path"] == str(first)
    assert answers[1]["error"]
    del answers[1]
    assert [answer["path"] for answer in answers[1:]] == [
        str(p) for p in sorted((photo_folder / "china").iterdir())
    ]
    pixels = [Preprocessing(size=(64, 64)).load(Path(answer["path"])) for answer in answers]
    expected = finished_run.load_model().predict(np.stack(pixels).astype("float32"), verbose=0)
    for answer, (china, flower) in zip(answers, expected, strict=True):
        told = {row["label"]: row["probability"] for row in answer["classes"]}
        assert told == pytest.approx({"china": china, "flower": flower}, abs=1e-5)
        assert list(told.values()) == sorted(told.values(), reverse=True)


@pytest.mark.slow
def test_real_features_tell_the_photographs_apart(lite_run, photo_folder):
    answers = list(predict(lite_run.path, [photo_folder / "china", photo_folder / "flower"], top=1))
    first = [answer["classes"][0]["label"] for answer in answers]
    assert np.mean(np.array(first) == ["china"] * 20 + ["flower"] * 20) > 0.9


def test_predict_refuses_what_is_not_there(finished_run, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        predict(finished_run.path, [tmp_path / "missing.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image"):
        predict(finished_run.path, [tmp_path / "empty"])
    with pytest.raises(UsageError, match="at least 1"):
        predict(finished_run.path, [tmp_path], top=0)


def test_a_table_in_another_order_of_classes_is_not_measured_in_silence(finished_run, photo_folder):
    turned = load_data(photo_folder, classes=("flower", "china"))
    with pytest.raises(UsageError, match=r"load_data\(\.\.\., classes=\('china', 'flower'\)\)"):
        evaluate(finished_run, turned)


def test_a_model_without_class_names_is_not_guessed_at(finished_run, photo_folder, tmp_path):
    shutil.copy(finished_run.model_path, tmp_path / "bare.keras")
    with pytest.raises(UsageError, match="class names"):
        evaluate(tmp_path / "bare.keras", photo_folder)
    (tmp_path / "names.txt").write_text("china\nflower\n")
    named = evaluate(tmp_path / "bare.keras", photo_folder, labels=tmp_path / "names.txt")
    assert named["accuracy"] == evaluate(finished_run.model_path, photo_folder)["accuracy"] > 0.8


def test_what_an_archive_left_in_a_folder_is_no_image(finished_run, photo_folder, tmp_path):
    shutil.copy(photo_folder / "china" / "000.png", tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    (answer,) = predict(finished_run, [tmp_path])
    assert answer["path"].endswith("a.png") and "error" not in answer
