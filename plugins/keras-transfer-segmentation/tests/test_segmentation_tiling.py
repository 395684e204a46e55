"""Tiling: every pixel is covered, shares sum to 1, what looks at single pixels does not notice the tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_transfer_segmentation.tiling import plan_tiles, predict_tiled, window

from keras_transfer.errors import UsageError

SIDES = st.integers(1, 70)
SIZES = st.tuples(SIDES, SIDES)
TILES = st.tuples(st.integers(1, 24), st.integers(1, 24))
OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


def pointwise(batch):
    """Probabilities of each pixel by itself."""
    scores = batch @ np.array([[0.02, -0.01], [0.0, 0.03], [-0.01, 0.0]], np.float32)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@settings(max_examples=40)
@given(SIZES, TILES, OVERLAPS, st.integers(1, 9))
def test_a_pointwise_model_gives_what_it_gives_without_tiles(size, tile, overlap, batch_size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    before = image.copy()
    tiled = predict_tiled(pointwise, image, tile, overlap=overlap, batch_size=batch_size)
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, pointwise(image[None].astype(np.float32))[0], atol=2e-5)
    np.testing.assert_allclose(tiled.sum(axis=-1), 1, atol=2e-5)
    np.testing.assert_array_equal(image, before)


@settings(max_examples=40)
@given(SIZES, TILES, OVERLAPS)
def test_shares_sum_to_one_everywhere(size, tile, overlap):
    """Tiles that all say one give one at every pixel, and each tile's pixel counts for something."""
    image = np.zeros((*size, 3), np.uint8)
    ones = predict_tiled(
        lambda tiles: np.ones((*tiles.shape[:3], 1), np.float32), image, tile, overlap=overlap
    )
    np.testing.assert_allclose(ones, 1, atol=1e-5)
    assert window(tile).min() > 0


@given(SIZES, TILES, OVERLAPS)
def test_tiles_lie_inside_and_overlap_as_asked(size, tile, overlap):
    tiles = plan_tiles(size, tile, overlap)
    for starts, side, length in ((tiles.tops, size[0], tile[0]), (tiles.lefts, size[1], tile[1])):
        assert starts[0] == 0
        assert starts[-1] == max(0, side - length)
        steps = np.diff(starts)
        assert (steps > 0).all()
        # Rounding starts to whole pixels can take one pixel of the overlap, no more.
        assert (steps <= max(1, int(length * (1 - overlap))) + 1).all()
        assert (steps <= length).all()


def test_no_more_tiles_than_needed():
    assert plan_tiles((64, 64), (64, 64)).corners == [(0, 0)]
    assert plan_tiles((10, 20), (64, 64)).corners == [(0, 0)]
    assert plan_tiles((64, 96), (64, 64), 0.5).lefts == (0, 32)
    assert plan_tiles((64, 97), (64, 64), 0.5).lefts == (0, 16, 33)


def test_the_middle_of_a_tile_counts_most():
    """A model that is right in the middle of its tile and wrong at its border: blending follows the middle."""
    weights = window((16, 16))
    assert weights.max() == weights[7, 7]
    assert weights[0, 0] < 1e-3 < weights[7, 7]

    def wrong_at_the_border(batch):
        answers = np.zeros((*batch.shape[:3], 1), np.float32)
        answers[:, 3:-3, 3:-3] = 1
        return answers

    blended = predict_tiled(wrong_at_the_border, np.zeros((64, 64, 3), np.uint8), (16, 16))
    assert blended[8:-8, 8:-8].min() > 0.55  # a plain mean of the four tiles there gives 0.25


def test_neighbouring_tiles_that_disagree_leave_no_seam():
    calls = []

    def one_answer_a_tile(batch):
        calls.append(len(batch))
        return np.stack([np.full((*batch.shape[1:3], 1), float(tile[0, 0, 0])) for tile in batch])

    image = np.zeros((16, 24, 3), np.uint8)
    image[:, 8:] = 100  # the second tile begins here
    blended = predict_tiled(one_answer_a_tile, image, (16, 16))[8, :, 0]
    assert sum(calls) == 2
    assert blended[0] == pytest.approx(0, abs=1e-4)
    assert blended[-1] == pytest.approx(100, abs=1e-3)
    assert np.abs(np.diff(blended)).max() < 45
    assert (np.diff(blended) >= -1e-3).all()


def test_tiles_go_through_the_model_in_batches():
    sizes = []

    def count(batch):
        sizes.append(batch.shape)
        return np.ones((*batch.shape[:3], 2), np.float32)

    predict_tiled(count, np.zeros((40, 40, 3), np.float32), (16, 16), batch_size=4)
    assert sizes == [(4, 16, 16, 3)] * 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image": np.zeros((4, 4))}, "has shape"),
        ({"image": np.zeros((0, 4, 3))}, "image size"),
        ({"tile_size": (0, 4)}, "tile size"),
        ({"overlap": 1.0}, "overlap"),
        ({"batch_size": 0}, "batch_size"),
        ({"predict": lambda batch: batch[:, :2]}, "The model gives"),
    ],
)
def test_what_is_impossible_is_refused(arguments, named):
    given_ = {"predict": pointwise, "image": np.zeros((8, 8, 3)), "tile_size": (4, 4), **arguments}
    with pytest.raises(UsageError, match=named):
        predict_tiled(**given_)
