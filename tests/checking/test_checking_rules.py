"""Each rule on numbers and pictures made for it: what was planted is found, and nothing else."""

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter

from keras_transfer.checking.issues import KINDS
from keras_transfer.checking.label_errors import (
    doubts_of_classes,
    doubts_of_labels,
    doubts_of_numbers,
    rightness,
)
from keras_transfer.checking.near import Pair, clusters, near_pairs, nearest
from keras_transfer.checking.outliers import outliers
from keras_transfer.checking.registration import SAME, detail, laid_over, likeness
from keras_transfer.errors import DataError, UsageError


def clouds(count, classes, seed=0, dimensions=12):
    """Features of classes that lie well apart, float32 ``(count, D)``, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = rng.normal(0, 4, (classes, dimensions))
    return (centres[labels] + rng.normal(0, 1, (count, dimensions))).astype(np.float32), labels


def grey(picture, side=64):
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("classes", [2, 4])
def test_flipped_labels_are_found_and_clean_labels_are_silent(classes):
    count = 120 * classes
    features, labels = clouds(count, classes)
    names = tuple("abcd"[:classes])
    assert doubts_of_classes(features, labels, names) == []
    flipped = np.arange(0, count, 24)
    given = labels.copy()
    given[flipped] = (labels[flipped] + 1) % classes
    found = doubts_of_classes(features, given, names)
    rows = {doubt.row for doubt in found}
    assert rows <= set(flipped.tolist()) and len(rows) >= (1 if classes == 2 else 0.9) * len(flipped)
    assert all(doubt.expected == names[labels[doubt.row]] for doubt in found)
    assert all(doubt.given == names[given[doubt.row]] for doubt in found)


def test_file_order_does_not_matter_to_the_folds():
    features, labels = clouds(200, 2)
    order = np.argsort(labels, kind="stable")  # one class after the other, as folders give them
    features, labels = features[order], labels[order].copy()
    labels[[3, 150]] = 1 - labels[[3, 150]]
    assert {doubt.row for doubt in doubts_of_classes(features, labels, ("a", "b"))} == {3, 150}


def test_what_is_mixed_up_by_rule_ranks_above_what_is_merely_hard():
    """Labels a and b are exchanged for a fifth of the sure images; c and d are hard to tell and never exchanged."""
    rng = np.random.default_rng(0)
    chances = np.full((800, 4), 0.01)
    truth = np.repeat(np.arange(2), 200)
    chances[np.arange(400), truth], chances[np.arange(400), 1 - truth] = 0.8, 0.18
    hard = rng.uniform(0.03, 0.95, 400)
    chances[400:, 2], chances[400:, 3] = hard, 0.98 - hard
    labels = np.concatenate([truth, np.where(rng.random(400) < hard, 2, 3)])
    wrong = np.concatenate([np.arange(0, 200, 5), np.arange(200, 400, 5)])
    labels[wrong] = 1 - truth[wrong]
    own = chances[np.arange(800), labels]
    unlucky = 400 + np.flatnonzero(own[400:] < own[wrong].min())
    assert len(unlucky) > 5  # a plain ranking puts them first
    right = rightness(chances, labels)
    assert right[wrong].max() < right[unlucky].min()


def test_a_label_that_is_missing_among_several_is_found():
    features, classes = clouds(200, 2)
    labels = np.column_stack([classes == 0, classes == 1]).astype(np.uint8)
    labels[4, 0] = 0
    found = doubts_of_labels(features, labels, ("sky", "grass"))
    assert [(doubt.row, doubt.given, doubt.expected) for doubt in found] == [(4, "not sky", "sky")]


def test_a_number_far_from_what_is_expected_is_found():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 5))
    targets = (features[:, :1] * 3 + rng.normal(0, 0.5, (200, 1))).round(3)
    targets[17] += 100
    assert [doubt.row for doubt in doubts_of_numbers(features, targets)] == [17]


@pytest.mark.parametrize("planted", [[], [30], [7, 61]])
def test_an_image_unlike_all_others_is_an_outlier(planted):
    cosines = 1 - 0.2 * np.exp(np.random.default_rng(0).normal(0, 0.2, (100, 10)))
    cosines[planted] = -0.2
    assert [row for row, _ in outliers(cosines)] == planted
    assert outliers(cosines[:10]) == []  # too few to tell what is usual


def test_the_nearest_are_the_nearest_and_never_oneself():
    values = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    cosines, rows = nearest(values, values, 3)
    products = values @ values.T
    np.fill_diagonal(products, -2)
    assert (rows == np.argsort(-products, axis=1, kind="stable")[:, :3]).all()
    np.testing.assert_allclose(cosines, np.sort(products, axis=1)[:, :-4:-1], atol=1e-6)


@pytest.fixture(scope="module")
def crops(photos):
    """Crops of two photographs that do not overlap."""
    return [
        Image.fromarray(photo[top : top + 140, left : left + 140])
        for photo in photos.values()
        for top in (0, 140, 280)
        for left in range(0, 500, 140)
    ]


CHANGES = {
    "smaller": lambda p: p.resize((80, 80), Image.Resampling.BILINEAR),
    "cropped": lambda p: p.crop((4, 3, 137, 136)),
    "mirrored": ImageOps.mirror,
    "brighter": lambda p: Image.fromarray((np.asarray(p) * 0.8 + 40).astype(np.uint8)),
    "turned": lambda p: p.rotate(2, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)),
    "softer": lambda p: p.filter(ImageFilter.GaussianBlur(0.7)),
}


def laid(first, second):
    """How alike pictures are once the second ones are laid over the first."""
    maps = laid_over(first, second, np.tile(SAME, (len(first), 1, 1)), 12)
    return likeness(detail(first), detail(second), maps)


def test_one_picture_in_other_forms_is_recognised_and_others_are_not(crops):
    small = np.stack([grey(one) for one in crops])
    textured = [row for row, one in enumerate(small) if one.std() > 25]
    assert len(textured) > 8
    for name, change in CHANGES.items():
        changed = np.stack([grey(change(crops[row])) for row in textured])
        looked = changed[:, :, ::-1] if name == "mirrored" else changed
        assert np.median(laid(small[textured], looked)) > 0.9, name
        assert laid(small[textured], np.roll(looked, 1, axis=0)).max() < 0.7, name


def test_planted_copies_are_paired_with_their_originals_and_nothing_else(crops):
    small = np.stack([grey(one) for one in crops])
    textured = [row for row, one in enumerate(small) if one.std() > 25][:6]
    planted = [grey(change(crops[row])) for row, change in zip(textured, CHANGES.values(), strict=True)]
    both = np.concatenate([small, np.stack(planted)])
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(both), 32)).astype(np.float32)  # features that help nothing
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    names = tuple(str(row) for row in range(len(both)))
    found = {(pair.first, pair.second) for pair in near_pairs(directions, both, names)}
    expected = {(row, len(crops) + place) for place, row in enumerate(textured)}
    assert found <= expected and len(found) >= len(expected) - 1
    same = ("one",) * len(both)
    assert near_pairs(directions, both, same) == []  # equal files are copies, not near-duplicates


def test_pairs_join_to_clusters():
    pairs = [Pair(5, 9, 0.99), Pair(1, 2, 0.98), Pair(2, 5, 0.95), Pair(7, 8, 0.93)]
    assert clusters(pairs) == [[1, 2, 5, 9], [7, 8]]
    assert clusters([]) == []


def test_every_kind_says_what_to_do():
    for kind in KINDS.values():
        assert kind.severity in ("high", "medium", "low") and kind.suggestion.endswith(".")


def test_groups_of_a_file_join_those_of_the_data(tmp_path, photos):
    from keras_transfer_tests.images import write_crops

    from keras_transfer.data import load_data

    for name, photo in photos.items():
        write_crops(tmp_path / "data" / name, photo, 8, 0)
    names = sorted(
        path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png")
    )
    groups = tmp_path / "groups.csv"
    groups.write_text("path,group\n" + "".join(f"{name},one\n" for name in names[:4]))
    table = load_data(tmp_path / "data", groups=groups)
    rows = [row for row in range(len(table)) if table.images.name(row) in names[:4]]
    assert len(rows) == 4 and len(set(table.splits[rows])) == 1
    with pytest.raises(UsageError, match="There is no file of groups"):
        load_data(tmp_path / "data", groups=tmp_path / "none.csv")
    groups.write_text("path,cluster\n")
    with pytest.raises(DataError, match="no column 'group'"):
        load_data(tmp_path / "data", groups=groups)
    groups.write_text("path,group\nelsewhere.png,a\n")
    with pytest.raises(DataError, match="names none of the images"):
        load_data(tmp_path / "data", groups=groups)
    groups.write_text(f"path,group\n{names[0]},a\n{names[0]},b\n")
    with pytest.raises(DataError, match="is in the groups 'a' and 'b'"):
        load_data(tmp_path / "data", groups=groups)


def test_a_group_in_two_splits_is_a_finding_and_no_error(tmp_path, photos):
    from keras_transfer_tests.images import write_crops

    from keras_transfer.checking.pairs import group_issues
    from keras_transfer.data import load_data

    for split, count in (("train", 6), ("test", 3)):
        for name, photo in photos.items():
            write_crops(tmp_path / "data" / split / name, photo, count, len(split))
    groups = tmp_path / "groups.csv"
    days = {"monday": ("train/china/000.png", "train/china/001.png", "test/china/000.png")}
    days["tuesday"] = ("train/flower/000.png", "train/flower/001.png")
    groups.write_text(
        "path,group\n" + "".join(f"{one},{day}\n" for day, all_ in days.items() for one in all_)
    )
    with pytest.raises(DataError, match="1 groups are in more than one of the given splits"):
        load_data(tmp_path / "data", groups=groups)
    table = load_data(tmp_path / "data", groups=groups, torn_groups=True)
    (found,) = group_issues(table)
    assert "monday" in found.path and found.severity == "high"
    assert "Its 3 images are in train (2) and test (1)" in found.text
    assert table.splits[found.row] == "test" and table.splits[found.other_row] == "train"
    assert group_issues(load_data(tmp_path / "data")) == []


def alike(count, seed=0, side=300):
    """Pictures of one kind: the same strong bars and frame, each with a faint grain of its own."""
    rng = np.random.default_rng(seed)
    common = np.full((side, side), 150.0)
    common[:8], common[-8:], common[:, :8], common[:, -8:] = 20, 20, 20, 20
    for at in (60, 150, 240):
        common[at : at + 8] = 40
    grains = [gaussian_filter(rng.normal(0, 1, (side, side)), 5) for _ in range(count)]
    return [Image.fromarray((common + 10 * one / one.std()).clip(0, 255).astype(np.uint8)) for one in grains]


def test_among_pictures_of_one_kind_copies_are_found_by_larger_pictures_and_nothing_else():
    """All pictures are alike at 64 pixels; crops and turns are told by the grain that 128 pixels show."""
    pictures = alike(24)
    changes = {
        "cropped": lambda p: p.crop((8, 8, 292, 292)),
        "at a corner": lambda p: p.crop((15, 0, 300, 285)),
        "turned": lambda p: p.rotate(2, Image.Resampling.BICUBIC, fillcolor=128),
        "mirrored": ImageOps.mirror,
        "smaller": lambda p: p.resize((210, 210)),
    }
    both = [*pictures, *(change(pictures[row]) for row, change in enumerate(changes.values()))]
    small, large = (np.stack([grey(one, side) for one in both]) for side in (64, 128))
    directions = np.ones((len(both), 8), np.float32) / np.sqrt(np.float32(8))  # features that tell nothing
    pairs = near_pairs(
        directions,
        small,
        tuple(map(str, range(len(both)))),
        lambda rows: (large[rows], np.full(len(rows), 210)),
    )
    assert {(pair.first, pair.second) for pair in pairs} == {(row, 24 + row) for row in range(len(changes))}
