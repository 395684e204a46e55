"""Class lists: what they accept, the colour table, the palette everybody knows."""

import numpy as np
import pytest
from keras_transfer_segmentation.classes import Classes, palette, read_color_table

from keras_transfer.errors import DataError, UsageError


def test_the_palette_is_the_one_of_pascal_voc():
    # From the development kit: aeroplane, bicycle, bird, cat, the void colour of index 255.
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        8: (64, 0, 0),
        255: (224, 224, 192),
    }
    for index, color in known.items():
        assert tuple(palette()[index]) == color
    assert len(np.unique(palette(), axis=0)) == 256


def test_the_palette_given_out_is_the_callers_own():
    palette()[:] = 7
    assert palette()[0].tolist() == [0, 0, 0]


def test_a_class_keeps_its_colour_when_classes_are_added():
    few, many = Classes(("a", "b")), Classes(("a", "b", "c", "d"))
    np.testing.assert_array_equal(few.drawing_colors, many.drawing_colors[:2])


def test_a_colour_table_gives_classes_in_order_and_the_ignored_colour(tmp_path):
    table = tmp_path / "colors.csv"
    table.write_text("\ufeffname,r,g,b\nroad,128,64,128\nignore,0,0,0\nsky,70,130,180\n", "utf-8")
    classes = read_color_table(table)
    assert classes.names == ("road", "sky")
    assert classes.colors == ((128, 64, 128), (70, 130, 180))
    assert (classes.ignore_color, classes.ignore_index) == ((0, 0, 0), 255)
    assert Classes.from_dict(classes.to_dict()) == classes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "header name,r,g,b"),
        ("class,r,g,b\na,1,2,3\n", "header name,r,g,b"),
        ("name,r,g,b\na,1,2,3\nb,1,2\n", "Row 3"),
        ("name,r,g,b\na,1,2,300\nb,1,2,3\n", "Row 2"),
        ("name,r,g,b\na,1,2,x\nb,1,2,3\n", "Row 2"),
        ("name,r,g,b\na,1,2,3\na,1,2,4\n", "twice"),
        ("name,r,g,b\na,1,2,3\nb,1,2,3\n", "two classes"),
        ("name,r,g,b\na,1,2,3\nignore,0,0,0\n", "at least 2"),
    ],
)
def test_a_colour_table_that_cannot_be_used_is_refused(tmp_path, text, named):
    table = tmp_path / "colors.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=named):
        read_color_table(table)


def test_a_missing_colour_table_is_a_wrong_argument(tmp_path):
    with pytest.raises(UsageError, match=r"no colour table .*colors\.csv"):
        read_color_table(tmp_path / "colors.csv")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"names": ("a",)}, "at least 2"),
        ({"names": ("a", "a")}, "twice"),
        ({"names": ("a", " ")}, "empty"),
        ({"names": ("a", "b"), "colors": ((1, 2, 3),)}, "one colour for each"),
        ({"names": ("a", "b"), "colors": ((1, 2, 3), (1, 2, -3))}, "is not"),
        ({"names": ("a", "b"), "ignore_index": 1}, "not a class"),
        ({"names": tuple(str(i) for i in range(256))}, "from 256"),
    ],
)
def test_impossible_classes_are_refused(arguments, named):
    with pytest.raises(UsageError, match=named):
        Classes(**arguments)


def test_more_than_255_classes_need_a_wider_mask():
    assert Classes(("a", "b")).dtype == np.uint8
    assert Classes(tuple(str(i) for i in range(300)), ignore_index=65535).dtype == np.int32
