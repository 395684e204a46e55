"""CSV sources: paths, labels of all kinds, given splits, groups and weights; every error names its line."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path, photo_folder) -> Path:
    """``photos/china|flower/000.png`` ... and room for a CSV beside it."""
    shutil.copytree(photo_folder, tmp_path / "data" / "photos")
    return tmp_path / "data"


def names(count: int = 6) -> list[str]:
    return [f"photos/{label}/{i:03d}.png" for label in ("china", "flower") for i in range(count)]


def write(folder: Path, header: str, rows: list[str], encoding: str = "utf-8", newline: str = "\n") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(newline.join([header, *rows, ""]).encode(encoding))
    return path


def labelled(count: int = 6) -> list[str]:
    return [f"{name},{name.split('/')[1]}" for name in names(count)]


def test_path_and_label(folder):
    table = load_data(write(folder, "path,label", labelled()))
    assert table.label_mode == "classes" and table.classes == ("china", "flower") and len(table) == 12
    assert table.images.load(0).shape == (96, 96, 3)
    assert table.labels.tolist() == [0] * 6 + [1] * 6


def test_image_root(folder, tmp_path):
    csv_path = write(tmp_path, "path,label", [row.removeprefix("photos/") for row in labelled()])
    assert len(load_data(csv_path, image_root=folder / "photos")) == 12
    assert len(load_data(str(csv_path), image_root=str(folder / "photos"))) == 12


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_bom_line_ends_quotes_and_accents(folder, encoding, newline):
    (folder / "photos" / "a, b.png").write_bytes((folder / "photos/china/000.png").read_bytes())
    rows = [row.replace("china", "Größe", 2).replace("photos/Größe", "photos/china") for row in labelled()]
    table = load_data(
        write(folder, '"path", Label ', [*rows, '"photos/a, b.png","Größe"', ""], encoding, newline)
    )
    assert table.classes == ("Größe", "flower") and len(table) == 13


def test_absolute_path_inside_and_dots_that_stay_inside(folder):
    rows = [*labelled(), f"{folder}/photos/china/010.png,china", "photos/china/../flower/010.png,flower"]
    table = load_data(write(folder, "path,label", rows))
    assert table.images.names[-2:] == ("photos/china/010.png", "photos/flower/010.png")


@pytest.mark.parametrize("outside", ["/etc/passwd", "../secret.png", "photos/../../secret.png", "."])
def test_a_path_outside_is_refused_with_its_line(folder, outside):
    with pytest.raises(DataError, match=r"line 4 of .*outside the image root"):
        load_data(write(folder, "path,label", [*labelled()[:2], f"{outside},china"]))


def test_missing_files_are_skipped(folder):
    path = write(folder, "path,label", [*labelled(), "photos/china/nothing.png,china"])
    table = load_data(path, max_skipped=0.1)
    assert [(Path(skip.path).name, skip.reason) for skip in table.skipped] == [
        ("nothing.png", "file not found")
    ]
    with pytest.raises(DataError, match=r"nothing\.png: file not found.*--max-skipped"):
        load_data(path, max_skipped=0.01)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("path,class", "no column 'label'. Found: 'path', 'class'"),
        ("file,label", "no column 'path'. Found: 'file', 'label'"),
        ("path;label", "1 values in line 2 .* and 2 columns, separated by semicolons"),
        ("path:label", "separated by commas"),
        ("path,label,label", "column 'label' twice"),
    ],
)
def test_columns(folder, header, hint):
    with pytest.raises(DataError, match=hint):
        load_data(write(folder, header, labelled()))


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("photos/china/000.png,china,tset,", "Unknown split 'tset' in line 3"),
        ("photos/china/000.png,,train,", "label is empty in line 3"),
        (",china,train,", "path is empty in line 3"),
        ("photos/china/000.png,china,train", "3 values in line 3 .* and 4 columns"),
        ("photos/china/000.png,china,train,x", "weight 'x' in line 3"),
        ("photos/china/000.png,china,train,-1", "weight '-1' in line 3"),
        ("photos/china/000.png,china,train,nan", "weight 'nan' in line 3"),
        ("photos/china/000.png,china,train,1e999", "weight '1e999' in line 3"),
        ("photos/china/000.png,china,,", "split is empty in line 3"),
        ('photos/china/000.png,"china', "not a CSV"),
    ],
)
def test_bad_rows_are_named(folder, row, hint):
    with pytest.raises(DataError, match=hint):
        load_data(write(folder, "path,label,split,weight", ["photos/flower/000.png,flower,train,1", row]))


def test_not_utf8(folder):
    with pytest.raises(DataError, match="not UTF-8 in line 2"):
        load_data(write(folder, "path,label", ["photos/china/000.png,Größe"], encoding="latin-1"))
    with pytest.raises(DataError, match="not UTF-8 in line 1"):
        load_data(write(folder, "path,label,Größe", labelled(), encoding="latin-1"))


def test_empty_and_missing(folder):
    (folder / "labels.csv").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        load_data(folder / "labels.csv")
    with pytest.raises(DataError, match="no rows"):
        load_data(write(folder, "path,label", []))
    with pytest.raises(UsageError, match="no CSV file"):
        load_data(folder / "nothing.csv")
    with pytest.raises(UsageError, match="no image root"):
        load_data(write(folder, "path,label", labelled()), image_root=folder / "nothing")


def test_given_splits_groups_and_weights(folder):
    splits = ["train", "train", "val", "Validation", "test", "TEST"] * 2
    rows = [f"{row},{split},,{i / 4}" for i, (row, split) in enumerate(zip(labelled(), splits, strict=True))]
    table = load_data(write(folder, "path,label,split,group,weight", rows))
    assert table.splits.tolist() == ["train", "train", "val", "val", "test", "test"] * 2
    assert table.weights.tolist() == [i / 4 for i in range(12)] and table.weights.dtype == np.float32
    assert table.groups is None


def test_groups_stay_whole(folder):
    rows = [f"{row},g{i // 2}" for i, row in enumerate(labelled(20))]
    table = load_data(write(folder, "path,label,group", rows))
    assert table.groups is not None
    sides = {group: set(table.splits[table.groups == group].tolist()) for group in set(table.groups.tolist())}
    assert len(sides) == 20 and all(len(splits) == 1 for splits in sides.values())
    assert {next(iter(splits)) for splits in sides.values()} == {"train", "val", "test"}


def test_a_row_without_a_group_is_alone(folder):
    rows = [f"{row},{'g' if i < 2 else ''}" for i, row in enumerate(labelled())]
    table = load_data(write(folder, "path,label,group", rows))
    assert len(set(table.groups.tolist())) == 11


def test_a_group_on_both_sides_of_given_splits(folder):
    rows = [f"{row},{split},g" for row, split in zip(labelled(), ["train", "test"] * 6, strict=True)]
    with pytest.raises(DataError, match="'g' in train and test"):
        load_data(write(folder, "path,label,split,group", rows))


def test_an_unknown_label_in_the_test_split(folder):
    rows = [f"{row},train" for row in labelled()]
    rows += ["photos/china/010.png,zebra,test", "photos/china/011.png,zebra,test"]
    with pytest.raises(DataError, match=r"test split .* 'zebra', and the train split has none"):
        load_data(write(folder, "path,label,split", rows))


def test_splits_without_train(folder):
    rows = [f"{row},test" for row in labelled()]
    path = write(folder, "path,label,split", rows)
    with pytest.raises(DataError, match="no row of the train split"):
        load_data(path)
    assert len(load_data(path, classes=["china", "flower"]).indices("test")) == 12


def test_duplicate_rows(folder):
    rows = labelled()
    table = load_data(write(folder, "path,label", [*rows, rows[0], "./" + rows[1]]))
    assert len(table) == 12
    with pytest.raises(DataError, match=r"'china' in line 2 of .* and 'flower' in line 14"):
        load_data(write(folder, "path,label", [*rows, "photos/china/000.png,flower"]))


# --- kinds of labels ---


def with_labels(folder: Path, labels: list[str]) -> Path:
    return write(
        folder, "path,label", [f'{name},"{label}"' for name, label in zip(names(), labels, strict=True)]
    )


def test_several_labels(folder, caplog):
    labels = ["a;b", "b", "a", "", "a; b", "c", "c;a", "b;b", "c", "a", "b", "c"]
    with caplog.at_level(logging.INFO, "keras_transfer"):
        table = load_data(with_labels(folder, labels))
    assert "are read as multilabel" in caplog.text
    assert table.label_mode == "multilabel" and table.classes == ("a", "b", "c")
    assert table.labels.dtype == np.uint8
    assert table.labels[:5].tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert table.labels[7].tolist() == [0, 1, 0]


def test_whole_numbers_are_classes(folder, caplog):
    with caplog.at_level(logging.INFO, "keras_transfer"):
        table = load_data(with_labels(folder, ["0", "1", "10"] * 4))
    assert "are read as classes" in caplog.text
    assert table.label_mode == "classes" and table.classes == ("0", "1", "10")


@pytest.mark.parametrize("labels", [["1.5", "2", "-3e2"], ["1", "2", "3."], ["1", "2", "3e0"]])
def test_numbers_with_a_point_or_an_exponent_are_regression(folder, labels):
    table = load_data(with_labels(folder, labels * 4))
    assert table.label_mode == "regression" and table.classes == ()
    assert table.labels.dtype == np.float32 and table.labels.shape == (12, 1)
    assert table.labels[:3, 0].tolist() == [float(label) for label in labels]
    assert {"train", "val", "test"} == set(table.splits.tolist())


def test_one_word_among_the_numbers_makes_them_classes(folder):
    assert load_data(with_labels(folder, ["1.5", "2.5", "nan"] * 4)).label_mode == "classes"


def test_several_numbers(folder):
    table = load_data(with_labels(folder, ["1.5;2", "2;3"] * 6))
    assert table.label_mode == "regression" and table.labels.shape == (12, 2)
    with pytest.raises(DataError, match=r"line 3 of .* has 1 numbers"):
        load_data(with_labels(folder, ["1.5;2", "2.5"] * 6))


def test_the_kind_can_be_said(folder):
    whole = ["1", "2", "3"] * 4
    assert load_data(with_labels(folder, whole), label_mode="regression").labels.shape == (12, 1)
    assert load_data(with_labels(folder, whole), label_mode="multilabel").labels.shape == (12, 3)
    assert load_data(with_labels(folder, ["1.5", "2.5"] * 6), label_mode="classes").classes == ("1.5", "2.5")
    assert load_data(with_labels(folder, ["a;b", "c"] * 6), label_mode="classes").classes == ("a;b", "c")


@pytest.mark.parametrize("label", ["many", "nan", "inf", "1e40"])
def test_regression_needs_finite_numbers(folder, label):
    with pytest.raises(DataError, match=r"in line 2 .*number"):
        load_data(with_labels(folder, [label] + ["1.5"] * 11), label_mode="regression")


def test_regression_with_classes(folder):
    with pytest.raises(UsageError, match="regression"):
        load_data(with_labels(folder, ["1.5", "2"] * 6), label_mode="regression", classes=["a"])


# --- the recorded split is a source ---


@pytest.mark.parametrize("labels", [["1.5", "2.5"], ["0.1", "0.2"], ["a;b", "c"], ["1", "2"]])
@pytest.mark.parametrize("kind", ["auto", "classes"])
def test_round_trip(folder, tmp_path, labels, kind):
    table = load_data(with_labels(folder, labels * 6), label_mode=kind)
    recorded = tmp_path / "run" / "split.csv"
    table.write_csv(recorded)
    again = load_data(recorded, image_root=folder)
    assert again.label_mode == table.label_mode and again.classes == table.classes
    assert np.array_equal(again.labels, table.labels)
    assert (again.splits == table.splits).all()
    assert again.fingerprint() == table.fingerprint()
    assert os.listdir(recorded.parent) == ["split.csv"]  # noqa: PTH208
