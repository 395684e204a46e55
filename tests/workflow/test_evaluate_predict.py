"""The same metrics whatever is asked, the contract found beside the model, and what is refused."""

import csv
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_transfer_tests import SMALL
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, RunError, UsageError
from keras_transfer.litert import convert, converter_for, converter_tools, run_converter
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.loaded_model import read_labels
from keras_transfer.workflow.predict import predict


@pytest.mark.slow
def test_a_run_evaluated_again_gives_its_recorded_metrics(finished_run):
    result = evaluate(finished_run.path)
    recorded = finished_run.info["metrics"]["test"]
    assert result["split"] == "test"
    assert result["trained_on"] == 0
    for name, value in recorded.items():
        if isinstance(value, float):
            assert result[name] == pytest.approx(value, abs=1e-5)
    assert result["confusion_matrix"] == recorded["confusion_matrix"]


@pytest.mark.slow
def test_a_run_made_from_a_relative_path_is_evaluated_from_anywhere(photo_folder, tmp_path, monkeypatch):
    from keras_transfer.workflow.train import train

    monkeypatch.chdir(photo_folder.parent)
    run = train(photo_folder.name, tmp_path / "run", strategy="probe", **SMALL)
    monkeypatch.chdir(tmp_path)
    assert evaluate("run")["accuracy"] == run.info["metrics"]["test"]["accuracy"]


@pytest.mark.slow
def test_the_model_file_inside_a_run_and_a_keras_object_give_the_same(finished_run, photo_folder):
    by_path = evaluate(finished_run.model_path, photo_folder, split="all")
    assert by_path["images"] == 40
    by_object = evaluate(finished_run.load_model(), load_data(photo_folder), split="all")
    assert by_object["log_loss"] == pytest.approx(by_path["log_loss"], abs=1e-5)


@pytest.mark.slow
def test_images_that_were_trained_on_are_counted_and_said(finished_run, photo_folder, caplog):
    result = evaluate(finished_run.path, photo_folder, split="all")
    assert result["images"] == 40
    table = load_data(photo_folder)
    learned = len(table.indices("train")) + len(table.indices("val"))  # the head was fitted again on both
    assert result["trained_on"] == learned == 32 and finished_run.learned_from == ("train", "val")
    assert "32 of the 40 images were trained on" in caplog.text


@pytest.mark.slow
def test_photos_that_moved_are_known_by_their_content(finished_run, photo_folder, tmp_path, caplog):
    moved = shutil.copytree(photo_folder, tmp_path / "pictures")
    new = load_data(photo_folder).images.load(0)
    Image.fromarray(255 - new).save(moved / "china" / "new.png")
    result = evaluate(finished_run.path, moved)
    assert (result["split"], result["images"], result["trained_on"]) == ("test", 9, 0)
    assert "32 of the 41 images were trained on, judged by their content" in caplog.text
    shutil.rmtree(moved)
    for name in ("china", "flower"):
        (moved / name).mkdir(parents=True)
    for row in csv.DictReader(finished_run.split_path.open(newline="")):
        if row["split"] == "train":
            shutil.copy(photo_folder / row["path"], moved / row["path"])
    result = evaluate(finished_run.path, moved)  # nothing else is left to measure
    assert (result["split"], result["images"], result["trained_on"]) == ("all", 26, 26)


@pytest.mark.parametrize("text", ["\ufeffchina\r\nflower\r\n", "0 china\n1 flower\n", "china\n\nflower"])
def test_labels_files_of_other_programs(tmp_path, text):
    (tmp_path / "labels.txt").write_bytes(text.encode())
    assert read_labels(tmp_path / "labels.txt") == ("china", "flower")


def test_numbers_that_are_no_places_stay_in_a_name(tmp_path):
    (tmp_path / "labels.txt").write_text("1 penny\n2 pence\nan odd\x85name\n")
    assert read_labels(tmp_path / "labels.txt") == ("1 penny", "2 pence", "an odd\x85name")


def without_softmax(finished_run):
    model = finished_run.load_model()
    return keras.Model(model.inputs, model.get_layer("logits").output)


@pytest.mark.slow
def test_logits_are_refused_and_get_a_softmax_where_it_is_asked_for(finished_run, photo_folder, tmp_path):
    model, table = without_softmax(finished_run), load_data(photo_folder)
    photo = next(photo_folder.rglob("*.png"))
    labels = tmp_path / "labels.txt"
    labels.write_text("china\nflower\n")
    with pytest.raises(UsageError, match=r"are not probabilities: .*from_logits=True.*--logits"):
        evaluate(model, table)
    with pytest.raises(UsageError, match="not probabilities"):
        list(predict(model, [photo], labels=labels))
    assert evaluate(model, table, logits=True)["log_loss"] == pytest.approx(
        evaluate(finished_run.load_model(), table)["log_loss"], abs=1e-5
    )
    (one,), (other,) = (
        list(predict(asked, [photo], labels=labels, logits=asked is model))
        for asked in (model, finished_run.path)
    )
    assert one["classes"][0]["probability"] == pytest.approx(other["classes"][0]["probability"], abs=1e-5)


@pytest.mark.slow
def test_independent_answers_are_no_classes(finished_run, photo_folder):
    model = without_softmax(finished_run)
    sigmoid = keras.Model(model.inputs, keras.ops.sigmoid(5 + 0 * model.output))
    with pytest.raises(UsageError, match=r"rows sum to 1\.99, not to 1.*multilabel"):
        evaluate(sigmoid, load_data(photo_folder))


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0)])
def test_a_quantized_model_of_another_tool_gets_the_range_its_input_tells(
    finished_run, photo_folder, tmp_path, low, high
):
    """Trained on pixels in [-1, 1]: its uint8 input has the scale 2 / 255, and wants the image's bytes."""
    inner = finished_run.load_model()
    image = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(255 / (high - low), -255 * low / (high - low))(image)
    foreign = keras.Model(image, inner(scaled))
    table = load_data(photo_folder)
    pixels = np.stack([table.images.load(i, Preprocessing(size=(64, 64))) for i in range(40)]).astype(
        np.float32
    )

    def converter():
        made = converter_for(foreign)
        made.optimizations = [converter_tools().Optimize.DEFAULT]
        made.representative_dataset = lambda: ([low + one[None] * (high - low) / 255] for one in pixels)
        made.target_spec.supported_ops = [converter_tools().OpsSet.TFLITE_BUILTINS_INT8]
        made.inference_input_type = made.inference_output_type = tf.uint8
        return made

    (tmp_path / "model.tflite").write_bytes(run_converter(converter, "a model of another tool"))
    (tmp_path / "labels.txt").write_text("china\nflower\n")
    expected = evaluate(finished_run.load_model(), table, split="all")["accuracy"]
    assert evaluate(tmp_path / "model.tflite", table, split="all")["accuracy"] == pytest.approx(
        expected, abs=0.051
    )
    (tmp_path / "float.tflite").write_bytes(convert(foreign))
    wrong, right = (
        evaluate(tmp_path / "float.tflite", table, split="all", input_range=given)["log_loss"]
        for given in (None, (low, high))
    )
    assert right == pytest.approx(
        evaluate(finished_run.load_model(), table, split="all")["log_loss"], abs=1e-3
    )
    assert abs(wrong - right) > 0.01


@pytest.mark.slow
def test_an_h5_file_is_asked_like_any_other(finished_run, photo_folder, tmp_path):
    """As Teachable Machine's download: pixels in [-1, 1], and labels with numbers in front."""
    inner, image = finished_run.load_model(), keras.Input((64, 64, 3))
    keras.Model(image, inner(keras.layers.Rescaling(127.5, 127.5)(image))).save(tmp_path / "keras_model.h5")
    (tmp_path / "labels.txt").write_text("0 china\n1 flower\n")
    found = evaluate(tmp_path / "keras_model.h5", photo_folder, input_range=(-1.0, 1.0))
    expected = evaluate(finished_run.path, photo_folder, split="all")
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-4)


def test_a_recorded_contract_is_not_overridden(finished_run, photo_folder):
    with pytest.raises(UsageError, match="has its contract recorded beside it"):
        evaluate(finished_run.path, photo_folder, input_range=(-1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "path,label\n"])
def test_a_run_that_lost_its_split_says_so(finished_run, photo_folder, tmp_path, content):
    damaged = shutil.copytree(finished_run.path, tmp_path / "run")
    (damaged / "split.csv").unlink()
    if content is not None:
        (damaged / "split.csv").write_text(content + "a,b\n")
    with pytest.raises(RunError, match="which images were trained on"):
        evaluate(damaged, photo_folder, split="all")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_model_without_class_names_is_not_guessed_at(finished_run, photo_folder, tmp_path):
    shutil.copy(finished_run.model_path, tmp_path / "bare.keras")
    with pytest.raises(UsageError, match="class names"):
        evaluate(tmp_path / "bare.keras", photo_folder)
    (tmp_path / "names.txt").write_text("china\nflower\n")
    named = evaluate(tmp_path / "bare.keras", photo_folder, labels=tmp_path / "names.txt")
    assert named["accuracy"] == evaluate(finished_run.model_path, photo_folder, split="all")["accuracy"]
    assert named["accuracy"] > 0.8


@pytest.mark.slow
def test_what_an_archive_left_in_a_folder_is_no_image(finished_run, photo_folder, tmp_path):
    shutil.copy(photo_folder / "china" / "000.png", tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    (answer,) = predict(finished_run, [tmp_path])
    assert answer["path"].endswith("a.png") and "error" not in answer
