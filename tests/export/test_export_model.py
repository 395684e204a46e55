"""The small network goes through the whole export; what goes wrong leaves nothing that looks finished."""

import json
import os
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, ExportError, ParityError, UsageError
from keras_transfer.export import About, ExportOptions, conversion, export_model, exporter, load_runner
from keras_transfer.export.parity import Judge, breaches, doubts, measure_parity, tolerance_for
from keras_transfer.export.proving import look_again
from keras_transfer.export.report import ArtefactReport
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.verify import verify


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def wrong(monkeypatch, small):
    """A converter that converts another model: the classes are exchanged."""
    genuine = conversion.convert

    def convert(_, precision):
        image = keras.Input(small.inputs[0].shape[1:])
        return genuine(keras.Model(image, small(image)[:, ::-1]), precision)

    monkeypatch.setattr(conversion, "convert", convert)


@pytest.mark.slow
def test_the_folder_tells_everything(export, small, table, tmp_path, capfd):
    report = export(tmp_path / "new" / "edge", formats=("saved-model", "tflite"))
    folder = tmp_path / "new" / "edge"
    assert names(folder) == [
        "README.md",
        "bundle.json",
        "classify.py",
        "clients",
        "golden",
        "labels.txt",
        "model.tflite",
        "saved_model",
    ]
    assert names(tmp_path / "new") == ["edge"]  # no temporary folder beside it
    assert (folder / "labels.txt").read_text().splitlines() == list(table.classes)
    bundle = json.loads((folder / "bundle.json").read_text())
    assert Preprocessing.from_dict(bundle["preprocessing"]) == Preprocessing((96, 96))
    parity = report.to_dict()
    assert bundle["artefacts"] == parity["artefacts"] and bundle["measured"]["keras"] == parity["keras"]
    assert parity["passed"] and parity["split"] == "test" and parity["images"] == len(table.indices("test"))
    assert parity["threads"] == os.cpu_count() and parity["calibration"] is None
    assert [row["file"] for row in parity["artefacts"]] == ["saved_model/", "model.tflite"]
    for row in parity["artefacts"]:
        assert row["agreement"] == 1 and row["max_difference"] <= 1e-4 and row["precision"] == "float32"
        assert row["accuracy"] == row["keras_accuracy"] == parity["keras"]["accuracy"]
        assert row["milliseconds"] > 0 and len(row["sha256"]) == 64
    assert parity["artefacts"][1]["bytes"] == (folder / "model.tflite").stat().st_size
    assert "tmp" not in json.dumps(bundle)  # no path of this machine
    assert capfd.readouterr() == ("", "")
    assert all(layer.trainable for layer in small.layers)


def test_class_names_come_from_the_data_and_a_title_from_the_options(small, table, preprocessing, tmp_path):
    export_model(
        small,
        tmp_path / "edge",
        table=table,
        preprocessing=preprocessing,
        options=ExportOptions(formats=("keras",), title="cells", data_licence="CC0"),
        about=About("network", weights_licence="none", data_licence="unknown"),
    )
    info = json.loads((tmp_path / "edge" / "bundle.json").read_text())
    assert info["labels"] == list(table.classes) and info["title"] == "cells"
    assert info["licences"] == {"weights": "none", "data": "CC0"}


@pytest.mark.slow
def test_a_wrong_artefact_fails_and_leaves_only_the_evidence(export, wrong, tmp_path):
    with pytest.raises(ParityError, match=r"model\.tflite: .*differ") as caught:
        export(formats=("saved-model", "tflite"))
    assert caught.value.exit_code == 1
    assert names(tmp_path) == ["edge"] and names(tmp_path / "edge") == ["parity.json"]
    evidence = json.loads((tmp_path / "edge" / "parity.json").read_text())
    saved, tflite = evidence["artefacts"]
    assert not evidence["passed"] and saved["passed"] and not tflite["passed"]
    assert tflite["agreement"] == 0 and tflite["max_difference"] > 1e-4
    assert tflite["reasons"] and tflite["tolerance"]["max_difference"] == 1e-4


@pytest.mark.slow
def test_the_export_works_after_a_failed_one_without_overwriting(export, wrong, monkeypatch, tmp_path):
    with pytest.raises(ParityError):
        export()
    monkeypatch.undo()
    assert export().passed
    assert "model.tflite" in names(tmp_path / "edge")


@pytest.mark.slow
def test_a_failure_that_is_allowed_is_kept_and_said(export, wrong, tmp_path, caplog):
    report = export(allow_parity_failure=True)
    assert not report.passed and not report.to_dict()["artefacts"][0]["passed"]
    assert "model.tflite" in names(tmp_path / "edge")
    assert "does not answer like the Keras model" in caplog.text


@pytest.mark.slow
def test_an_artefact_that_gives_nan_fails(export, small, monkeypatch, tmp_path):
    genuine = conversion.convert

    def convert(_, precision):
        broken = keras.models.clone_model(small)
        broken.set_weights([np.full_like(weight, np.nan) for weight in small.get_weights()])
        return genuine(broken, precision)

    monkeypatch.setattr(conversion, "convert", convert)
    with pytest.raises(ParityError, match="not finite"):
        export()
    evidence = json.loads((tmp_path / "edge" / "parity.json").read_text())
    assert evidence["artefacts"][0]["max_difference"] is None
    export(allow_parity_failure=True)
    golden = (tmp_path / "edge" / "golden" / "golden.json").read_text()
    assert "NaN" not in golden and not verify(tmp_path / "edge").passed


@pytest.mark.slow
def test_an_earlier_export_is_only_replaced_when_asked(export, tmp_path):
    export(formats=("keras",))
    before = (tmp_path / "edge" / "bundle.json").read_text()
    with pytest.raises(UsageError, match="already holds an export"):
        export()
    assert (tmp_path / "edge" / "bundle.json").read_text() == before
    export(overwrite=True)
    assert "model.keras" not in names(tmp_path / "edge") and "model.tflite" in names(tmp_path / "edge")
    assert names(tmp_path) == ["edge"]


def test_other_peoples_files_are_never_replaced(export, tmp_path):
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "thesis.docx").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"thesis\.docx"):
            export(overwrite=overwrite)
    assert (tmp_path / "edge" / "thesis.docx").read_text() == "precious"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("precious")  # a name that a bundle has, too
    with pytest.raises(UsageError, match=r"README\.md"):
        export(tmp_path / "notes", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        export(tmp_path / "file", overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_nothing(export, monkeypatch, tmp_path, error):
    export(formats=("keras",))
    before = {path: path.read_bytes() for path in (tmp_path / "edge").rglob("*") if path.is_file()}

    def interrupted(*_):
        raise error

    monkeypatch.setattr(exporter.Answers, "collect", interrupted)
    for to, overwrite in (("edge", True), ("other", False)):
        with pytest.raises(type(error)):
            export(tmp_path / to, overwrite=overwrite, formats=("keras",))
    assert names(tmp_path) == ["edge"]
    assert {path: path.read_bytes() for path in (tmp_path / "edge").rglob("*") if path.is_file()} == before


def test_a_full_disk_is_one_sentence(export, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "_write_texts", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(formats=("keras",))
    assert names(tmp_path) == []


def test_an_image_that_is_gone_stops_the_export(export, photo_folder, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photo_folder, copy)
    table = load_data(copy, test_fraction=0.4, seed=0)
    table.images.path(int(table.indices("test")[0])).unlink()
    with pytest.raises(DataError, match="could be read when the data was loaded"):
        export(table=table, formats=("keras",))
    assert names(tmp_path) == ["photos"]


@pytest.mark.slow
def test_the_split(export, photo_folder, caplog):
    without_test = load_data(photo_folder, test_fraction=0, val_fraction=0.3)
    assert export(table=without_test, formats=("keras",)).split == "val"
    assert "no test images" in caplog.text
    only_train = {
        "table": load_data(photo_folder, test_fraction=0, val_fraction=0),
        "formats": ("keras",),
        "overwrite": True,
    }
    with pytest.raises(UsageError, match="neither test nor val"):
        export(**only_train)
    assert export(**only_train, parity_split="train").images == len(only_train["table"])
    with pytest.raises(UsageError, match="no images in the split 'test'"):
        export(**only_train, parity_split="test")


def grey_network():
    image = keras.Input((96, 96, 1))
    return keras.Model(image, keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(image)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("tflit",)}, "Did you mean tflite"),
        ({"precisions": ("int4",)}, "no precision 'int4'"),
        ({"formats": ()}, "No format"),
        ({"formats": ("saved-model",), "precisions": ("int8",)}, "for the format 'tflite'"),
        ({"precisions": ("int8",), "calibration_size": 0}, "calibration size is 0"),
        ({"precisions": ("int8",), "keep_float": -1}, "0 or more"),
        ({"keep_float": 1}, "for int8"),
        ({"all_integer": True}, "for int8"),
        ({"precisions": ("int8",), "keep_float": 1, "all_integer": True}, "all-integer"),
        ({"parity_split": "tets"}, "Did you mean test"),
        ({"classes": ("china",)}, "1 class"),
        ({"classes": ("flower", "china")}, "same order"),
        ({"classes": ("china", "china")}, "the same name"),
        ({"classes": ("china", "flow\ner")}, "one line"),
        ({"classes": ("china", "flow\udce9r")}, "UTF-8"),
        ({"preprocessing": Preprocessing((64, 64))}, "fixed image size"),
        ({"model": grey_network()}, "takes images of 1 channels; RGB images of 3 channels are expected"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(export, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        export(**changes)
    assert names(tmp_path) == []


@keras.saving.register_keras_serializable("tests")
class Registered(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x


class Unregistered(Registered):
    """Keras cannot find this class when it reads the file."""


def wrapped(layer):
    image = keras.Input((96, 96, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 5, strides=5)(layer(image)))
    return keras.Model(image, keras.layers.Softmax()(x), name="wrapped")


@pytest.mark.slow
def test_a_custom_layer_is_exported_or_one_sentence(export, tmp_path):
    assert export(model=wrapped(Registered()), formats=("keras",)).passed
    with pytest.raises(ExportError, match=r"custom layers or code.*Leave out the format 'keras'"):
        export(tmp_path / "other", model=wrapped(Unregistered()), formats=("keras", "tflite"))
    assert not (tmp_path / "other").exists()
    assert export(tmp_path / "other", model=wrapped(Unregistered()), formats=("tflite",)).passed


@pytest.mark.nightly
def test_a_custom_layer_is_exported_to_every_format(export, tmp_path):
    assert export(model=wrapped(Registered()), formats=("keras", "tflite")).passed
    assert export(tmp_path / "other", model=wrapped(Unregistered()), formats=("saved-model", "tflite")).passed


def test_models_that_have_no_fixed_image_are_refused(export, tmp_path):
    free = keras.Input((None, None, 3))
    scores = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(free))
    with pytest.raises(UsageError, match="needs a fixed image size"):
        export(model=keras.Model(free, scores))
    both = [keras.Input((96, 96, 3), name="left"), keras.Input((96, 96, 3), name="right")]
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(both))
    with pytest.raises(UsageError, match="2 inputs and 1 outputs"):
        export(model=keras.Model(both, keras.layers.Dense(2, activation="softmax")(pooled)))
    assert names(tmp_path) == []


def test_a_title_that_no_file_can_hold_is_refused_at_once():
    with pytest.raises(UsageError, match=r"data licence .* cannot be written as UTF-8"):
        About("cells", data_licence="\udce9")


def test_a_model_with_broken_weights_is_refused(export, small, tmp_path):
    small.set_weights([np.full_like(weight, np.nan) for weight in small.get_weights()])
    with pytest.raises(DataError, match="not finite"):
        export(formats=("keras",))
    assert names(tmp_path) == []


@pytest.mark.slow
def test_the_artefact_that_was_proven_is_the_one_in_the_folder(export, held_out, small, tmp_path):
    export()
    answer = load_runner(tmp_path / "edge" / "model.tflite").predict(held_out)
    np.testing.assert_allclose(answer, np.asarray(small(held_out.astype(np.float32))), atol=1e-4)


class Recorded:
    """A runtime that gives answers that are known."""

    def __init__(self, answers):
        self.answers = answers

    def predict(self, batch):
        assert len(batch) == len(self.answers)
        return self.answers


def no_more_than_16(outputs, table):
    """A measure of a task that learned from the validation images."""
    if len(table) > 16:
        raise DataError("These were learned from.")
    return {"accuracy": float(np.mean(outputs.argmax(axis=1) == table.labels))}


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "less is lost"), (6, "refused"), (6, "not measured")])
def test_where_the_test_images_cannot_tell_the_validation_images_are_asked(
    table, preprocessing, tmp_path, wrong, verdict
):
    """One of 16 test images is lost: chance or not? On six validation images nothing is lost, or all."""
    table = replace(
        table, splits=np.where(np.arange(40) < 16, "test", np.where(np.arange(40) < 22, "val", "train"))
    )
    judge = (
        Judge(table.classes, measure=no_more_than_16) if verdict == "not measured" else Judge(table.classes)
    )
    reference = np.eye(2, dtype=np.float32)[table.labels]
    candidate = reference.copy()
    candidate[0] = candidate[0, ::-1]
    candidate[16 : 16 + wrong] = candidate[16 : 16 + wrong, ::-1]
    test = table.take(table.indices("test"))
    parity = measure_parity(reference[:16], candidate[:16], judge, test)
    tolerance = tolerance_for("int8", judge, reference)
    told = doubts(parity, tolerance, judge)
    assert len(told) == 1 and not breaches(parity, tolerance, judge)
    report = ArtefactReport(
        "model_int8.tflite", "int8", 1, "", (), (), "accuracy", parity, tolerance, 1.0, (), told
    )
    runtimes = [Recorded(reference[16:22]), Recorded(candidate[16:22])]
    (found,) = look_again(
        [report], runtimes, [reference[:16], candidate[:16]], table, preprocessing, judge, tmp_path
    )
    if verdict == "not measured":
        assert found == report
        return
    assert found.parity.loss == pytest.approx((1 + wrong) / 22) and found.parity.images == 16
    if verdict == "refused":
        assert "(7 of 22 images)" in found.reasons[-1] and not found.doubts
    else:
        assert not found.reasons and "on 22 images" in found.doubts[0]
