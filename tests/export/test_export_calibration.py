import logging

import numpy as np
import pytest

from keras_transfer.data import ArrayImages, ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.export.calibration import calibration_rows


def table_of(*counts: int, split: str = "train") -> ImageTable:
    """So many images of each class, then one test image."""
    labels = np.concatenate([np.full(count, i) for i, count in enumerate(counts)] + [[0]]).astype(np.int32)
    number = len(labels)
    return ImageTable(
        source="arrays",
        images=ArrayImages(np.zeros((number, 1, 1, 3), np.uint8), np.arange(number)),
        label_mode="classes",
        classes=tuple(f"c{i}" for i in range(len(counts))),
        labels=labels,
        splits=np.array([split] * (number - 1) + ["test"]),
        groups=None,
        weights=np.ones(number, np.float32),
        sha256=tuple(str(i) for i in range(number)),
    )


@pytest.mark.parametrize(
    ("counts", "size", "shares"),
    [
        ((60, 30, 10), 10, [6, 3, 1]),
        ((500, 500, 2), 100, [50, 49, 1]),  # the rare class is there
        ((7, 7, 7), 10, [3, 3, 4]),
        ((50, 1, 1, 1), 4, [1, 1, 1, 1]),
        ((5, 5), 1, [0, 1]),
    ],
)
def test_every_class_has_its_share(counts, size, shares):
    table = table_of(*counts)
    rows = calibration_rows(table, size)
    found = np.bincount(table.labels[rows], minlength=len(counts))
    assert len(set(rows.tolist())) == len(rows) == size
    assert sorted(found) == sorted(shares)
    assert (table.splits[rows] == "train").all()


def test_the_seed_decides():
    table = table_of(100, 100)
    assert calibration_rows(table, 20, seed=3).tolist() == calibration_rows(table, 20, seed=3).tolist()
    assert calibration_rows(table, 20, seed=3).tolist() != calibration_rows(table, 20, seed=4).tolist()


def test_too_few_images_are_all_used_and_said(caplog):
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        assert calibration_rows(table_of(3, 4), 100).tolist() == list(range(7))
    assert "all 7 training images; 100 were asked for" in caplog.text


def test_impossible_requests():
    with pytest.raises(UsageError, match="at least 1"):
        calibration_rows(table_of(3), 0)
    with pytest.raises(UsageError, match="'train'"):
        calibration_rows(table_of(3, split="val"), 10)
