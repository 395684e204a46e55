"""Resizing masks: no class is invented, mask and image stay in step, and the way back is the same way."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_transfer_segmentation.resizing import resize_mask, restore_mask

from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing

RULES = st.builds(
    Preprocessing,
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    resize=st.sampled_from(["squash", "crop", "pad"]),
    antialias=st.booleans(),
)


@given(
    arrays.arrays(
        np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 65535)
    ),
    RULES,
)
def test_resizing_never_invents_a_class(mask, rules):
    before = mask.copy()
    resized = resize_mask(mask, rules, 65535)
    assert resized.shape == rules.size
    assert resized.dtype == mask.dtype
    allowed = set(mask.ravel().tolist()) | ({65535} if rules.resize == "pad" else set())
    assert set(resized.ravel().tolist()) <= allowed
    np.testing.assert_array_equal(mask, before)


@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(0, 39),
    st.booleans(),
    st.sampled_from([0, 255]),
    RULES,
)
def test_a_resized_mask_lines_up_with_its_image(height, width, edge, vertical, left, rules):
    """A two-coloured image and the mask that says where it is bright stay together, to the pixel."""
    bright = np.zeros((height, width), bool)
    if vertical:
        bright[:, min(edge, width - 1) :] = True
    else:
        bright[min(edge, height - 1) :] = True
    image = np.where(bright, 255 - left, left).astype(np.uint8)
    image = np.repeat(image[..., None], 3, axis=2)
    resized = rules.apply(image)[..., 0].astype(int)
    mask = resize_mask(bright.astype(np.uint8), rules, 255)
    is_bright = resized > 127 if left == 0 else resized < 128
    clear = np.abs(resized - 127.5) > 64  # between the colours, either is right
    counted = clear & (mask != 255)
    np.testing.assert_array_equal(mask[counted], is_bright[counted])


@pytest.mark.parametrize("size", [(32, 20), (20, 32), (7, 9), (64, 64), (10, 20)])
def test_padding_is_ignored_and_is_where_the_image_is_black(size):
    rules = Preprocessing(size, resize="pad")
    padded = rules.apply(np.full((20, 40, 3), 200, np.uint8))[..., 0] == 0
    mask = resize_mask(np.ones((20, 40), np.uint8), rules, 255)
    np.testing.assert_array_equal(mask == 255, padded)


@given(
    arrays.arrays(
        np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.integers(0, 9)
    ),
    RULES,
)
def test_a_mask_comes_back_where_it_was_made_larger(mask, rules):
    """Made larger and back, nothing changes; what a crop cut off is ignored, and only that."""
    height, width = rules.size
    if rules.resize == "squash":
        assume(height >= mask.shape[0] and width >= mask.shape[1])
    elif rules.resize == "crop":
        # At a factor of exactly 1, half a pixel that is cut off leaves the nearest one open.
        assume(max(height / mask.shape[0], width / mask.shape[1]) > 1)
    else:
        assume(min(height / mask.shape[0], width / mask.shape[1]) >= 1)
    back = restore_mask(resize_mask(mask, rules, 255), rules, mask.shape, 255)
    assert back.dtype == mask.dtype
    seen = back != 255
    np.testing.assert_array_equal(back[seen], mask[seen])
    if rules.resize == "crop":
        share = min(1, mask.shape[1] * height / width / mask.shape[0]) * min(
            1, mask.shape[0] * width / height / mask.shape[1]
        )
        assert seen.sum() == pytest.approx(share * mask.size, abs=2 * sum(mask.shape))
    else:
        assert seen.all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (40, 24), (13, 29)])
def test_shapes_come_back_in_place(resize, size):
    """Made smaller and back, a large shape keeps its place to within a pixel of the small mask."""
    ys, xs = np.mgrid[:90, :120]
    mask = ((ys - 40) ** 2 + (xs - 66) ** 2 < 30**2).astype(np.uint8)
    rules = Preprocessing(size, resize=resize)
    back = restore_mask(resize_mask(mask, rules, 255), rules, mask.shape, 255)
    distance = np.abs(np.hypot(ys - 40, xs - 66) - 30)
    clear = (distance > 120 / min(size)) & (back != 255)
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(back[clear], mask[clear])


def test_what_a_crop_cut_off_is_ignored():
    rules = Preprocessing((10, 10), resize="crop")
    back = restore_mask(np.ones((10, 10), np.uint8), rules, (20, 40), 255)
    assert (back[:, :10] == 255).all()
    assert (back[:, 10:30] == 1).all()
    assert (back[:, 30:] == 255).all()


def test_only_the_model_s_mask_can_be_restored():
    with pytest.raises(UsageError, match=r"expected the model's \(10, 12\)"):
        restore_mask(np.zeros((12, 10), int), Preprocessing((10, 12)), (20, 20), 255)
