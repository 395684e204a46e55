"""The table: taking rows, fingerprints, summaries, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.errors import UsageError


@pytest.fixture
def table():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    return load_data((pixels, np.arange(20) % 2))


def test_take(table):
    rows = np.array([7, 2, 19])
    part = table.take(rows)
    assert len(part) == 3
    for j, i in enumerate(rows):
        assert np.array_equal(part.images.load(j), table.images.load(i))
        assert part.sha256[j] == table.sha256[i]
        assert part.labels[j] == table.labels[i] and part.splits[j] == table.splits[i]
    assert part.classes == table.classes
    assert len(table.take([])) == 0


def test_take_of_paths(photo_folder):
    table = load_data(photo_folder)
    part = table.take([30, 1])
    assert part.images.names == (table.images.names[30], table.images.names[1])
    assert np.array_equal(part.images.load(0), table.images.load(30))


def test_fingerprint(table):
    fingerprint = table.fingerprint()
    assert len(fingerprint) == 64
    order = np.random.default_rng(1).permutation(20)
    assert table.take(order).fingerprint() == fingerprint
    assert replace(table, source="elsewhere").fingerprint() == fingerprint
    assert table.take(np.arange(19)).fingerprint() != fingerprint
    assert replace(table, labels=1 - table.labels).fingerprint() != fingerprint
    assert replace(table, classes=("a", "b")).fingerprint() != fingerprint
    assert replace(table, sha256=("0" * 64, *table.sha256[1:])).fingerprint() != fingerprint


def test_summary_is_json(table):
    summary = json.loads(json.dumps(table.summary()))
    assert summary["images"] == 20 and summary["classes"] == ["0", "1"] and summary["label_mode"] == "classes"
    splits = summary["splits"]
    assert sum(splits[split]["images"] for split in splits) == 20
    assert all(sum(part["per_class"].values()) == part["images"] for part in splits.values())
    assert summary["fingerprint"] == table.fingerprint()


def test_indices(table):
    assert sorted(np.concatenate([table.indices(split) for split in ("train", "val", "test")])) == list(
        range(20)
    )
    with pytest.raises(UsageError, match="no split 'validation'"):
        table.indices("validation")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"labels": np.zeros(3, np.int32)}, "different lengths"),
        ({"label_mode": "class"}, "label mode"),
        ({"splits": np.array(["training"] * 20)}, "training"),
    ],
)
def test_inconsistent_tables(table, change, hint):
    with pytest.raises(UsageError, match=hint):
        replace(table, **change)


def test_nothing_is_left_half_written(table, tmp_path):
    table.write_csv(tmp_path / "split.csv")
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines[0] == "path,label,split,group,weight,sha256,kind" and len(lines) == 21
    assert [path.name for path in tmp_path.iterdir()] == ["split.csv"]
