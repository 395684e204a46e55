"""NumPy arrays by reference, and ``tf.data`` streamed into the cache."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from keras_transfer.data import ArrayImages, arrays, load_data
from keras_transfer.errors import CacheError, DataError, UsageError
from keras_transfer.paths import cache_dir


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """20 different colour images of 12x10."""
    array = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
    array.setflags(write=False)
    return array


IDS = np.arange(20) % 2


def test_held_by_reference(pixels):
    table = load_data((pixels, IDS))
    assert isinstance(table.images, ArrayImages)
    assert table.images.array is pixels
    assert table.take(np.array([3, 5])).images.array is pixels
    assert table.source == "arrays" and table.label_mode == "classes" and table.classes == ("0", "1")
    loaded = table.images.load(7)
    assert np.array_equal(loaded, pixels[7])
    loaded[:] = 0  # a copy: the array is read-only


def test_sha256_is_over_dtype_shape_and_bytes(pixels):
    table = load_data((pixels, IDS))
    head = b"|u1 (12, 10, 3)"
    assert table.sha256[4] == hashlib.sha256(head + pixels[4].tobytes()).hexdigest()
    assert load_data((pixels[:, :, ::-1], IDS)).sha256[4] != table.sha256[4]
    assert load_data((np.asfortranarray(pixels), IDS)).sha256 == table.sha256


@pytest.mark.parametrize("shape", [(20, 12, 10), (20, 12, 10, 1)])
def test_grey_becomes_three_channels(pixels, shape):
    grey = pixels[..., 0].reshape(shape)
    table = load_data((grey, IDS))
    assert np.array_equal(table.images.load(3), np.repeat(pixels[3, :, :, :1], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_whole_numbers_of_other_types(pixels, dtype):
    table = load_data((pixels.astype(dtype), IDS))
    assert table.images.load(3).dtype == np.uint8
    assert np.array_equal(table.images.load(3), pixels[3])


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda a: a / np.float32(255), "fraction"),
        (lambda a: a / np.float32(127.5) - 1, "from -1.0"),
        (lambda a: a.astype(np.int32) * 2, "to 510"),
        (lambda a: np.where(a == a[0, 0, 0, 0], np.nan, a.astype(np.float32)), "nan"),
        (lambda a: a > 127, "dtype bool"),
        (lambda a: a.astype(complex), "complex"),
        (lambda a: a[..., :2], r"\(20, 12, 10, 2\)"),
        (lambda a: a[0, 0], r"\(10, 3\)"),
        (lambda a: a.tolist(), "list"),
    ],
)
def test_nothing_is_rescaled_or_guessed(pixels, change, hint):
    images = change(pixels)
    with pytest.raises(UsageError, match=hint):
        load_data((images, IDS[: len(images)]))


def test_no_images(pixels):
    with pytest.raises(DataError, match="not one pixel"):
        load_data((pixels[:0], IDS[:0]))


def test_lengths(pixels):
    with pytest.raises(UsageError, match="20 images and labels of shape"):
        load_data((pixels, IDS[:19]))


def test_a_changed_array_is_noticed(pixels):
    own = pixels.copy()
    table = load_data((own, IDS))
    own[3] = 0
    with pytest.raises(DataError, match=r"\[3\] .*has changed"):
        table.images.load(3)


def test_duplicates_share_a_split(pixels):
    doubled = np.concatenate([pixels, pixels])
    table = load_data((doubled, np.tile(IDS, 2)))
    assert (table.splits[:20] == table.splits[20:]).all()


# --- labels ---


def test_ids_found_are_in_numeric_order(pixels):
    table = load_data((pixels, np.array([10, 2] * 10)))
    assert table.classes == ("2", "10") and table.labels[:2].tolist() == [1, 0]


def test_ids_with_names(pixels):
    table = load_data((pixels, IDS), classes=["dog", "cat"])
    assert table.classes == ("dog", "cat") and (table.labels == IDS).all()
    with pytest.raises(DataError, match="class ids go from 0 to 1, and there are 1"):
        load_data((pixels, IDS), classes=["dog"])


@pytest.mark.parametrize("dtype", ["U", "S", object])
def test_names(pixels, dtype):
    table = load_data((pixels, np.array(["dog", "cat"] * 10).astype(dtype)))
    assert table.classes == ("cat", "dog") and table.labels[:2].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [np.int64, bool, np.uint8])
def test_columns_of_zero_and_one(pixels, dtype):
    columns = np.eye(2, dtype=int)[IDS].astype(dtype)
    assert load_data((pixels, columns)).label_mode == "multilabel"
    table = load_data((pixels, columns), label_mode="classes")
    assert table.label_mode == "classes" and (table.labels == IDS).all()
    named = load_data((pixels, columns), classes=["a", "b"])
    assert named.classes == ("a", "b") and named.labels.dtype == np.uint8


def test_floats_are_regression_unless_said_otherwise(pixels):
    table = load_data((pixels, np.linspace(0, 1, 20)))
    assert table.label_mode == "regression" and table.labels.shape == (20, 1)
    assert load_data((pixels, np.ones((20, 3)))).labels.shape == (20, 3)
    assert load_data((pixels, np.eye(2)[IDS]), label_mode="classes").label_mode == "classes"
    assert load_data((pixels, IDS), label_mode="regression").labels.dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "kind", "error", "hint"),
    [
        (np.full(20, np.nan), "auto", DataError, "not finite"),
        (np.full(20, 1e300), "auto", DataError, "not finite"),
        (np.linspace(0, 1, 20), "classes", UsageError, "cannot be classes"),
        (IDS, "multilabel", UsageError, "cannot be multilabel"),
        (np.full((20, 2), 3), "auto", UsageError, "other than 0 and 1"),
        (np.ones((20, 2), int), "classes", UsageError, "not one-hot"),
        (np.array(["a", "b"] * 10), "regression", UsageError, "regression"),
        (np.zeros((20, 2, 2)), "auto", UsageError, "expected numbers or text"),
        (np.array([None] * 20), "auto", UsageError, "expected numbers or text"),
        (np.zeros(20, int), "auto", DataError, "only one class"),
    ],
)
def test_labels_that_do_not_fit(pixels, labels, kind, error, hint):
    with pytest.raises(error, match=hint):
        load_data((pixels, labels), label_mode=kind)


# --- tf.data ---


def dataset(*parts: np.ndarray):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(parts)


@pytest.mark.parametrize("batch", [None, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_dataset_becomes_png_files_in_the_cache(pixels, batch, dtype):
    data = dataset(pixels.astype(dtype), IDS)
    table = load_data(data if batch is None else data.batch(batch))
    assert table.source == "tf.data" and len(table) == 20 and (table.labels == IDS).all()
    for i in (0, 13, 19):
        assert np.array_equal(table.images.load(i), pixels[i])
        assert Path(table.images.describe(i)).is_relative_to(cache_dir() / "images")
        assert Path(table.images.describe(i)).stem == table.sha256[i]
    files = sorted((cache_dir() / "images").rglob("*.png"))
    written = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 20
    assert load_data(data).sha256 == table.sha256
    assert [file.stat().st_mtime_ns for file in files] == written


def test_a_grey_dataset_with_names(pixels):
    table = load_data(dataset(pixels[..., :1], np.array(["b", "a"] * 10)))
    assert table.classes == ("a", "b")
    assert np.array_equal(table.images.load(2), np.repeat(pixels[2, :, :, :1], 3, axis=2))


@pytest.mark.slow
def test_a_dataset_streams(pixels):
    """At most a bounded number of elements is drawn before the first ones are written."""
    import tensorflow as tf

    waiting, lock = [0, 0], threading.Lock()  # now, at most
    store = arrays.BlobStore.store

    def count(step):
        with lock:  # drawn by one thread, written by others
            waiting[0] += step
            waiting[1] = max(waiting)

    def generate():
        for i in range(200):
            count(1)
            yield pixels[i % 20], i % 2

    def counting(self, content, suffix):
        count(-1)
        return store(self, content, suffix)

    signature = (tf.TensorSpec((12, 10, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays.BlobStore, "store", counting)
        table = load_data(tf.data.Dataset.from_generator(generate, output_signature=signature))
    assert len(table) == 200
    assert waiting[1] <= 40


def test_nothing_is_drawn_before_it_is_asked_for():
    """tf.data puts a buffer at the end of a data set, which grows while whoever reads is slow."""
    import tensorflow as tf

    drawn = []

    def generate():
        for i in range(50):
            drawn.append(i)
            yield i

    ahead = []
    data = tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec((), tf.int64))
    for place, _ in enumerate(arrays.unbuffered(data).as_numpy_iterator(), 1):
        time.sleep(0.002)
        ahead.append(len(drawn) - place)
    assert not any(ahead)


def test_datasets_that_do_not_fit(pixels):
    for data, hint in (
        (dataset(pixels), "pairs"),
        (dataset(pixels, IDS, IDS), "pairs"),
        (dataset(pixels[..., 0], IDS).map(lambda x, y: (x[0], y)), "shape"),
        (dataset(pixels, IDS).repeat(), "endless"),
        (dataset(pixels.astype(np.float32) / 255, IDS), "fraction"),
        (dataset(pixels[..., :2], IDS), "shape"),
    ):
        with pytest.raises(UsageError, match=hint):
            load_data(data)
    with pytest.raises(DataError, match="is empty"):
        load_data(dataset(pixels, IDS).take(0))


def test_a_full_cache_disk_is_said(pixels, monkeypatch):
    def full(self, content, suffix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays.BlobStore, "store", full)
    with pytest.raises(CacheError, match="No space left"):
        load_data(dataset(pixels, IDS))
