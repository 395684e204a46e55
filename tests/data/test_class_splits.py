"""Splits by class: no class and no alphabet on two sides, decided by the seed, refused where there are too few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_transfer.data.class_splits import class_splits
from keras_transfer.data.labels import Labels
from keras_transfer.errors import DataError, UsageError


def made(sizes):
    values = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return Labels("classes", tuple(f"c{i}" for i in range(len(sizes))), values), [
        f"{i:04d}" for i in range(len(values))
    ]


def split(labels, sha256, groups=None, *, val=0.15, test=0.2, seed=0):
    return class_splits(labels, sha256, groups, val_fraction=val, test_fraction=test, seed=seed)


@given(sizes=st.lists(st.integers(1, 6), min_size=6, max_size=40), seed=st.integers(0, 5))
def test_classes_are_dealt_out_whole(sizes, seed):
    labels, sha256 = made(sizes)
    found = split(labels, sha256, seed=seed)
    sides = {label: set(found[labels.values == label]) for label in range(len(sizes))}
    assert all(len(side) == 1 for side in sides.values())
    counts = {name: sum(side == {name} for side in sides.values()) for name in ("train", "val", "test")}
    assert counts["val"] == max(2, round(0.15 * len(sizes))) and counts["test"] == max(
        2, round(0.2 * len(sizes))
    )
    order = np.random.default_rng(1).permutation(len(sha256))
    again = split(labels.take(order), [sha256[i] for i in order], seed=seed)
    assert np.array_equal(again, found[order])


def test_another_seed_is_another_split():
    labels, sha256 = made([3] * 20)
    assert not np.array_equal(split(labels, sha256, seed=0), split(labels, sha256, seed=1))


def test_groups_and_copies_hold_classes_together():
    labels, sha256 = made([4] * 12)
    groups = np.array([f"alphabet {label // 3}" for label in labels.values])
    found = split(labels, sha256, groups)
    assert all(len(set(found[groups == group])) == 1 for group in set(groups))
    assert set(found) == {"train", "val", "test"}
    sha256[0] = sha256[20]  # one image in the classes 0 and 5
    found = split(labels, sha256)
    assert found[0] == found[20]


def test_few_classes_do_without_validation_and_fewer_are_refused(caplog):
    labels, sha256 = made([3] * 4)
    assert set(split(labels, sha256)) == {"train", "test"}
    assert "no val split" in caplog.text
    with pytest.raises(DataError, match="There are 3 classes"):
        split(*made([3] * 3))
    assert set(split(*made([3] * 3), val=0, test=0)) == {"train"}
    with pytest.raises(UsageError, match="multilabel"):
        split(Labels("multilabel", ("a", "b"), np.eye(2, dtype=np.uint8)), ["1", "2"])
