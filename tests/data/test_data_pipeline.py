"""Batches in order, a bounded distance ahead; the tf.data pipeline has the same pixels in the seed's order."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from keras_transfer.data import batches, load_data, pipeline, tf_dataset
from keras_transfer.data.table import PathImages
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing

SIZE = Preprocessing((16, 12))


@pytest.fixture(scope="module")
def table(photo_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(photo_folder.parent / "cache"))
        return load_data(photo_folder)


@pytest.fixture(scope="module")
def expected(table) -> np.ndarray:
    """All images one by one: uint8 (40, 16, 12, 3)."""
    return np.stack([SIZE.apply(table.images.load(i)) for i in range(len(table))])


def workers() -> int:
    return sum(thread.name.startswith("keras_transfer") for thread in threading.enumerate())


def eventually(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("threads", [1, 3, None])
def test_batches_in_order(table, expected, threads):
    found = list(batches(table, SIZE, 16, threads=threads))
    assert [len(batch) for batch in found] == [16, 16, 8]
    assert all(batch.dtype == np.uint8 for batch in found)
    assert np.array_equal(np.concatenate(found), expected)


def test_chosen_rows(table, expected):
    rows = [5, 3, 3, 39]
    assert np.array_equal(np.concatenate(list(batches(table, SIZE, 3, indices=rows))), expected[rows])
    assert list(batches(table, SIZE, 3, indices=[])) == []


def test_inputs_are_pixels_or_what_is_drawn(table, expected):
    assert np.array_equal(np.concatenate(list(pipeline.input_batches(table, SIZE, 7))), expected)

    def draw(some):
        return np.array([int(digest[:6], 16) for digest in some.sha256], np.float32)[:, np.newaxis]

    parts = list(pipeline.input_batches(table, SIZE, 2, draw=draw, indices=[5, 3, 39]))
    assert [part.shape for part in parts] == [(2, 1), (1, 1)]
    assert np.array_equal(np.concatenate(parts), draw(table)[[5, 3, 39]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"ahead": 0},
        {"threads": 0},
        {"indices": [40]},
        {"indices": [-1]},
        {"indices": [0.5]},
    ],
)
def test_impossible_arguments(table, arguments):
    with pytest.raises(UsageError, match=r"expected|indices"):
        batches(table, SIZE, **arguments)


def test_decoding_runs_ahead_and_no_further(table, monkeypatch):
    """Counted: images decoded and not yet handed out. Neither more than the bound, nor one at a time."""
    lock, decoded = threading.Lock(), [0]
    load = pipeline.load_image

    def counting(*arguments):
        image = load(*arguments)
        with lock:
            decoded[0] += 1
        return image

    monkeypatch.setattr(pipeline, "load_image", counting)
    rows = np.arange(400) % 40
    taken = most = 0
    for batch in batches(table, SIZE, 4, indices=rows, ahead=3):
        taken += len(batch)
        if taken == 4:
            assert eventually(lambda: decoded[0] >= 4 + 8)
            time.sleep(0.05)  # time to run away, were it not held back
        most = max(most, decoded[0] - taken)
    assert taken == decoded[0] == 400
    assert most <= 3 * 4


@pytest.mark.slow
@pytest.mark.parametrize("way", ["close", "forget", "exhaust"])
def test_no_thread_outlives_the_generator(table, way):
    before = workers()
    generator = batches(table, SIZE, 4, ahead=2)
    next(generator)
    assert workers() > before
    if way == "close":
        generator.close()
    elif way == "exhaust":
        list(generator)
    else:
        del generator
        gc.collect()
    assert workers() == before


@pytest.mark.slow
def test_an_error_of_the_consumer_stops_the_threads(table):
    before = workers()
    with pytest.raises(KeyError):
        for _ in batches(table, SIZE, 4):
            raise KeyError
    gc.collect()
    assert workers() == before


@pytest.fixture
def own(tmp_path, photo_folder):
    shutil.copytree(photo_folder, tmp_path / "photos")
    return load_data(tmp_path / "photos")


def test_a_file_that_vanished(own):
    path = own.images.path(20)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} could be read when .*file not found"):
        list(batches(own, SIZE, 16))
    assert workers() == 0


def test_a_file_that_changed(own):
    shutil.copy(own.images.path(1), own.images.path(0))
    with pytest.raises(DataError, match="has changed since"):
        list(batches(own, SIZE, 16))


def test_a_file_that_is_damaged_without_a_check(tmp_path):
    (tmp_path / "1.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"1\.png cannot be decoded: not an image"):
        PathImages(Path(tmp_path), ("1.png",)).load(0)


def test_ordered_map_raises_at_the_place_of_the_item():
    def one(i: int) -> float:
        return 1 / (3 - i)

    results = ordered_map(one, range(10), threads=2)
    assert [next(results), next(results), next(results)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


# --- tf.data ---


def as_arrays(dataset) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def test_no_iterator_waits_for_the_tuning_thread_of_tf_data(table):
    """Its end took up to a second (TensorFlow 2.21); that it is off is all that can be seen without a clock."""
    assert tf_dataset(table, SIZE, 8).options().autotune.enabled is False


def test_tf_dataset_has_the_same_pixels(table, expected):
    found = as_arrays(tf_dataset(table, SIZE, 16))
    assert [len(images) for images, _ in found] == [16, 16, 8]
    assert found[0][0].dtype == np.float32 and found[0][1].dtype == np.int32
    assert np.array_equal(np.concatenate([images for images, _ in found]), expected.astype(np.float32))
    assert np.array_equal(np.concatenate([labels for _, labels in found]), table.labels)
    dataset = tf_dataset(table, SIZE, 16)
    assert int(dataset.cardinality()) == 3
    assert dataset.element_spec[0].shape.as_list() == [None, 16, 12, 3]


def test_tf_dataset_of_some_rows_with_one_hot_and_weights(table, expected):
    rows = table.indices("test")
    ((images, labels, weights),) = as_arrays(
        tf_dataset(table, SIZE, 16, indices=rows, one_hot=True, weights=True)
    )
    assert np.array_equal(images, expected[rows])
    assert np.array_equal(labels, np.eye(2, dtype=np.float32)[table.labels[rows]])
    assert weights.dtype == np.float32 and np.array_equal(weights, table.weights[rows])
    assert as_arrays(tf_dataset(table, SIZE, 16, indices=[])) == []


def order(batches_: list[tuple[np.ndarray, ...]], expected: np.ndarray) -> list[int]:
    """Which images these are, by their pixels."""
    return [
        int(np.flatnonzero((expected == image).all(axis=(1, 2, 3)))[0])
        for images, *_ in batches_
        for image in images
    ]


@pytest.mark.slow
def test_shuffling_follows_the_seed_alone(table, expected):
    import tensorflow as tf

    runs = []
    for global_seed in (1, 2):
        tf.random.set_seed(global_seed)
        np.random.seed(global_seed)
        dataset = tf_dataset(table, SIZE, 7, shuffle=True, seed=3)
        runs.append([order(as_arrays(dataset), expected) for _ in range(3)])
    assert runs[0] == runs[1]
    assert all(sorted(epoch) == list(range(40)) for epoch in runs[0])
    assert len({tuple(epoch) for epoch in runs[0]}) == 3
    other = tf_dataset(table, SIZE, 7, shuffle=True, seed=4)
    assert order(as_arrays(other), expected) != runs[0][0]


def test_labels_go_with_their_images(table, expected):
    for images, labels in as_arrays(tf_dataset(table, SIZE, 7, shuffle=True)):
        assert np.array_equal(labels, table.labels[order([(images,)], expected)])


@pytest.mark.slow
def test_a_training_is_taken_up_at_its_epoch(table, expected):
    dataset = tf_dataset(table, SIZE, 16, shuffle=True, seed=3)
    epochs = [order(as_arrays(dataset), expected) for _ in range(4)]
    later = tf_dataset(table, SIZE, 16, shuffle=True, seed=3, first_epoch=2)
    assert [order(as_arrays(later), expected) for _ in range(2)] == epochs[2:]
    endless = tf_dataset(table, SIZE, 16, shuffle=True, seed=3, first_epoch=1, repeat=True)
    assert int(endless.cardinality()) == -1
    for _ in range(2):  # every iterator starts with epoch 1
        found = as_arrays(endless.take(6))
        assert [len(images) for images, _ in found] == [16, 16, 8] * 2
        assert order(found[:3], expected) == epochs[1] and order(found[3:], expected) == epochs[2]
    gc.collect()
    assert eventually(lambda: workers() == 0)


def test_parallel_under_op_determinism(table, expected, monkeypatch):
    """tf.data makes a parallel map of Python functions sequential there; this pipeline has its own threads."""
    from tensorflow.python.framework import config  # switching it off again is not public

    lock, busy, most = threading.Lock(), [0], [0]
    load = pipeline.load_image
    monkeypatch.setattr("keras_transfer.data.threads.default_threads", lambda: 2)

    def counting(*arguments):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.005)
        try:
            return load(*arguments)
        finally:
            with lock:
                busy[0] -= 1

    monkeypatch.setattr(pipeline, "load_image", counting)
    config.enable_op_determinism()
    try:
        found = as_arrays(tf_dataset(table, SIZE, 16))
    finally:
        config.disable_op_determinism()
    assert most[0] == 2
    assert order(found, expected) == list(range(40))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(table, monkeypatch):
    """Counted: images decoded before the consumer has seen any but the first batch."""
    decoded = [0]
    load = pipeline.load_image

    def counting(*arguments):
        decoded[0] += 1
        return load(*arguments)

    monkeypatch.setattr(pipeline, "load_image", counting)
    iterator = iter(tf_dataset(table, SIZE, 4, indices=np.arange(2000) % 40))
    next(iterator)
    time.sleep(0.3)
    assert decoded[0] <= 4 * 10
    del iterator
    gc.collect()
    assert eventually(lambda: workers() == 0)


def test_a_vanished_file_is_quoted_by_tensorflow(own):
    import tensorflow as tf

    own.images.path(20).unlink()
    with pytest.raises(tf.errors.OpError, match="could be read when"):
        as_arrays(tf_dataset(own, SIZE, 16))


@pytest.mark.parametrize(("kind", "shape"), [("multilabel", (20, 2)), ("regression", (20, 3))])
def test_other_labels_are_float(kind, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    labels = np.random.default_rng(1).integers(0, 2, shape)
    table = load_data((pixels, labels), label_mode=kind)
    ((images, found),) = as_arrays(tf_dataset(table, SIZE, 32))
    assert images.shape == (20, 16, 12, 3)
    assert found.dtype == np.float32 and np.array_equal(found, labels)
