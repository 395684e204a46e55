"""Resizing masks: no class is invented, mask and image stay in step, and the way back is the same way."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_transfer_segmentation import standalone
from keras_transfer_segmentation.classes import Classes, palette
from keras_transfer_segmentation.resizing import resize_mask, restore_mask

from keras_transfer.errors import UsageError
from keras_transfer.export.standalone import CLASSIFY
from keras_transfer.preprocessing import Preprocessing


def script():
    """``segment.py`` as in a bundle: ``classify.py`` is beside it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for path in (CLASSIFY, Path(standalone.__file__).with_name("segment.py")):
            spec = importlib.util.spec_from_file_location(path.stem, path)
            found[path.stem] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, path.stem, found[path.stem])
            spec.loader.exec_module(found[path.stem])
    return found["segment"]


SCRIPT = script()

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


def certain(mask, classes):
    """Probabilities (H, W, C) of a model that is sure of a mask; equal ones where it is ignored."""
    return np.where(mask[..., None] == 255, 1 / classes, mask[..., None] == np.arange(classes)).astype(
        np.float32
    )


@given(
    arrays.arrays(
        np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.integers(0, 9)
    ),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_mask_comes_back_where_it_was_made_larger(mask, up, wide):
    """Made larger by whole factors and back, nothing changes."""
    rules = Preprocessing((mask.shape[0] * up, mask.shape[1] * wide), resize="squash")
    back = restore_mask(certain(resize_mask(mask, rules, 255), 10), rules, mask.shape, 255)
    np.testing.assert_array_equal(back, mask)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), RULES)
def test_what_a_crop_cut_off_is_ignored_and_only_that(shape, rules):
    height, width = rules.size
    back = restore_mask(np.ones((height, width, 1), np.float32), rules, shape, 255)
    seen = back != 255
    assert back.shape == shape and (back[seen] == 0).all()
    if rules.resize == "crop":
        share = min(1, shape[1] * height / width / shape[0]) * min(1, shape[0] * width / height / shape[1])
        assert seen.sum() == pytest.approx(share * seen.size, abs=2 * sum(shape))
    else:
        assert seen.all()


@given(st.integers(2, 24), st.integers(2, 24), st.floats(0.3, 0.7))
def test_an_edge_comes_out_between_the_model_s_pixels(size, factor, share):
    """Probabilities that rise from left to right are equal at one place; there the mask turns, to the pixel."""
    rising = (np.arange(size) + 0.5) / size - share + 0.5
    chances = np.broadcast_to(np.stack([1 - rising, rising], axis=-1), (size, size, 2))
    mask = restore_mask(chances, Preprocessing((size, size)), (5, size * factor), 255)
    inner = slice(factor, -factor)  # beyond the centre of the outermost pixels nothing rises
    centers = (np.arange(size * factor) + 0.5) / (size * factor)
    sure = np.abs(centers - share)[inner] > 1e-4
    np.testing.assert_array_equal(mask[2, inner][sure], (centers > share)[inner][sure])


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (40, 24), (13, 29)])
def test_shapes_come_back_in_place(resize, size):
    """Made smaller and back, a large shape keeps its place to within a pixel of the small mask."""
    ys, xs = np.mgrid[:90, :120]
    mask = ((ys - 40) ** 2 + (xs - 66) ** 2 < 30**2).astype(np.uint8)
    rules = Preprocessing(size, resize=resize)
    back = restore_mask(certain(resize_mask(mask, rules, 255), 2), rules, mask.shape, 255)
    distance = np.abs(np.hypot(ys - 40, xs - 66) - 30)
    clear = (distance > 120 / min(size)) & (back != 255)
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(back[clear], mask[clear])


def test_what_a_crop_cut_off_is_ignored():
    rules = Preprocessing((10, 10), resize="crop")
    back = restore_mask(certain(np.ones((10, 10), np.uint8), 2), rules, (20, 40), 255)
    assert (back[:, :10] == 255).all()
    assert (back[:, 10:30] == 1).all()
    assert (back[:, 30:] == 255).all()


def test_only_the_model_s_answer_can_be_restored():
    with pytest.raises(UsageError, match=r"expected the model's \(10, 12\)"):
        restore_mask(np.zeros((12, 10, 2)), Preprocessing((10, 12)), (20, 20), 255)


@given(RULES, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 99))
def test_the_script_of_a_bundle_restores_alike(rules, image_size, seed):
    chances = np.random.default_rng(seed).dirichlet([1, 1, 1], rules.size).astype(np.float32)
    expected = restore_mask(chances, rules, image_size, 255)
    np.testing.assert_array_equal(SCRIPT.restore_mask(chances, rules.to_dict(), image_size, 255), expected)


@pytest.mark.parametrize(
    "classes", [Classes(("a", "b")), Classes(("a", "b"), ((9, 8, 7), (1, 2, 3)), 7, (5, 5, 5))]
)
def test_the_script_of_a_bundle_paints_alike(classes):
    expected = palette()
    expected[: len(classes)] = classes.drawing_colors
    if classes.ignore_color:
        expected[classes.ignore_index] = classes.ignore_color
    np.testing.assert_array_equal(SCRIPT.colors_of(classes.to_dict()), expected)
