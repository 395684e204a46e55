"""Where features are put: a table that is larger than memory should hold is a file without a name."""

import errno
import os

import numpy as np
import pytest
from worker_features import PREPROCESSING

from keras_transfer.errors import CacheError
from keras_transfer.features import extract, room
from keras_transfer.features.room import room_for


def test_a_large_table_is_a_map_of_a_file_that_is_gone_with_it(tmp_path, monkeypatch):
    assert not isinstance(room_for((10, 4), tmp_path), np.memmap)
    monkeypatch.setattr(room, "IN_MEMORY", 100)
    values = room_for((10, 4), tmp_path / "new")
    values[:] = np.arange(40).reshape(10, 4)
    assert isinstance(values, np.memmap) and values[9, 3] == 39
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="the room is not taken beforehand on this system"
)
def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, "IN_MEMORY", 100)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(
        CacheError, match=r"The features of 10 images take 0.0 GB, and the disk of .* is full. Make room"
    ):
        room_for((10, 4), tmp_path)
    assert not any(tmp_path.iterdir())


def test_features_in_a_file_are_the_same_also_of_copies(table, backbone, expected, monkeypatch):
    rows = [3, 1, 3, 0, 1, 2]
    plain = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras", indices=rows)
    monkeypatch.setattr(room, "IN_MEMORY", 100)
    mapped = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras", indices=rows)
    assert isinstance(mapped.values, np.memmap) and not isinstance(plain.values, np.memmap)
    np.testing.assert_array_equal(mapped.values, plain.values)
    np.testing.assert_allclose(plain.values, expected[rows], atol=1e-4 * np.abs(expected).max())
