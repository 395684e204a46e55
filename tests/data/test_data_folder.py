"""Class-per-folder trees: what is taken, what is passed over, what is refused and with which words."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_transfer.data import find_images, load_data
from keras_transfer.errors import DataError, UsageError


def write_images(folder: Path, count: int, seed: int = 0, suffix: str = ".png") -> None:
    """Small images, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, *folder.name.encode()])
    for i in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}{suffix}", {".png": "PNG"}.get(suffix.lower(), "JPEG"))


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two classes of 10."""
    for name in ("cat", "dog"):
        write_images(tmp_path / "photos" / name, 10)
    return tmp_path / "photos"


def test_the_photo_folder(photo_folder):
    table = load_data(photo_folder)
    assert len(table) == 40
    assert table.label_mode == "classes" and table.classes == ("china", "flower")
    assert table.labels.dtype == np.int32
    assert (np.bincount(table.labels) == 20).all()
    assert [len(table.indices(split)) for split in ("train", "val", "test")] == [26, 6, 8]
    assert table.skipped == () and table.groups is None
    assert (table.weights == 1).all() and table.weights.dtype == np.float32
    for i in (0, 39):
        assert table.images.load(i).shape == (96, 96, 3)
        assert table.images.digest(i) == table.sha256[i]
        assert table.classes[table.labels[i]] in table.images.describe(i)


def test_nested_folders_upper_case_and_linked_folders(tree, tmp_path):
    write_images(tree / "cat" / "2024" / "may", 3, seed=1)
    write_images(tree / "dog", 2, seed=2, suffix=".JPG")
    write_images(tmp_path / "elsewhere", 4)
    (tree / "dog" / "linked").symlink_to(tmp_path / "elsewhere")
    (tree / "fox").symlink_to(tmp_path / "elsewhere")
    table = load_data(tree)
    assert table.summary()["splits"]["train"]["per_class"].keys() == {"cat", "dog", "fox"}
    assert np.bincount(table.labels).tolist() == [13, 16, 4]


def test_loops_of_links_end(tree):
    (tree / "cat" / "again").symlink_to(tree)
    (tree / "cat" / "self").symlink_to(tree / "cat")
    (tree / "dog" / "up").symlink_to(tree.parent)
    assert len(load_data(tree)) == 20


def test_hidden_and_system_files_are_passed_over_in_silence(tree):
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", ".hidden/1.png"):
        path = tree / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tree / ".ipynb_checkpoints").mkdir()
    table = load_data(tree)
    assert len(table) == 20 and table.skipped == () and table.classes == ("cat", "dog")


def test_other_files_are_noted_and_not_counted(tree):
    (tree / "cat" / "notes.txt").write_text("x")
    (tree / "README").write_text("x")
    table = load_data(tree, max_skipped=0)
    assert {Path(skip.path).name for skip in table.skipped} == {"notes.txt", "README"}
    assert not any(skip.counted for skip in table.skipped)
    assert table.summary()["ignored"] == 2 and table.summary()["skipped"] == 0


def test_an_image_beside_the_class_folders_is_noted_and_counts(tree, caplog):
    shutil.copy(tree / "cat" / "0.png", tree / "stray.png")
    table = load_data(tree)
    assert len(table) == 20 and table.summary()["skipped"] == 1
    assert "Left out in" in caplog.text and "1 not inside a class folder" in caplog.text
    with pytest.raises(DataError, match=r"1 of 21 images .* cannot be used .*not inside a class folder"):
        load_data(tree, max_skipped=0)
    assert [skip.reason for skip in table.skipped] == ["not inside a class folder"]


def test_missing_folder_and_a_file(tree):
    with pytest.raises(UsageError, match=r"no folder .*nothing"):
        load_data(tree / "nothing")
    with pytest.raises(UsageError, match="is not a folder"):
        load_data(tree / "cat" / "0.png")


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no images.*one folder for each class"):
        load_data(tmp_path)


def test_folder_without_an_image_names_what_is_there(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "scan.jp2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no images.*scan\.jp2"):
        load_data(tmp_path)


def test_images_without_class_folders(tmp_path):
    write_images(tmp_path, 3)
    with pytest.raises(DataError, match="3 images lie directly in"):
        load_data(tmp_path)


def test_one_class_only(tmp_path):
    write_images(tmp_path / "cat", 5)
    with pytest.raises(DataError, match="only one class, 'cat'"):
        load_data(tmp_path)
    assert load_data(tmp_path, min_classes=1).classes == ("cat",)


def test_a_class_with_one_image(tree):
    write_images(tree / "fox", 1)
    with pytest.raises(DataError, match=r"'fox' \(1\).*at least 2"):
        load_data(tree)
    table = load_data(tree, min_per_class=1)
    assert table.splits[table.labels == 2].tolist() == ["train"]


def test_an_empty_class_folder(tree):
    (tree / "fox").mkdir()
    with pytest.raises(DataError, match=r"'fox' \(0\)"):
        load_data(tree)


def test_classes_differing_only_in_case(tree):
    write_images(tree / "Cat", 5)
    with pytest.raises(DataError, match=r"'Cat' and 'cat'.*[Mm]erge"):
        load_data(tree)


def test_classes_differing_only_in_unicode_form(tree):
    for form in ("NFC", "NFD"):
        write_images(tree / unicodedata.normalize(form, "café"), 5)
    with pytest.raises(DataError, match="Unicode"):
        load_data(tree)


def test_non_ascii_and_very_long_names(tmp_path):
    names = ["猫", "собака", "n" * 200, unicodedata.normalize("NFD", "zèbre")]
    for name in names:
        write_images(tmp_path / name, 4)
    (tmp_path / "猫" / "0.png").rename(tmp_path / "猫" / ("ж" * 120 + ".png"))
    table = load_data(tmp_path)
    assert table.classes == tuple(sorted(unicodedata.normalize("NFC", name) for name in names))
    assert len(table) == 16
    table.write_csv(tmp_path / "split.csv")
    assert (load_data(tmp_path, split_from=tmp_path / "split.csv").splits == table.splits).all()


def test_file_names_that_are_no_utf8(tree):
    os.rename(os.fsencode(tree / "cat" / "0.png"), os.fsencode(tree / "cat") + b"/\xff\xfe.png")  # noqa: PTH104
    table = load_data(tree)
    table.write_csv(tree / "split.csv")
    again = load_data(tree / "split.csv")
    assert sorted(again.sha256) == sorted(table.sha256)


def test_the_order_of_the_file_system_does_not_matter(tree, monkeypatch):
    expected = load_data(tree)
    scandir = os.scandir

    class Reversed(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(
        os, "scandir", lambda path: Reversed(sorted(scandir(path), key=lambda e: e.name)[::-1])
    )
    table = load_data(tree)
    assert table.images.names == expected.images.names
    assert table.classes == expected.classes
    assert (table.splits == expected.splits).all()


# --- train/, val/, test/ ---


def split_tree(root: Path, **counts: int) -> Path:
    for split, count in counts.items():
        for name in ("cat", "dog"):
            write_images(root / split / name, count, seed=sum(split.encode()))
    return root


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_given_splits_are_kept(tmp_path, val):
    root = split_tree(tmp_path, **{"train": 6, val: 2, "test": 3})
    table = load_data(root)
    assert table.classes == ("cat", "dog")
    for i in range(len(table)):
        folder = table.images.names[i].split("/")[0].lower()
        assert table.splits[i] == ("val" if folder.startswith("val") else folder)


def test_a_missing_split_is_carved_out_of_train(tmp_path):
    root = split_tree(tmp_path, train=20, test=3)
    table = load_data(root, val_fraction=0.2)
    counts = table.summary()["splits"]
    assert counts["test"]["per_class"] == {"cat": 3, "dog": 3}
    assert counts["val"]["per_class"] == {"cat": 4, "dog": 4}
    assert all(
        name.startswith("test/") == (split == "test")
        for name, split in zip(table.images.names, table.splits, strict=True)
    )
    assert (table.splits == load_data(root, val_fraction=0.2).splits).all()
    assert (table.splits != load_data(root, val_fraction=0.2, seed=1).splits).any()


def test_only_train(tmp_path):
    counts = load_data(split_tree(tmp_path, train=20)).summary()["splits"]
    assert [counts[split]["images"] for split in ("train", "val", "test")] == [26, 6, 8]


def test_no_carving_when_the_share_is_zero(tmp_path):
    table = load_data(split_tree(tmp_path, train=6, test=3), val_fraction=0)
    assert len(table.indices("val")) == 0 and len(table.indices("train")) == 12


def test_a_class_only_in_test(tmp_path):
    root = split_tree(tmp_path, train=6, test=3)
    write_images(root / "test" / "fox", 3)
    with pytest.raises(DataError, match=r"test split .* has images of 'fox', and the train split has none"):
        load_data(root)


def test_test_without_train(tmp_path):
    root = split_tree(tmp_path, test=6)
    with pytest.raises(DataError, match="no train folder"):
        load_data(root)
    table = load_data(root, classes=["cat", "dog"])  # to evaluate a trained model
    assert len(table.indices("test")) == 12


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus", "plane"):
        write_images(tmp_path / name, 4)
    assert load_data(tmp_path).classes == ("bus", "plane", "train")


def test_split_folders_beside_others(tmp_path):
    root = split_tree(tmp_path, train=6, test=3)
    write_images(root / "fox", 3)
    with pytest.raises(DataError, match=r"split folders \(test, train\) beside others \(fox\)"):
        load_data(root)


def test_two_folders_for_one_split(tmp_path):
    with pytest.raises(DataError, match="two folders for one split: val, validation"):
        load_data(split_tree(tmp_path, train=6, val=2, validation=2))


def test_duplicates_across_given_splits_are_counted(tmp_path, caplog):
    root = split_tree(tmp_path, train=6, test=3)
    for i in range(2):
        shutil.copy(root / "train" / "cat" / f"{i}.png", root / "test" / "cat" / f"copy{i}.png")
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        table = load_data(root)
    assert "2 identical images are in more than one of the given splits" in caplog.text
    assert table.summary()["splits"]["test"]["images"] == 8


# --- the classes of a trained model ---


def test_given_classes_fix_the_order_and_allow_absent_ones(tree):
    table = load_data(tree, classes=["fox", "dog", "cat"])
    assert table.classes == ("fox", "dog", "cat")
    assert sorted(set(table.labels.tolist())) == [1, 2]
    assert all(
        table.classes[label] == name.split("/")[0]
        for label, name in zip(table.labels, table.images.names, strict=True)
    )


def test_a_label_the_model_does_not_know(tree):
    with pytest.raises(DataError, match=r"Unknown label 'dog'.*dog/0\.png.*Known: cat"):
        load_data(tree, classes=["cat"])


@pytest.mark.parametrize("classes", [[], "cat", ["cat", "cat"], [1, 2]])
def test_impossible_classes(tree, classes):
    with pytest.raises(UsageError, match="classes"):
        load_data(tree, classes=classes)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"val_fraction": 1.5}, "val_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "exceed 1"),
        ({"max_skipped": 5}, "max_skipped"),
        ({"min_per_class": -1}, "min_per_class"),
        ({"label_mode": "class"}, "Did you mean classes"),
        ({"label_mode": "regression"}, "folder's labels are classes"),
    ],
)
def test_impossible_arguments(tree, arguments, hint):
    with pytest.raises(UsageError, match=hint):
        load_data(tree, **arguments)


@pytest.mark.parametrize("source", ["", 3, ["photos"], None])
def test_impossible_sources(source):
    with pytest.raises(UsageError, match="source"):
        load_data(source)


def test_everything_can_be_test(tree):
    table = load_data(tree, val_fraction=0, test_fraction=1)
    assert len(table.indices("test")) == 20


def test_find_images_lists_without_looking_inside(tree):
    (tree / "cat" / "broken.jpg").write_bytes(b"")
    found = find_images(tree)
    assert len(found.images) == 21 and found.images == sorted(found.images)


@pytest.mark.parametrize("name", ["tfds:", "tfds:a b", "tfds:ns:name", "tfds:mnist:latest", "tfds:../x"])
def test_malformed_names_of_tfds_data_sets(name):
    with pytest.raises(UsageError, match="expected tfds:NAME"):
        load_data(name)


def test_the_folder_source_does_not_import_tensorflow(photo_folder):
    code = (
        "import sys; from keras_transfer.data import load_data; load_data(sys.argv[1]); "
        "assert 'tensorflow' not in sys.modules and 'tensorflow_datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(photo_folder)], check=True)
