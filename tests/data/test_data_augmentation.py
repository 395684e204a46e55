"""Augmentation: a pure function of policy, seed, key and pixels; in the pipeline, of epoch and step."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_transfer.data import load_data, tf_dataset
from keras_transfer.data.augmentation import POLICIES, Augmenter
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing

SIZE = (48, 40)
SMALL = Preprocessing(SIZE)
LABELS = np.eye(8, dtype=np.float32)


@pytest.fixture(scope="module")
def augmenters() -> dict[str, Augmenter]:
    return {policy: Augmenter(policy, SIZE, seed=5) for policy in POLICIES}


@pytest.fixture(scope="module")
def pixels(photos) -> np.ndarray:
    """Eight real crops: uint8 (8, 48, 40, 3)."""
    rng = np.random.default_rng(0)
    photo = photos["china"]
    places = zip(rng.integers(0, 370, 8), rng.integers(0, 590, 8), strict=True)
    return np.stack([photo[y : y + SIZE[0], x : x + SIZE[1]] for y, x in places])


@pytest.fixture(scope="module")
def table(photo_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(photo_folder.parent / "cache"))
        return load_data(photo_folder)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_comes_out_are_pixels_and_the_callers_array_stays(augmenters, pixels, policy, dtype):
    given = pixels.astype(dtype)
    before = given.copy()
    varied = augmenters[policy].images(given, (0, 0))
    mixed, labels = augmenters[policy].mix(varied, LABELS, (0, 0))
    for images in (varied, mixed):
        assert images.dtype == np.float32 and images.shape == pixels.shape
        assert np.isfinite(images).all() and images.min() >= 0 and images.max() <= 255
    assert labels.dtype == np.float32 and labels.shape == LABELS.shape
    assert np.array_equal(given, before) and np.array_equal(LABELS, np.eye(8))
    assert not np.shares_memory(varied, given) and not np.shares_memory(labels, LABELS)


@pytest.mark.parametrize("policy", ["light", "standard", pytest.param("strong", marks=pytest.mark.slow)])
def test_the_key_alone_decides(augmenters, pixels, policy):
    augmenter = augmenters[policy]
    first = augmenter.images(pixels, (2, 7))
    others = [augmenter.images(pixels, key) for key in ((2, 8), (3, 7), (7, 2), (2,), (2, 7, 0))]
    assert all(not np.array_equal(first, other) for other in others)
    assert np.array_equal(augmenter.images(pixels, (2, 7)), first)
    assert np.array_equal(Augmenter(policy, SIZE, seed=5).images(pixels, (2, 7)), first)
    assert not np.array_equal(Augmenter(policy, SIZE, seed=6).images(pixels, (2, 7)), first)


@pytest.mark.parametrize("key", [(0, 0), (0, 1)])
def test_the_key_alone_decides_the_mixture(augmenters, pixels, key):
    first = augmenters["strong"].mix(pixels, LABELS, key)
    other = augmenters["strong"].mix(pixels, LABELS, (key[0], key[1] + 2))
    again = augmenters["strong"].mix(pixels, LABELS, key)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_no_policy_changes_nothing_and_only_strong_mixes(augmenters, pixels):
    assert np.array_equal(augmenters["none"].images(pixels, (0, 0)), pixels)
    for policy in ("none", "light", "standard"):
        images, labels = augmenters[policy].mix(pixels, LABELS, (0, 0))
        assert np.array_equal(images, pixels) and np.array_equal(labels, LABELS)
        assert not augmenters[policy].mixes
    assert augmenters["strong"].mixes


def test_every_image_is_varied_on_its_own(augmenters, pixels):
    same = np.repeat(pixels[:1], 8, axis=0)
    for policy in ("light", "standard", "strong"):
        varied = augmenters[policy].images(same, (0, 0))
        assert len({image.tobytes() for image in varied}) == 8, policy


def test_the_image_is_still_recognisable(augmenters, pixels):
    """A varied image is, on average, nearer to its own original than to another."""
    flat = pixels.reshape(8, -1).astype(np.float32)
    for policy in ("light", "standard"):
        own, foreign = [], []
        for step in range(6):
            varied = augmenters[policy].images(pixels, (0, step)).reshape(8, -1)
            distance = np.abs(varied[:, None] - flat[None]).mean(axis=2)
            own.append(np.diag(distance).mean())
            foreign.append(distance[~np.eye(8, dtype=bool)].mean())
        assert np.mean(own) < np.mean(foreign), policy


def test_flips_are_those_asked_for(photos):
    # A gradient that grows to the right and the bottom tells how it was turned.
    ramp = np.add.outer(np.arange(48) * 2.0, np.arange(40) * 3.0)[..., None].repeat(3, axis=2)
    batch = np.repeat(ramp[None].astype(np.float32), 64, axis=0)

    def turned(flips: str) -> tuple[float, float]:
        varied = Augmenter("light", SIZE, flips=flips).images(batch, (0, 0))
        sideways = varied[:, :, 0].mean(axis=(1, 2)) > varied[:, :, -1].mean(axis=(1, 2))
        upside = varied[:, 0].mean(axis=(1, 2)) > varied[:, -1].mean(axis=(1, 2))
        return sideways.mean(), upside.mean()

    assert turned("none") == (0, 0)
    sideways, upside = turned("horizontal")
    assert 0.25 < sideways < 0.75 and upside == 0
    assert all(0.25 < share < 0.75 for share in turned("both"))


def test_the_alexnet_policy_shows_227_of_256_pixels():
    """On a ramp of one a pixel, what is seen of 256 pixels spans 227, somewhere else in every image."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.float32)[None, None, :, None], (64, 4, 256, 3))
    seen = Augmenter("alexnet", (4, 256), flips="none").images(ramp, (0, 0))[:, 0, :, 0]
    np.testing.assert_allclose(seen[:, -1] - seen[:, 0], 255 * 227 / 256, rtol=1e-4)
    left = seen[:, 0]
    assert left.min() >= 0 and seen.max() <= 255 and left.std() > 4
    mirrored = Augmenter("alexnet", (4, 256)).images(ramp, (0, 0))[:, 0, :, 0]
    assert 0.25 < (mirrored[:, 0] > mirrored[:, -1]).mean() < 0.75


def test_cutmix_labels_are_the_share_of_the_pixels():
    # Image i is filled with the value i: its pixels tell where they come from.
    large = Augmenter("strong", (96, 96))
    filled = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None, None], (8, 96, 96, 3))
    for step in (0, 2, 4):  # even: CutMix
        images, labels = large.mix(filled, LABELS, (0, step))
        shares = np.stack([(images == i).all(axis=3).mean(axis=(1, 2)) for i in range(8)], axis=1)
        # The rectangle's sides are rounded to whole pixels, the label is not.
        np.testing.assert_allclose(labels, shares, atol=2.1 / 96)
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)


def test_mixup_labels_are_the_share_of_the_brightness(augmenters):
    filled = np.broadcast_to(30 * np.arange(8, dtype=np.float32)[:, None, None, None], (8, *SIZE, 3))
    images, labels = augmenters["strong"].mix(filled, LABELS, (0, 1))
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels @ (30 * np.arange(8)), rtol=1e-4)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(labels, axis=1) > 1).any()


def test_the_description_can_be_written_down(augmenters):
    for policy, augmenter in augmenters.items():
        told = json.loads(json.dumps(augmenter.to_dict()))
        assert told["policy"] == policy and told["seed"] == 5 and told["flips"] == "horizontal"
        if policy == "strong":
            assert told["mixing"]["by_turns"][0]["layer"] == "CutMix"
    assert len({json.dumps(augmenter.to_dict()) for augmenter in augmenters.values()}) == len(POLICIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "heavy"}, "light, none, standard, strong"),
        ({"policy": "stron"}, "Did you mean strong"),
        ({"flips": "vertical"}, "both, horizontal, none"),
        ({"size": (0, 8)}, "at least 1"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        Augmenter(**{"policy": "light", "size": SIZE, **arguments})


def test_bad_batches_and_keys(augmenters, pixels):
    augmenter = augmenters["strong"]
    for key in ((), (-1, 0), (0.5,), (True,)):
        with pytest.raises(UsageError, match="key"):
            augmenter.images(pixels, key)
    with pytest.raises(UsageError, match="48, 40, 3"):
        augmenter.images(pixels[:, :20], (0, 0))
    for labels in (np.arange(8), LABELS[:4], np.eye(8, dtype=np.int32)):
        with pytest.raises(UsageError, match="one-hot"):
            augmenter.mix(pixels, labels, (0, 0))
    assert augmenter.images(pixels[:0], (0, 0)).shape == (0, *SIZE, 3)
    assert augmenter.mix(pixels[:0], LABELS[:0], (0, 0))[0].shape == (0, *SIZE, 3)


FRESH = """
import sys
import numpy as np
from sklearn.datasets import load_sample_image
from keras_transfer.data.augmentation import Augmenter
pixels = load_sample_image("flower.jpg")[:384].reshape(8, 48, 640, 3)[:, :, :40]
augmenter = Augmenter("strong", (48, 40), seed=5)
if {used}:
    augmenter.images(pixels[:3], (9, 9))
images, labels = augmenter.mix(augmenter.images(pixels, (1, 2)), np.eye(8, dtype=np.float32), (1, 2))
np.savez(sys.argv[1], images=images, labels=labels)
"""


@pytest.mark.nightly
def test_a_fresh_process_gives_the_same_images(photos, augmenters, tmp_path):
    """Bit by bit in two new processes; in this one, which has run other tests, but for the last digits."""
    pixels = photos["flower"][:384].reshape(8, 48, 640, 3)[:, :, :40]
    here = augmenters["strong"].mix(augmenters["strong"].images(pixels, (1, 2)), LABELS, (1, 2))
    fresh = []
    for used in (False, True):
        path = tmp_path / f"{used}.npz"
        subprocess.run([sys.executable, "-c", FRESH.format(used=used), str(path)], check=True)
        with np.load(path) as kept:
            fresh.append((kept["images"], kept["labels"]))
    for first, second, own in zip(*fresh, here, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(own, first, atol=1e-2)


# --- in the pipeline ---


def as_arrays(dataset) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def equal(a, b) -> bool:
    return len(a) == len(b) and all(
        len(x) == len(y) and all(np.array_equal(i, j) for i, j in zip(x, y, strict=True))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.slow
def test_a_training_taken_up_sees_the_same_images(table, augmenters):
    from_start = tf_dataset(
        table, SMALL, 16, shuffle=True, seed=3, one_hot=True, weights=True, augment=augmenters["strong"]
    )
    epochs = [as_arrays(from_start) for _ in range(4)]
    assert not equal(epochs[0], epochs[1])
    later = tf_dataset(
        table,
        SMALL,
        16,
        shuffle=True,
        seed=3,
        one_hot=True,
        weights=True,
        first_epoch=2,
        repeat=True,
        augment=Augmenter("strong", SIZE, seed=5),
    )
    assert equal(as_arrays(later.take(6)), epochs[2] + epochs[3])


@pytest.mark.slow
def test_the_pipeline_varies_with_epoch_and_step(table, augmenters):
    rows = [3, 8, 21, 30, 5, 1]
    dataset = tf_dataset(table, SMALL, 4, indices=rows, augment=augmenters["standard"], first_epoch=7)
    assert dataset.element_spec[0].dtype == "float32"
    plain = as_arrays(tf_dataset(table, SMALL, 4, indices=rows))
    for epoch in (7, 8):
        for step, (images, labels) in enumerate(as_arrays(dataset)):
            expected = augmenters["standard"].images(plain[step][0], (epoch, step))
            assert np.array_equal(images, expected) and np.array_equal(labels, plain[step][1])


@pytest.mark.slow
def test_no_policy_is_no_augmentation(table, augmenters):
    for options in ({}, {"one_hot": True, "weights": True}):
        plain = as_arrays(tf_dataset(table, SMALL, 16, **options))
        assert equal(as_arrays(tf_dataset(table, SMALL, 16, augment=augmenters["none"], **options)), plain)


@pytest.mark.slow
def test_class_indices_are_not_mixed(table, augmenters):
    dataset = tf_dataset(table, SMALL, 16, augment=augmenters["strong"])
    images, labels = as_arrays(dataset)[0]
    assert np.array_equal(labels, table.labels[:16])
    plain = as_arrays(tf_dataset(table, SMALL, 16))[0][0]
    assert np.array_equal(images, augmenters["strong"].images(plain, (0, 0)))


@pytest.mark.slow
def test_a_mixtures_loss_is_the_mixture_of_the_weighted_losses(table, augmenters):
    weights = np.where(table.labels == 0, 3.0, 0.5).astype(np.float32)
    weights[:4] = 0
    plain = as_arrays(tf_dataset(table, SMALL, 40, one_hot=True, augment=augmenters["strong"]))[0]
    images, labels, weight = as_arrays(
        tf_dataset(table, SMALL, 40, one_hot=True, weights=weights, augment=augmenters["strong"])
    )[0]
    assert np.array_equal(images, plain[0])
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
    # Each class's part of the loss: its share of the mixture times the weight of the class, but for the four
    # images without weight.
    parts = plain[1] * np.array([3.0, 0.5])
    full = np.isclose(labels * weight[:, None], parts, atol=1e-4).all(axis=1)
    assert full.mean() > 0.7 and (labels * weight[:, None] <= parts + 1e-4).all()
    assert (plain[1].max(axis=1) < 0.99).any()


def test_other_labels_may_be_given(table, augmenters):
    taught = np.random.default_rng(0).dirichlet([1, 1, 1], len(table))
    ((_, labels, weight),) = as_arrays(tf_dataset(table, SMALL, 40, labels=taught, weights=table.weights))
    assert labels.dtype == np.float32 and np.allclose(labels, taught) and np.all(weight == 1)
    ((_, mixed),) = as_arrays(tf_dataset(table, SMALL, 40, labels=taught, augment=augmenters["strong"]))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(mixed, taught)
    for bad in ({"labels": taught[:3]}, {"weights": table.weights[:3]}):
        with pytest.raises(UsageError, match="has 3 rows"):
            tf_dataset(table, SMALL, 8, **bad)
