"""Folders two deep, as Omniglot's: alphabet/character/image.png."""

import pytest
from PIL import Image

from keras_transfer import load_data
from keras_transfer.errors import DataError, UsageError


def draw(root, names, images=2):
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.new("L", (8, 8), 10 * place + number).save(root / name / f"{number}.png")
    return root


NAMES = [f"{alphabet}/{character}" for alphabet in ("greek", "thai", "latin") for character in "abcd"]


def test_a_class_is_an_alphabet_s_character_and_no_alphabet_is_torn(tmp_path):
    table = load_data(draw(tmp_path / "data", NAMES), split_by="class", levels=2)
    assert table.classes == tuple(sorted(NAMES))
    assert set(table.groups) == {"greek", "thai", "latin"}
    sides = {group: set(table.splits[table.groups == group]) for group in set(table.groups)}
    assert sorted(map(tuple, sides.values())) == [("test",), ("train",), ("val",)]
    again = load_data(tmp_path / "data", levels=2, split_by="class", split_from=_recorded(table, tmp_path))
    assert again.splits.tolist() == table.splits.tolist()


def _recorded(table, folder):
    table.write_csv(folder / "split.csv")
    return folder / "split.csv"


def test_splits_of_the_user_may_hold_new_classes_only_when_split_by_class(tmp_path):
    for part, names in (("train", NAMES[:4]), ("test", NAMES[4:8]), ("val", NAMES[8:])):
        draw(tmp_path / "data" / part, names)
    table = load_data(tmp_path / "data", split_by="class", levels=2)
    assert {table.classes[label].split("/")[0] for label in table.labels[table.indices("test")]} == {"thai"}
    with pytest.raises(DataError, match="the train split has none"):
        load_data(tmp_path / "data", levels=2)


def test_what_lies_at_another_depth_is_said(tmp_path):
    draw(tmp_path / "flat", ["a", "b"])
    with pytest.raises(DataError, match="two folders deep"):
        load_data(tmp_path / "flat", levels=2)
    with pytest.raises(UsageError, match="is for a folder"):
        load_data(tmp_path / "labels.csv", levels=2)
    with pytest.raises(UsageError, match="expected image or class"):
        load_data(tmp_path / "flat", split_by="alphabet")
