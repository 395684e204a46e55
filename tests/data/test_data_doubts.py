"""What could silently mean something else is used as what it is, said, or refused with the way out."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_data_folder import write_images

from keras_transfer.data import load_data
from keras_transfer.data.labels import other_separator
from keras_transfer.data.split_names import split_of
from keras_transfer.errors import DataError, UsageError
from keras_transfer.outputs import Outputs
from keras_transfer.workflow.predict import find_images


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, logger="keras_transfer")
    return caplog


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, "train")
            for name in ("train", "Training", "TRAIN", "training_set", "seg_train", "train2017")
        ),
        *(
            (name, "train")
            for name in ("TrainImages", "trainset", "images-train", "train 1", "training data")
        ),
        *((name, "val") for name in ("val", "valid", "Validation", "val_images", "validset")),
        *((name, "test") for name in ("test", "Testing", "test_set", "TestData", "testset")),
        *(
            (name, None)
            for name in ("train_old", "trainer", "contest", "cat", "train_test", "attest", "", "2017")
        ),
        ("locomotive train", None),
    ],
)
def test_plain_names_of_splits(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("TRAIN", "VAL")],
)
def test_splits_under_other_names_are_splits(tmp_path, names):
    for seed, (name, count) in enumerate(zip(names, (12, 4), strict=True)):
        for label in ("cat", "dog"):
            write_images(tmp_path / name / label, count, seed)
    table = load_data(tmp_path, val_fraction=0, test_fraction=0)
    assert table.classes == ("cat", "dog")
    assert len(table.indices("train")) == 24 and len(table) == 32


def test_a_split_folder_in_a_split_folder(tmp_path):
    for name, count in (("seg_train", 12), ("seg_test", 4)):
        for label in ("cat", "dog"):
            write_images(tmp_path / name / name / label, count)
    table = load_data(tmp_path)
    assert table.classes == ("cat", "dog") and len(table.indices("test")) == 8


def test_splits_below_the_classes_are_splits(tmp_path):
    for label in ("cat", "dog"):
        write_images(tmp_path / label / "train", 12, 1)
        write_images(tmp_path / label / "test", 4, 2)
    table = load_data(tmp_path)
    assert table.classes == ("cat", "dog") and len(table.indices("test")) == 8


@pytest.mark.parametrize("names", [("old", "new"), ("train_old", "train_new"), ("part1", "part2", "part3")])
def test_the_same_folders_below_every_class_are_refused_by_name(tmp_path, names):
    for seed, name in enumerate(names):
        for label in ("cat", "dog"):
            write_images(tmp_path / name / label, 6, seed)
    with pytest.raises(
        DataError, match=rf"{sorted(names)[0]}, .*each has the folders cat, dog.*train, val and test"
    ):
        load_data(tmp_path)
    # A trained model knows its classes: what lies below them is its user's.
    assert len(load_data(tmp_path, classes=sorted(names))) == 12 * len(names)


def test_one_split_folder_beside_others_is_refused(tmp_path):
    for label in ("cat", "dog"):
        write_images(tmp_path / "train" / label, 6)
    write_images(tmp_path / "extra", 6)
    with pytest.raises(DataError, match=r"split folders \(train\) beside others \(extra\)"):
        load_data(tmp_path)


def test_other_folders_below_classes_are_theirs(tmp_path):
    write_images(tmp_path / "animals" / "cat", 6)
    write_images(tmp_path / "animals" / "dog", 6)
    write_images(tmp_path / "vehicles" / "bus", 6)
    write_images(tmp_path / "vehicles" / "car", 6)
    assert load_data(tmp_path).classes == ("animals", "vehicles")


def test_what_this_tool_wrote_and_what_systems_leave_is_no_class(tmp_path):
    for label in ("cat", "dog"):
        write_images(tmp_path / label, 10)
    for name, file in (("run", "run.json"), ("edge", "bundle.json"), ("runs/first", "run.json")):
        write_images(tmp_path / name / "plots", 3)
        (tmp_path / name / file).write_text(json.dumps({"schema": 1}))
    for name in (
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "cat/@eaDir",
        ".thumbnails",
    ):
        write_images(tmp_path / name, 3)
    heat = (tmp_path / "cat" / "0.png").read_bytes()
    Outputs().write(tmp_path / "looks" / "0.png", heat + b"heat")
    Outputs().write(tmp_path / "cat" / "0_looks.png", heat + b"look")
    table = load_data(tmp_path)
    assert table.classes == ("cat", "dog") and len(table) == 20
    assert {skip.reason for skip in table.skipped} == {
        "a run or a bundle of this tool",
        "written by this tool",
    }
    assert not any(skip.counted for skip in table.skipped)
    assert len(find_images([tmp_path])) == 20
    assert len(find_images([tmp_path / "looks" / "0.png"])) == 1  # asked for by its name
    (tmp_path / "run" / "run.json").write_text("{}")  # another tool's
    assert load_data(tmp_path).classes == ("cat", "dog", "run")


def test_photos_of_other_formats_are_said_and_count(tmp_path, caplog):
    for label in ("cat", "dog"):
        write_images(tmp_path / label, 10)
    for i in range(4):
        (tmp_path / "cat" / f"{i}.DNG").write_bytes(b"photo")
        (tmp_path / "dog" / f"{i}.jp2").write_bytes(b"photo")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(DataError, match=r"8 of 28 images .*a format that is not read \(\.DNG\)"):
        load_data(tmp_path)
    table = load_data(tmp_path, max_skipped=0.5)
    assert len(table) == 20 and table.summary()["skipped"] == 8
    (line,) = {
        record.message
        for record in caplog.records
        if record.levelname == "WARNING" and "Left" in record.message
    }
    assert "4 .dng (a format that is not read)" in line and "4 .jp2" in line and "JPEG or PNG" in line
    assert "1 .txt (not an image by its name)" in line
    caplog.clear()
    assert len(find_images([tmp_path])) == 20
    assert "4 .dng" in caplog.text


@pytest.mark.parametrize("mark", ["|", ",", " ", "+", "/"])
def test_labels_joined_by_another_sign(tmp_path, photo_folder, caplog, mark):
    labels = [
        ["cat"],
        ["cat", "dark"],
        ["dog"],
        ["dog", "dark"],
        ["cat", "dark", "small"],
        ["dog", "small"],
    ] * 2
    files = [file.relative_to(photo_folder).as_posix() for file in sorted(photo_folder.rglob("*.png"))]
    rows = [f'{file},"{mark.join(names)}"' for file, names in zip(files, labels, strict=False)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    given = {"image_root": photo_folder, "min_per_class": 1, "val_fraction": 0, "test_fraction": 0}
    load_data(table, **given)
    assert f"look like several names joined by {mark!r}" in caplog.text and "--separator" in caplog.text
    with pytest.raises(DataError, match=r"Pass --separator"):
        load_data(table, label_mode="multilabel", **given)
    found = load_data(table, separator=mark, **given)
    assert found.label_mode == "multilabel" and found.classes == ("cat", "dark", "dog", "small")
    assert found.labels.sum() == sum(len(names) for names in labels)


def test_names_that_happen_to_share_words_are_names():
    assert other_separator(["red apple", "green pear", "blue plum"]) is None
    assert other_separator(["red apple", "green apple", "red pear", "green pear"]) is None
    assert other_separator(["cat", "dog", "Labrador, black"]) is None
    assert other_separator(["cat|dog", "cat", "cat|bird", "dog|bird"]) == "|"


def test_a_separator_is_a_text():
    with pytest.raises(UsageError, match="separator is ''"):
        load_data("anything", separator="")


def test_one_photo_under_two_labels_is_said_and_listed(tmp_path, caplog):
    for label in ("cat", "dog"):
        write_images(tmp_path / label, 10)
    for i in range(4):
        shutil.copy(tmp_path / "cat" / f"{i}.png", tmp_path / "dog" / f"copy{i}.png")
    shutil.copy(tmp_path / "cat" / "9.png", tmp_path / "cat" / "again.png")  # a copy of the same label
    table = load_data(tmp_path)
    assert "4 images have contradicting labels (identical files)" in caplog.text
    assert "0.png (cat) and " in caplog.text and "and 1 more" in caplog.text
    assert table.summary()["conflicts"][0] == ["cat/0.png", "dog/copy0.png"]
    assert len(table.summary()["conflicts"]) == 4


@pytest.mark.parametrize(("top", "told"), [(1023, 64), (4095, 16), (65535, None)])
def test_a_small_range_in_sixteen_bits_is_said(tmp_path, caplog, top, told):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(4):
            pixels = rng.integers(0, top, (8, 8), endpoint=True).astype(np.uint16)
            pixels[0, 0] = top
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    load_data(tmp_path)
    if told is None:
        assert "16 bits" not in caplog.text
    else:
        assert (
            f"8 images have 16 bits per value and use {100 * top / 65535:.1f} % of that range" in caplog.text
        )
        assert f"Multiply their values by {told}," in caplog.text


def test_a_csv_knows_the_same_words_for_splits(tmp_path, photo_folder):
    files = [file.relative_to(photo_folder).as_posix() for file in sorted(photo_folder.rglob("*.png"))]
    words = ["Training", "Testing"] * 20
    rows = [f"{file},{file.split('/')[0]},{word}" for file, word in zip(files, words, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    table = load_data(tmp_path / "labels.csv", image_root=photo_folder, val_fraction=0)
    assert len(table.indices("test")) == 20


def test_predict_takes_archives_and_addresses(tmp_path):
    import fsspec

    for label in ("cat", "dog"):
        write_images(tmp_path / "photos" / label, 4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(tmp_path.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path).as_posix())
    expected = [path.read_bytes() for path in find_images([tmp_path / "photos"])]
    assert [path.read_bytes() for path in find_images([tmp_path / "a.zip"])] == expected
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "photos"), "/predict/photos", recursive=True)
    try:
        assert [path.read_bytes() for path in find_images(["memory://predict/photos"])] == expected
    finally:
        store.rm("/predict", recursive=True)
