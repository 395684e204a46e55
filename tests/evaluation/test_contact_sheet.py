"""The contact sheet: the original beside what training will see."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.data.augmentation import Augmenter
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.contact_sheet import _spread, draw_contact_sheet
from keras_transfer.preprocessing import Preprocessing

SMALL = Preprocessing((32, 32))


@pytest.fixture(scope="module")
def table(photo_folder):
    return load_data(photo_folder)


@pytest.fixture(scope="module")
def strong() -> Augmenter:
    return Augmenter("strong", (32, 32))


@pytest.mark.slow
def test_a_picture_is_written_and_is_the_same_again(table, tmp_path, strong):
    pictures = []
    for name in ("a.png", "b.png"):
        path = tmp_path / "plots" / name
        draw_contact_sheet(table, SMALL, strong, path, rows=3, views=4)
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    assert np.array_equal(*pictures)
    height, width = pictures[0].shape[:2]
    assert width > height > 200


def test_all_classes_are_shown_and_only_training_images(table):
    rows = _spread(table, 4)
    assert sorted(table.labels[rows].tolist()) == [0, 0, 1, 1]
    assert set(rows.tolist()) <= set(table.indices("train").tolist())
    assert len(_spread(table, 1000)) == len(table.indices("train"))


def test_rows_beyond_the_images_and_no_labels(table, tmp_path):
    path = tmp_path / "sheet.png"
    few = table.take(table.indices("train")[:1])
    draw_contact_sheet(few, SMALL, Augmenter("light", (32, 32)), path, views=1, labels=False)
    assert path.stat().st_size > 1000


def test_numbers_are_not_mixed(photos, tmp_path, strong):
    crops = np.stack([photos["flower"][i : i + 32, i : i + 32] for i in range(6)])
    table = load_data((crops, np.linspace(0, 1, 6, dtype=np.float32)))
    assert table.label_mode == "regression"
    draw_contact_sheet(table, SMALL, strong, tmp_path / "sheet.png", rows=2, views=2)


def test_bad_arguments(table, tmp_path):
    augmenter = Augmenter("light", (32, 32))
    for bad in ({"rows": 0}, {"views": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            draw_contact_sheet(table, SMALL, augmenter, tmp_path / "x.png", **bad)
    with pytest.raises(UsageError, match="made for"):
        draw_contact_sheet(table, Preprocessing((16, 32)), augmenter, tmp_path / "x.png")
    with pytest.raises(DataError, match="training split"):
        draw_contact_sheet(table.take(table.indices("test")), SMALL, augmenter, tmp_path / "x.png")
