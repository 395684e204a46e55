"""Augmentation: image and mask move together, the key decides, colours are the image's alone."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_transfer_segmentation.augment import Augmentation
from scipy import ndimage

from keras_transfer.errors import UsageError

STILL = Augmentation(flips="none", scale=(1, 1), rotation=0, brightness=0, contrast=0, saturation=0)
MOVES = Augmentation(flips="both", scale=(0.7, 2.0), rotation=25, brightness=0, contrast=0, saturation=0)


def blobs(count=4, size=(40, 56), seed=0):
    """Two-coloured images with round shapes, and the masks that say where they are bright."""
    noise = np.random.default_rng(seed).normal(size=(count, *size))
    masks = np.stack([ndimage.gaussian_filter(one, 5) > 0 for one in noise])
    images = np.where(masks, 220, 40).astype(np.uint8)[..., None].repeat(3, -1)
    return images, masks.astype(np.uint8)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_image_and_mask_stay_together(epoch, step):
    images, masks = blobs()
    varied, moved = MOVES(images, masks, (epoch, step))
    inside = moved != 255
    bright = varied[..., 0] > 130
    # Half-way colours at slanted edges may fall to either side; one pixel from an edge there are none.
    clear = inside & (np.abs(varied[..., 0] - 130) > 60)
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(bright[clear], moved[clear] == 1)
    assert (bright[inside] == (moved[inside] == 1)).mean() > 0.97
    # From outside: black, which no pixel inside is.
    np.testing.assert_array_equal(varied[..., 0] == 0, ~inside)


def test_the_test_above_would_see_a_shift_of_one_pixel():
    images, masks = blobs()
    varied, moved = MOVES(images, masks, (0, 0))
    moved = np.roll(moved, 1, axis=2)
    clear = (moved != 255) & (np.abs(varied[..., 0] - 130) > 60)
    assert not np.array_equal(varied[..., 0][clear] > 130, moved[clear] == 1)


def test_nothing_is_nothing():
    images, masks = blobs()
    varied, moved = STILL(images, masks, (3, 4))
    np.testing.assert_array_equal(varied, images)
    np.testing.assert_array_equal(moved, masks)


def test_flips_alone_are_exact_and_happen_half_of_the_time():
    images, masks = blobs(60, (5, 7))
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, images.shape).astype(np.uint8)
    masks = rng.integers(0, 9, masks.shape).astype(np.uint8)
    flips = {(False, False): 0, (True, False): 0, (False, True): 0, (True, True): 0}
    for kind in ("horizontal", "both"):
        settings_ = Augmentation(flips=kind, scale=(1, 1), rotation=0, brightness=0, contrast=0, saturation=0)
        varied, moved = settings_(images, masks, (0,))
        for i in range(60):
            found = []
            for y, x in flips:
                turned = [a[i][:: -1 if y else 1, :: -1 if x else 1] for a in (images, masks)]
                if np.array_equal(varied[i], turned[0]) and np.array_equal(moved[i], turned[1]):
                    found.append((y, x))
            assert len(found) == 1
            assert kind == "both" or not found[0][0]
            flips[found[0]] += 1
    assert min(flips.values()) >= 5
    assert flips[False, True] + flips[True, True] == pytest.approx(60, abs=25)


def test_a_rotation_turns_about_the_centre():
    size = 41
    images = np.zeros((1, size, size, 3), np.uint8)
    masks = np.zeros((1, size, size), np.uint8)
    masks[0, 20, 20] = 1
    masks[0, 20, 21:36] = 2
    _, moved = Augmentation("none", (1, 1), 180, 0, 0, 0)(images, masks, (0,))
    assert moved[0, 20, 20] == 1
    ys, xs = np.nonzero(moved[0] == 2)
    assert not np.array_equal(moved, masks)
    reach = np.hypot(ys - 20, xs - 20).max()
    assert reach == pytest.approx(15, abs=1)


def test_enlarged_parts_have_no_border_and_reduced_images_are_whole():
    images, masks = blobs(8)
    _, moved = Augmentation("none", (1.5, 2), 0, 0, 0, 0)(images, masks, (0,))
    assert not (moved == 255).any()
    ones = np.ones_like(masks)
    _, moved = Augmentation("none", (0.5, 0.5), 0, 0, 0, 0)(images, ones, (0,))
    assert (moved == 1).sum(axis=(1, 2)) == pytest.approx(np.full(8, 40 * 56 / 4))
    places = {tuple(np.argwhere(one == 1)[0]) for one in moved}
    assert len(places) > 3


def test_colours_change_in_the_image_alone():
    images, masks = blobs()
    colors = Augmentation("none", (1, 1), 0, brightness=0.3, contrast=0.3, saturation=0.3)
    varied, moved = colors(images, masks, (0,))
    np.testing.assert_array_equal(moved, masks)
    assert varied.dtype == np.float32
    assert (varied != images).mean() > 0.9
    assert varied.min() >= 0
    assert varied.max() <= 255
    means = varied.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))
    assert len({round(float(mean), 3) for mean in means}) == 4  # each image its own
    grey = varied.max(axis=-1) - varied.min(axis=-1)
    assert grey.max() < 1e-2  # what was grey stays grey


def test_the_strength_of_colours_does_not_move_masks():
    images, masks = blobs()
    strong = Augmentation("both", (0.7, 2.0), 25, 0.5, 0.5, 0.5)
    np.testing.assert_array_equal(strong(images, masks, (1, 2))[1], MOVES(images, masks, (1, 2))[1])


def test_the_seed_and_the_key_decide():
    images, masks = blobs()
    before = images.copy(), masks.copy()
    first = MOVES(images, masks, (1, 2))
    for one, other in zip(first, MOVES(images, masks, (1, 2)), strict=True):
        np.testing.assert_array_equal(one, other)
    other_seed = Augmentation("both", (0.7, 2.0), 25, 0, 0, 0, seed=1)
    for other in (
        MOVES(images, masks, (2, 1)),
        MOVES(images, masks, (1, 2, 0)),
        other_seed(images, masks, (1, 2)),
    ):
        assert not np.array_equal(first[1], other[1])
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])
    # An image's variation is its place's in the batch, not the batch's length.
    np.testing.assert_array_equal(MOVES(images[:2], masks[:2], (1, 2))[1], first[1][:2])


def test_another_process_gives_the_same():
    script = (
        "import numpy as np, hashlib\n"
        "from keras_transfer_segmentation.augment import Augmentation\n"
        "images = (np.arange(2 * 8 * 9 * 3) % 251).astype(np.uint8).reshape(2, 8, 9, 3)\n"
        "varied, moved = Augmentation()(images, images[..., 0] % 4, (3, 1))\n"
        "digest = hashlib.sha256(varied.tobytes() + moved.tobytes()).hexdigest()\n"
    )
    here: dict = {}
    exec(script, here)
    done = subprocess.run(
        [sys.executable, "-c", script + "print(digest)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here["digest"]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([np.uint8, np.int32, np.int64, np.uint16]))
def test_a_mask_never_gets_a_class_it_had_not(key, dtype):
    rng = np.random.default_rng(key)
    masks = (rng.integers(0, 5, (2, 9, 11)) * (60 if dtype == np.uint8 else 9000)).astype(dtype)
    _, moved = MOVES(np.zeros((2, 9, 11, 3), np.uint8), masks, (key,))
    assert moved.dtype == dtype
    for one, other in zip(moved, masks, strict=True):
        assert set(one.ravel().tolist()) <= set(other.ravel().tolist()) | {255}


@pytest.mark.parametrize(
    "arguments",
    [
        {"flips": "vertical"},
        {"scale": (2, 1)},
        {"scale": (0, 1)},
        {"rotation": -1},
        {"brightness": 2},
        {"contrast": float("nan")},
        {"seed": -1},
    ],
)
def test_impossible_strengths_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        Augmentation(**arguments)


@pytest.mark.parametrize(
    ("images", "masks", "key", "named"),
    [
        (np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4), int), (0,), "float64"),
        (
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((1, 4, 5), int),
            (0,),
            r"expected whole numbers \(1, 4, 4\)",
        ),
        (np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4)), (0,), "masks are float64"),
        (
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((1, 4, 4), np.int8),
            (0,),
            "cannot hold the ignore index 255",
        ),
        (np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), int), (), "key"),
        (np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), int), (-1,), "key"),
    ],
)
def test_other_inputs_are_refused(images, masks, key, named):
    with pytest.raises(UsageError, match=named):
        STILL(images, masks, key)


def test_what_is_noted_gives_the_same_augmentation():
    assert Augmentation(**MOVES.to_dict()) == MOVES
