"""CSV files as people, programs and regions write them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path, photo_folder) -> Path:
    shutil.copytree(photo_folder, tmp_path / "data" / "photos")
    return tmp_path / "data"


NAMES = [f"photos/{label}/{i:03d}.png" for label in ("china", "flower") for i in range(6)]


def table_of(folder, header, values, *, sign=",", encoding="utf-8", first="", names=NAMES, **options):
    """What is read of a CSV with a row for each image: its path, then ``values[i % len(values)]``."""
    rows = [sign.join([name, *values[i % len(values)]]) for i, name in enumerate(names)]
    (folder / "labels.csv").write_bytes((first + "\r\n".join([sign.join(header), *rows])).encode(encoding))
    return load_data(folder / "labels.csv", **options)


@pytest.mark.parametrize("sign", [";", "\t", "|", ","])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_separators_and_encodings(folder, sign, encoding):
    table = table_of(
        folder, ["Path", "Label", "Note"], [["Größe", "x"], ["b", "y"]], sign=sign, encoding=encoding
    )
    assert table.classes == ("Größe", "b") and len(table) == 12


def test_the_first_line_of_excel(folder):
    assert table_of(folder, ["path", "label"], [["a"], ["b"]], sign=";", first="sep=;\r\n").classes == (
        "a",
        "b",
    )


def test_a_tsv_and_other_names_of_the_path(folder):
    rows = [f"{name}\t{name.split('/')[1]}" for name in NAMES]
    (folder / "labels.tsv").write_text("\n".join(["filename\tlabel", *rows]))
    assert load_data(folder / "labels.tsv").classes == ("china", "flower")


def test_decimal_commas(folder):
    table = table_of(folder, ["path", "label", "weight"], [["1,5", "0,5"], ["-2", "1"]], sign=";")
    assert table.label_mode == "regression" and table.labels[:2, 0].tolist() == [1.5, -2]
    assert table.weights[:2].tolist() == [0.5, 1]
    two = table_of(folder, ["path", "label"], [['"1,5;2,25"'], ['"0;1"']], sign=";")
    assert two.labels[0].tolist() == [1.5, 2.25]
    assert table_of(folder, ["path", "label"], [["1,5"], ["2"]], sign=";", label_mode="classes").classes == (
        "1,5",
        "2",
    )
    assert table_of(folder, ["path", "label"], [["a,b"], ["c"]], sign=";").classes == ("a,b", "c")


def test_numbers_as_labels_are_in_the_order_of_numbers(folder):
    assert table_of(folder, ["path", "label"], [["10"], ["9"], ["1"]]).classes == ("1", "9", "10")
    assert table_of(folder, ["path", "label"], [["10"], ["9"], ["x"]]).classes == ("10", "9", "x")


@pytest.mark.parametrize("values", [["1", "0", "0"], ["1.0", "", "0.0"], ["True", "False", "false"]])
def test_one_hot_columns(folder, values):
    rows = [values, values[1:] + values[:1], values[2:] + values[:2]]
    table = table_of(folder, ["path", "Dog", "cat", "Ant"], rows)
    assert table.label_mode == "classes" and table.classes == ("Ant", "Dog", "cat")
    assert [table.label_text(i) for i in range(3)] == ["Dog", "Ant", "cat"]


def test_several_hot_columns(folder):
    rows = [["1", "0", "yes", "3"], ["1", "1", "no", "4"], ["0", "0", "no", "5"], ["0", "1", "yes", "6"]]
    table = table_of(folder, ["path", "a", "b", "c", "age"], rows)
    assert table.label_mode == "multilabel" and table.classes == ("a", "b", "c")
    assert table.labels[:4].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 1]]
    with pytest.raises(DataError) as caught:
        table_of(folder, ["path", "a", "b", "c", "age"], rows, label_mode="classes")
    assert str(caught.value) == (
        f"2 of the columns a, b, c give line 2 of {folder / 'labels.csv'} a label; expected one class an image. Use "
        "--task multilabel, or correct the row."
    )


def test_several_label_columns(folder):
    table = table_of(folder, ["path", "label_1", "label_2"], [["a", ""], ["b", "c;d"], ["", ""], ["a", "b"]])
    assert table.label_mode == "multilabel" and table.classes == ("a", "b", "c;d")
    numbers = table_of(folder, ["path", "target1", "target2"], [["1,5", "2"], ["0", "1,25"]], sign=";")
    assert numbers.label_mode == "regression"
    assert np.array_equal(numbers.labels[:2], np.array([[1.5, 2], [0, 1.25]], np.float32))


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        (["path", "label", "label_2"], [["a", "b"]], "{path} has a column 'label' and the columns label_2: labels in "
         "two forms at once. Keep one form."),
        (["path", "label", "a", "b"], [["a", "1", "0"], ["b", "0", "1"]], "{path} has a column 'label' and columns of "
         "0 and 1 for its classes (a, b): labels in two forms at once. Keep one form."),
        (["path", "age", "size"], [["3", "5"]], "{path} has no column 'label'. Found: 'path', 'age', 'size'. Expected "
         "path,label and optionally split,group,weight, separated by commas (or semicolons, or tabs); or path and a "
         "column of 0 and 1 for every class."),
    ],
)  # fmt: skip
def test_two_forms_at_once_and_none(folder, header, values, expected):
    with pytest.raises(DataError) as caught:
        table_of(folder, header, values)
    assert str(caught.value) == expected.format(path=folder / "labels.csv")


def test_columns_beside_the_label_that_are_not_its_classes_are_passed_over(folder):
    assert table_of(
        folder, ["path", "label", "flash", "night"], [["a", "1", "0"], ["b", "0", "1"]]
    ).classes == ("a", "b")


def test_paths_of_windows(folder):
    names = [name.replace("/", "\\") for name in NAMES]
    table = table_of(folder, ["path", "label"], [["a"], ["b"]], names=names)
    assert len(table) == 12 and table.images.name(0) == NAMES[0]
    names = [f"C:\\Users\\me\\Data\\{name}" for name in names]
    assert table_of(folder, ["path", "label"], [["a"], ["b"]], names=names).images.name(0) == NAMES[0]
    with pytest.raises(DataError) as caught:
        table_of(folder, ["path", "label"], [["a"]], names=["D:\\photos\\1.png"])
    assert str(caught.value) == (
        f"The path 'D:\\\\photos\\\\1.png' in line 2 of {folder / 'labels.csv'} is an absolute one of Windows, and no "
        "folder in it is called 'data', as the image root is. Use paths relative to that, or give another root "
        "(image_root, --image-root)."
    )
    with pytest.raises(DataError, match="outside the image root"):
        table_of(folder, ["path", "label"], [["a"]], names=["..\\..\\1.png"])


def test_utf16_that_is_cut_off(folder):
    (folder / "labels.csv").write_bytes("path,label\na".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"labels\.csv is cut off, or not in UTF-16\. Save it as UTF-8\."):
        load_data(folder / "labels.csv")


def test_levels_are_for_folders(folder):
    with pytest.raises(UsageError, match="levels=2 is for a folder"):
        table_of(folder, ["path", "label"], [["a"], ["b"]], levels=2)
