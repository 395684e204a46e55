"""Splits: a partition, stratified, seeded, groups whole, duplicates together, whatever the order and the place."""

from __future__ import annotations

import hashlib
import logging
import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transfer.data import load_data
from keras_transfer.data.labels import Labels
from keras_transfer.data.splits import make_splits
from keras_transfer.errors import DataError, UsageError


def digests(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(b"%d" % i).hexdigest() for i in range(start, start + count)]


def class_labels(values: list[int], kinds: int) -> Labels:
    return Labels("classes", tuple(f"c{i:03d}" for i in range(kinds)), np.array(values, np.int32))


FRACTIONS = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))
VALUES = st.lists(st.integers(0, 4), min_size=1, max_size=150)
SEEDS = st.integers(0, 2**40)


def split(labels, sha256, groups, fractions, seed):
    return make_splits(
        labels, sha256, groups, val_fraction=fractions[0], test_fraction=fractions[1], seed=seed
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@example(values=[0, 0, 0, 1, 1, 1], fractions=(0.375, 0.4375), seed=0)  # what test rounds up, val lacked
@example(values=[0] * 5 + [1] * 5, fractions=(0.45, 0.45), seed=0)
@given(values=VALUES, fractions=FRACTIONS, seed=SEEDS)
def test_single_images(values, fractions, seed):
    """A partition; every class within one image of its shares; at least one in train, and, of three, in each."""
    labels = class_labels(values, 5)
    splits = split(labels, digests(len(values)), None, fractions, seed)
    assert set(splits.tolist()) <= {"train", "val", "test"}
    for value in set(values):
        mine = splits[labels.values == value]
        count = {name: int((mine == name).sum()) for name in ("train", "val", "test")}
        assert count["train"] >= 1
        for name, fraction in zip(("val", "test"), fractions, strict=True):
            assert abs(count[name] - len(mine) * fraction) <= 1
            if fraction > 1e-9 and len(mine) >= 3:
                assert count[name] >= 1
            if fraction == 0:
                assert count[name] == 0


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(data=st.data(), values=VALUES, fractions=FRACTIONS, seed=SEEDS)
def test_groups_and_duplicates_stay_whole_and_order_does_not_matter(data, values, fractions, seed):
    n = len(values)
    labels = class_labels(values, 5)
    groups = np.array([f"g{data.draw(st.integers(0, max(1, n // 2)))}" for _ in range(n)])
    content = digests(n)
    for i in range(n):  # some are copies of others, across groups and classes
        if data.draw(st.integers(0, 5)) == 0:
            content[i] = content[data.draw(st.integers(0, n - 1))]
    splits = split(labels, content, groups, fractions, seed)
    for keys in (groups.tolist(), content):
        sides: dict[str, set[str]] = {}
        for key, side in zip(keys, splits.tolist(), strict=True):
            sides.setdefault(key, set()).add(side)
        assert all(len(side) == 1 for side in sides.values())
    assert set(labels.values[splits == "train"].tolist()) == set(values)
    order = np.array(data.draw(st.permutations(range(n))))
    again = split(labels.take(order), [content[i] for i in order], groups[order], fractions, seed)
    assert (again == splits[order]).all()


def test_seed():
    labels = class_labels([0, 1] * 50, 2)
    first = split(labels, digests(100), None, (0.15, 0.2), 0)
    assert (split(labels, digests(100), None, (0.15, 0.2), 0) == first).all()
    assert (split(labels, digests(100), None, (0.15, 0.2), 1) != first).any()


def test_groups_of_equal_size_are_shared_out():
    """30 groups of 4 in three classes: shares within one group, every split has every class."""
    labels = class_labels([i // 40 for i in range(120)], 3)
    groups = np.array([f"g{i // 4}" for i in range(120)])
    splits = split(labels, digests(120), groups, (0.2, 0.2), 3)
    for value in range(3):
        mine = splits[labels.values == value]
        for name, expected in (("train", 24), ("val", 8), ("test", 8)):
            assert abs((mine == name).sum() - expected) <= 4
            assert (mine == name).any()


def test_one_huge_group_goes_to_train():
    labels = class_labels([0, 1] * 50, 2)
    groups = np.array(["huge"] * 60 + [f"g{i}" for i in range(40)])
    splits = split(labels, digests(100), groups, (0.15, 0.2), 0)
    assert (splits[:60] == "train").all()
    assert {"val", "test"} <= set(splits.tolist())


def test_multilabel_spreads_rare_labels():
    generator = np.random.default_rng(0)
    values = (generator.random((200, 4)) < (0.6, 0.3, 0.1, 0.03)).astype(np.uint8)
    labels = Labels("multilabel", tuple("abcd"), values)
    splits = split(labels, digests(200), None, (0.2, 0.2), 0)
    for column in values.T:
        mine = splits[column == 1]
        for name in ("val", "test"):
            assert abs((mine == name).sum() - 0.2 * len(mine)) <= max(2, 0.06 * len(mine))
            assert (mine == name).any()


def test_regression_spreads_the_range():
    values = np.sort(np.random.default_rng(1).lognormal(size=(300, 1)).astype(np.float32), axis=0)
    splits = split(Labels("regression", (), values), digests(300), None, (0.2, 0.2), 0)
    for tenth in np.split(np.arange(300), 10):
        for name in ("val", "test"):
            assert abs((splits[tenth] == name).sum() - 6) <= 1


def test_constant_regression():
    splits = split(Labels("regression", (), np.ones((20, 1), np.float32)), digests(20), None, (0.2, 0.2), 0)
    assert [int((splits == name).sum()) for name in ("train", "val", "test")] == [12, 4, 4]


def test_moving_and_renaming_the_folder_changes_nothing(tmp_path, photo_folder):
    shutil.copytree(photo_folder, tmp_path / "a" / "photos")
    first = load_data(tmp_path / "a" / "photos")
    (tmp_path / "a" / "photos").rename(tmp_path / "renamed")
    second = load_data(tmp_path / "renamed")
    assert (first.splits == second.splits).all()
    assert first.fingerprint() == second.fingerprint()
    for i, path in enumerate(sorted((tmp_path / "renamed" / "china").iterdir(), reverse=True)):
        path.rename(path.with_name(f"x{i}.png"))  # other names, other order of the rows
    third = load_data(tmp_path / "renamed")
    assert dict(zip(third.sha256, third.splits.tolist(), strict=True)) == dict(
        zip(first.sha256, first.splits.tolist(), strict=True)
    )
    assert third.fingerprint() == first.fingerprint()


# --- split_from ---


def test_a_recorded_split_is_taken_over(tmp_path, photo_folder):
    first = load_data(photo_folder, seed=5)
    first.write_csv(tmp_path / "run" / "split.csv")
    shutil.copytree(photo_folder, tmp_path / "moved")
    for path in (tmp_path / "moved" / "china").iterdir():
        path.rename(path.with_name(f"new_{path.name}"))
    for where in (tmp_path / "run", tmp_path / "run" / "split.csv"):
        second = load_data(tmp_path / "moved", seed=9, split_from=where)
        assert dict(zip(second.sha256, second.splits.tolist(), strict=True)) == dict(
            zip(first.sha256, first.splits.tolist(), strict=True)
        )


def test_an_image_the_recorded_split_does_not_know(tmp_path, photo_folder, photos):
    from PIL import Image

    load_data(photo_folder).write_csv(tmp_path / "split.csv")
    shutil.copytree(photo_folder, tmp_path / "photos")
    Image.fromarray(photos["china"][:50, :50]).save(tmp_path / "photos" / "china" / "new.png")
    with pytest.raises(DataError, match=r"1 images are not in it, such as .*new\.png"):
        load_data(tmp_path / "photos", split_from=tmp_path / "split.csv")


def test_images_that_are_gone_are_a_warning(tmp_path, photo_folder, caplog):
    load_data(photo_folder).write_csv(tmp_path / "split.csv")
    shutil.copytree(photo_folder, tmp_path / "photos")
    (tmp_path / "photos" / "china" / "000.png").unlink()
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        assert len(load_data(tmp_path / "photos", split_from=tmp_path / "split.csv")) == 39
    assert "1 images of the recorded split" in caplog.text


def test_a_duplicate_in_two_recorded_splits_is_told_apart_by_its_label(tmp_path, photo_folder):
    root = tmp_path / "photos"
    for split_name in ("train", "test"):
        shutil.copytree(photo_folder, root / split_name, ignore=lambda *_: ["x"])
    for path in (root / "test" / "china").iterdir():
        if path.name != "000.png":
            path.unlink()
    shutil.rmtree(root / "test" / "flower")
    (root / "test" / "flower").mkdir()
    (root / "test" / "china" / "000.png").rename(root / "test" / "flower" / "000.png")
    first = load_data(root, val_fraction=0)
    first.write_csv(tmp_path / "split.csv")
    assert len(first.indices("test")) == 1
    second = load_data(root, val_fraction=0, split_from=tmp_path / "split.csv")
    assert (second.splits == first.splits).all()
    text = (
        (tmp_path / "split.csv")
        .read_text()
        .replace("test/flower/000.png,flower", "test/flower/000.png,other")
    )
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match="in several of its splits"):
        load_data(root, val_fraction=0, split_from=tmp_path / "split.csv")


def test_no_recorded_split(tmp_path, photo_folder):
    with pytest.raises(UsageError, match="no recorded split"):
        load_data(photo_folder, split_from=tmp_path)
    (tmp_path / "split.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"not a recorded split.*sha256"):
        load_data(photo_folder, split_from=tmp_path)
    (tmp_path / "split.csv").write_text("sha256,label,split\nab,china,tarin\n")
    with pytest.raises(DataError, match="line 2: split 'tarin'"):
        load_data(photo_folder, split_from=tmp_path)
