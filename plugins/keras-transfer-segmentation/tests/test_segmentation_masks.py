"""Masks: every encoding gives the indices that were meant, what is unclear is refused, resizing keeps in step."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.masks import find_encoding, read_mask, write_mask
from PIL import Image

from keras_transfer.errors import DataError, UsageError

THREE = Classes(("sky", "tree", "road"))
TWO = Classes(("background", "cell"))
COLORED = Classes(("sky", "road"), ((10, 20, 30), (200, 0, 0)), ignore_color=(0, 0, 0))
INDICES = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)


def encoded(picture, kind="PNG", **options):
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return content.getvalue()


def with_palette(indices, colors=(9, 9, 9, 7, 7, 7, 5, 5, 5)):
    picture = Image.fromarray(indices, "L") if indices.dtype == np.uint8 else Image.fromarray(indices)
    picture.putpalette(
        list(colors) + [1] * (768 - len(colors))
    )  # Pillow cuts indices off at the palette's end
    return picture


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(INDICES)),
        encoded(with_palette(INDICES)),
        encoded(Image.fromarray(INDICES.astype(np.uint16))),
        encoded(Image.fromarray(INDICES), "BMP"),
        encoded(with_palette(INDICES), "BMP"),
    ],
    ids=["grey", "palette", "16 bits", "BMP grey", "BMP palette"],
)
def test_indices_are_read_as_they_are(content):
    mask = read_mask(content, THREE)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, INDICES)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_holds_small_indices(bits):
    indices = np.array([[0, 1, 1, 0], [1, 0, 0, 1]], np.uint8)
    np.testing.assert_array_equal(read_mask(grey_png(indices, bits), THREE), indices)


def grey_png(indices, bits):
    """A PNG of grey with 1, 2 or 4 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = indices.shape
    rows = b""
    for row in indices:
        text = "".join(format(value, f"0{bits}b") for value in row).ljust(-(-width * bits // 8) * 8, "0")
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_values_above_255_are_for_those_who_ask():
    values = np.array([[0, 1, 299], [65535, 2, 299]], np.uint16)
    many = Classes(tuple(f"class_{i}" for i in range(300)), ignore_index=65535)
    mask = read_mask(encoded(Image.fromarray(values)), many)
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, values)
    with pytest.raises(DataError, match="299: 2 pixels; 65535: 1 pixels"):
        read_mask(encoded(Image.fromarray(values)), THREE)


def test_binary_masks():
    content = encoded(Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)))
    expected = [[0, 1], [1, 1]]
    np.testing.assert_array_equal(read_mask(content, TWO), expected)
    np.testing.assert_array_equal(read_mask(content, TWO, encoding="binary"), expected)
    np.testing.assert_array_equal(read_mask(content, TWO, encoding="index"), [[0, 255], [255, 255]])
    with pytest.raises(UsageError, match="Binary masks have two classes; 3"):
        read_mask(content, THREE, encoding="binary")
    soft = encoded(Image.fromarray(np.array([[0, 255], [128, 128]], np.uint8)))
    with pytest.raises(DataError, match="128: 2 pixels"):
        read_mask(soft, TWO, encoding="binary")


def test_the_encoding_is_a_fact_about_all_masks(tmp_path):
    """One mask that shows only background and ignored pixels does not turn them into the second class."""
    only_ignored, with_cells = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(only_ignored)
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(with_cells)
    assert find_encoding([only_ignored, with_cells], TWO) == "index"
    assert find_encoding([only_ignored], TWO) == "binary"
    assert find_encoding([only_ignored], THREE) == "index"
    Image.new("RGB", (2, 1)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png holds colours and .*a\.png indices"):
        find_encoding([only_ignored, tmp_path / "c.png"], COLORED)


def test_colours_are_looked_up():
    pixels = np.array([[(10, 20, 30), (200, 0, 0), (0, 0, 0)]], np.uint8)
    np.testing.assert_array_equal(read_mask(encoded(Image.fromarray(pixels)), COLORED), [[0, 1, 255]])
    indexed = with_palette(np.array([[0, 1, 2]], np.uint8), (200, 0, 0, 10, 20, 30, 0, 0, 0))
    by_color = read_mask(encoded(indexed), COLORED, encoding="color")
    np.testing.assert_array_equal(by_color, [[1, 0, 255]])
    pixels[0, 2] = 1, 2, 3
    with pytest.raises(DataError, match=r"\(1, 2, 3\): 1 pixels"):
        read_mask(encoded(Image.fromarray(pixels)), COLORED)


@pytest.mark.parametrize(
    ("content", "classes", "encoding", "named"),
    [
        (encoded(Image.new("RGB", (2, 2))), THREE, None, "Give a colour table"),
        (encoded(Image.new("RGB", (2, 2))), THREE, "index", "Give a colour table"),
        (encoded(Image.new("RGB", (2, 2))), COLORED, "index", "one channel"),
        (encoded(Image.new("L", (2, 2))), COLORED, "color", "holds indices"),
        (encoded(Image.new("L", (2, 2)), "JPEG"), THREE, None, "JPEG file. Such files are lossy"),
        (encoded(Image.new("RGB", (2, 2)), "WEBP"), COLORED, None, "WebP file. Such files are lossy"),
        (encoded(Image.new("RGBA", (2, 2))), COLORED, None, "transparency"),
        (encoded(Image.new("LA", (2, 2))), THREE, None, "transparency"),
        (encoded(with_palette(INDICES), transparency=0), THREE, None, "transparency"),
        (encoded(Image.new("L", (2, 2), 255)), THREE, None, "only ignored pixels"),
        (encoded(Image.fromarray(INDICES + np.uint8(1))), THREE, None, "3: 3 pixels"),
        (encoded(Image.new("L", (2, 2)))[:40], THREE, None, "cannot be read as a mask"),
        (b"", THREE, None, "empty file"),
        (b"nonsense", THREE, None, "not an image"),
    ],
)
def test_what_is_unclear_is_refused(content, classes, encoding, named):
    with pytest.raises(DataError, match=named):
        read_mask(content, classes, encoding=encoding)


def test_a_mask_has_the_size_of_its_image(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, INDICES, THREE)
    assert read_mask(path, THREE, image_size=(2, 4)).shape == (2, 4)
    with pytest.raises(DataError, match=r"mask\.png is 2x4 pixels, its image 4x2"):
        read_mask(path, THREE, image_size=(4, 2))


def test_unknown_encodings_and_missing_files_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"mask encoding 'colour'\. Did you mean color"):
        read_mask(encoded(Image.fromarray(INDICES)), THREE, encoding="colour")
    with pytest.raises(DataError, match=r"none\.png cannot be read as a mask: file not found"):
        read_mask(tmp_path / "none.png", THREE)


@pytest.mark.slow
@given(
    arrays.arrays(
        np.uint8,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 255]),
    ),
    st.booleans(),
)
def test_what_is_written_is_read_back(tmp_path_factory, mask, wide):
    if (mask == 255).all():
        mask[0, 0] = 0
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    classes = THREE
    if wide:
        classes = Classes(tuple(map(str, range(500))), ignore_index=4000)
        mask = np.where(mask == 255, 4000, mask.astype(np.int32) * 200)
    write_mask(path, mask, classes)
    back = read_mask(path, classes, encoding="index")
    assert back.dtype == classes.dtype
    np.testing.assert_array_equal(back, mask)


def test_a_written_mask_shows_the_colours_of_the_classes(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, np.array([[0, 1, 255]], np.uint8), COLORED)
    shown = np.array(Image.open(path).convert("RGB"))
    assert shown.tolist() == [[[10, 20, 30], [200, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(read_mask(path, COLORED, encoding="color"), [[0, 1, 255]])


def test_only_masks_can_be_written(tmp_path):
    with pytest.raises(UsageError, match="float64"):
        write_mask(tmp_path / "mask.png", np.zeros((2, 2)), THREE)
    with pytest.raises(DataError, match="7: 4 pixels"):
        write_mask(tmp_path / "mask.png", np.full((2, 2), 7), THREE)
    assert not list(tmp_path.iterdir())
