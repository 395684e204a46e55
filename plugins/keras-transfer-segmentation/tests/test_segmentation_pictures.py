"""Pictures: the right colour in the right place, areas that add up, files that can be read back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_transfer_segmentation.classes import Classes, palette
from keras_transfer_segmentation.pictures import GAP, area_percent, colorize, overlay, save_picture, strip
from PIL import Image

from keras_transfer.errors import DataError, UsageError

CLASSES = Classes(("ground", "tree", "road"))
COLORED = Classes(("ground", "road"), ((1, 2, 3), (200, 100, 0)), ignore_color=(9, 9, 9))
MASK = np.array([[0, 1, 2], [1, 1, 255]], np.uint8)
IMAGE = np.full((2, 3, 3), 100, np.uint8)


def test_each_pixel_has_the_colour_of_its_class():
    colors = colorize(MASK, CLASSES)
    for y, x in np.ndindex(MASK.shape):
        assert tuple(colors[y, x]) == tuple(palette()[MASK[y, x]])
    assert colorize(np.array([[0, 1, 255]]), COLORED).tolist() == [[[1, 2, 3], [200, 100, 0], [9, 9, 9]]]


def test_an_overlay_is_half_image_half_colour_but_on_background_and_ignored_pixels():
    before = IMAGE.copy()
    laid = overlay(IMAGE, MASK, CLASSES)
    assert laid[0, 0].tolist() == laid[1, 2].tolist() == [100, 100, 100]
    assert laid[0, 1].tolist() == [114, 50, 50]  # tree is (128, 0, 0)
    assert laid[0, 2].tolist() == [50, 114, 50]  # road is (0, 128, 0)
    assert overlay(IMAGE, MASK, CLASSES, background=None)[0, 0].tolist() == [50, 50, 50]
    np.testing.assert_array_equal(overlay(IMAGE, MASK, CLASSES, alpha=0), IMAGE)
    counted = MASK != 255
    covered = overlay(IMAGE, MASK, CLASSES, alpha=1, background=None)
    np.testing.assert_array_equal(covered[counted], colorize(MASK, CLASSES)[counted])
    np.testing.assert_array_equal(IMAGE, before)


def test_a_strip_in_a_file_can_be_read_back(tmp_path):
    path = tmp_path / "new" / "strip.png"
    save_picture(path, strip(IMAGE, MASK, np.zeros_like(MASK), CLASSES))
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (3 * 3 + 2 * GAP, 2))
        pixels = np.array(picture)
    np.testing.assert_array_equal(pixels[:, :3], IMAGE)
    assert (pixels[:, 3 : 3 + GAP] == 255).all()
    np.testing.assert_array_equal(pixels[:, 3 + GAP : 6 + GAP], colorize(MASK, CLASSES))
    np.testing.assert_array_equal(pixels[:, 6 + 2 * GAP :], np.zeros((2, 3, 3)))
    assert [file.name for file in path.parent.iterdir()] == ["strip.png"]


def test_a_strip_without_truth_and_over_the_image():
    two = strip(IMAGE, None, MASK, CLASSES, alpha=0.5)
    assert two.shape == (2, 6 + GAP, 3)
    np.testing.assert_array_equal(two[:, 3 + GAP :], overlay(IMAGE, MASK, CLASSES))


def test_areas_by_hand():
    assert area_percent(MASK, CLASSES) == pytest.approx({"ground": 20, "tree": 60, "road": 20})
    assert area_percent(np.full((2, 2), 255), CLASSES) == {"ground": 0, "tree": 0, "road": 0}


@pytest.mark.slow
@given(
    arrays.arrays(
        np.uint8,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_areas_sum_to_100(mask):
    areas = area_percent(mask, CLASSES)
    assert sum(areas.values()) == pytest.approx(100 if (mask != 255).any() else 0)
    for index, name in enumerate(CLASSES.names):
        assert (areas[name] > 0) == (mask == index).any()


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: colorize(MASK / 1.0, CLASSES), UsageError, "float64"),
        (lambda: colorize(MASK + np.uint8(3), CLASSES), DataError, "not belong to a class"),
        (lambda: overlay(IMAGE[:1], MASK, CLASSES), UsageError, "same size"),
        (lambda: overlay(IMAGE / 255.0, MASK, CLASSES), UsageError, "float64"),
        (lambda: overlay(IMAGE, MASK, CLASSES, alpha=2), UsageError, "alpha"),
        (lambda: strip(IMAGE, MASK.T, MASK, CLASSES), UsageError, "same size"),
        (lambda: area_percent(MASK[0], CLASSES), UsageError, "height, width"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, error, named):
    with pytest.raises(error, match=named):
        call()


def test_pictures_are_png_files(tmp_path):
    with pytest.raises(UsageError, match=r"\.png"):
        save_picture(tmp_path / "picture.jpg", IMAGE)
    with pytest.raises(UsageError, match="expected uint8"):
        save_picture(tmp_path / "picture.png", MASK)
    assert not list(tmp_path.iterdir())
