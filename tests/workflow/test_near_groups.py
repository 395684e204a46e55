"""``train --group-near-duplicates``: two pictures of one thing are never in two splits."""

import csv
import logging

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keras_transfer.errors import UsageError
from keras_transfer.testing.command import call
from keras_transfer.workflow.train import train

SIZE = {"backbone": "tiny", "image_size": 96, "engine": "keras", "strategy": "probe"}


def fine(pixels):
    grey = pixels.mean(axis=2)
    return np.abs(grey[1:] - grey[:-1]).mean()


@pytest.fixture(scope="module")
def bursts(tmp_path_factory, photos):
    """Ten places of a grid over each photograph, each twice: as it is and brightened.

    The ten with most fine detail: a plain or blurred picture has none to be known by.
    """
    folder = tmp_path_factory.mktemp("bursts")
    for name in ("china", "flower"):
        (folder / name).mkdir()
        grid = [(top, left) for top in range(0, 310, 110) for left in range(0, 530, 110)]
        crops = [photos[name][top : top + 110, left : left + 110] for top, left in grid]
        for place, pixels in enumerate(sorted(crops, key=fine)[-10:]):
            crop = Image.fromarray(pixels)
            crop.save(folder / name / f"{place}.png")
            ImageEnhance.Brightness(crop).enhance(1.1).save(folder / name / f"{place}_again.jpg", quality=90)
    return folder


def splits_of(run):
    with (run / "split.csv").open(newline="") as file:
        return {row["path"]: (row["split"], row["group"]) for row in csv.DictReader(file)}


def torn(splits):
    return [
        path
        for path, (split, _) in splits.items()
        if path.endswith(".png") and splits[path.replace(".png", "_again.jpg")][0] != split
    ]


@pytest.mark.slow
def test_near_duplicates_stay_together_and_the_groups_of_a_file_hold(bursts, tmp_path):
    assert torn(splits_of(train(bursts, tmp_path / "apart", **SIZE).path))

    own = tmp_path / "own.csv"
    own.write_text("path,group\nchina/0.png,one\nflower/9_again.jpg,one\n")
    arguments = [part for name, value in SIZE.items() for part in (f"--{name.replace('_', '-')}", value)]
    run = tmp_path / "together"
    call("train", bursts, "-o", run, *arguments, "--groups", own, "--group-near-duplicates")
    found = splits_of(run)
    assert torn(found) == []
    assert {split for split, _ in found.values()} == {"train", "val", "test"}
    joined = {
        found[name] for name in ("china/0.png", "china/0_again.jpg", "flower/9.png", "flower/9_again.jpg")
    }
    assert len(joined) == 1 and joined.pop()[1]


@pytest.mark.slow
def test_data_without_near_duplicates_are_split_as_ever(bursts, tmp_path):
    rows = [f"{name}/{place}.png,{name}" for name in ("china", "flower") for place in range(10)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    plain = train(table, tmp_path / "plain", image_root=str(bursts), **SIZE)
    same = train(table, tmp_path / "same", image_root=str(bursts), group_near_duplicates=True, **SIZE)
    assert splits_of(plain.path) == splits_of(same.path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["probe", "finetune"])
def test_train_tells_what_is_in_two_splits(bursts, tmp_path, strategy, caplog):
    """Of the splits whose features are cached: validation always; the test images once something computed theirs."""
    settings = SIZE | {"strategy": strategy, "epochs": 1, "guard": False}
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        run = train(bursts, tmp_path / "run", **settings)
    table = splits_of(run.path)
    told = run.record.contract.notes["near_duplicates"]
    assert torn(table) and "val" in told["compared"] and sum(told["found"].values())
    partner = {name: name[:-4] + "_again.jpg" for name in table if name.endswith(".png")}
    partner |= {other: name for name, other in partner.items()}
    for split, count in told["compared"].items():
        inside = [name for name, (where, _) in table.items() if where == split]
        assert count == len(inside)
        expected = {name for name in inside if table[partner[name]][0] == "train"}
        assert told["found"][split] == len(expected)
        assert {one for one, _ in told["pairs"] if table[one][0] == split} == expected
    assert all(partner[one] == other for one, other in told["pairs"])
    assert any("show what training images show (near-duplicates)" in one.message for one in caplog.records)
    assert "Near-duplicates of training images: " in (run.path / "report.html").read_text()


@pytest.mark.slow
def test_train_says_nothing_where_splits_are_apart(bursts, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        run = train(bursts, tmp_path / "run", group_near_duplicates=True, **SIZE)
    told = run.record.contract.notes["near_duplicates"]
    assert told["compared"]["val"] and told["compared"]["test"] and not told["pairs"]
    assert not any("near-duplicates" in one.message for one in caplog.records)
    assert "No near-duplicate of a training image among" in (run.path / "report.html").read_text()


def test_splits_that_are_given_are_left_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    with pytest.raises(UsageError, match=r"says itself which image is in which split\. Leave the option out"):
        train(tmp_path / "data", tmp_path / "run", group_near_duplicates=True, **SIZE)
    assert not (tmp_path / "run").exists()
