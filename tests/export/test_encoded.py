"""Images inside a TensorFlow graph become the pixels that the preprocessing contract gives outside of it."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_transfer.export.encoded import pixels_of, supported
from keras_transfer.preprocessing import Preprocessing

RULES = [
    Preprocessing((96, 64), resize, interpolation, antialias)
    for resize, interpolation, antialias in itertools.product(
        ("squash", "crop", "pad"), ("nearest", "bilinear", "bicubic", "lanczos"), (True, False)
    )
    if antialias or interpolation in ("nearest", "bilinear")
]


@pytest.fixture(scope="module")
def files(photos):
    """One photograph in many formats and modes, a tiny and a tall one, and noise."""
    picture = Image.fromarray(photos["china"]).crop((3, 5, 433, 306))
    rng = np.random.default_rng(0)
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, picture.size[::-1], dtype=np.uint8)))

    def encoded(image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return [
        encoded(picture, "PNG"),
        encoded(picture, "JPEG", quality=85),
        encoded(picture, "JPEG", quality=90, subsampling=0),
        encoded(picture.convert("L"), "JPEG"),
        encoded(picture.convert("L"), "PNG"),
        encoded(clear.convert("LA"), "PNG"),
        encoded(clear, "PNG"),
        encoded(picture.convert("P"), "PNG"),
        encoded(picture, "BMP"),
        encoded(picture.convert("P"), "GIF"),
        encoded(picture.resize((7, 5)), "PNG"),
        encoded(picture.resize((40, 300)), "PNG"),
        encoded(Image.fromarray(rng.integers(0, 256, (301, 430, 3), dtype=np.uint8)), "PNG"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [rule if i % 3 == 0 else pytest.param(rule, marks=pytest.mark.nightly) for i, rule in enumerate(RULES)],
    ids=lambda rule: f"{rule.resize}-{rule.interpolation}-{rule.antialias}",
)
def test_the_same_pixels_as_pillow(files, rule):
    inside = tf.function(lambda encoded: pixels_of(encoded, rule))(tf.constant(files)).numpy()
    outside = np.stack([rule.load(file) for file in files]).astype(np.float32)
    np.testing.assert_array_equal(inside, np.round(inside))
    difference = np.abs(inside - outside)
    if rule.interpolation == "nearest":
        assert difference.max() == 0
    elif rule.interpolation == "bilinear":
        assert difference.max() <= 1
    else:  # clipping between the two directions depends on Pillow's version
        assert np.mean(difference > 1) <= 0.01 and difference.mean() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_photographs_are_decoded_at_the_part_of_their_size_that_pillow_decodes(photos, resize):
    """At 1/2, 1/4 and 1/8 by the size of the model; turned, grey, progressive, and one that is too small."""
    picture, files = Image.fromarray(photos["china"][:413, :635]), []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append((picture, {"exif": exif}))
    files += [(picture.convert("L"), {}), (picture, {"progressive": True, "subsampling": 0})]
    files += [(picture.resize((61, 40)), {}), (picture.crop((0, 0, 635, 120)), {})]
    contents = []
    for one, options in files:
        file = io.BytesIO()
        one.save(file, "JPEG", **options)
        contents.append(file.getvalue())
    scales = set()
    for size in ((96, 80), (45, 41), (20, 24)):
        rule = Preprocessing(size, resize)
        scales |= {rule.jpeg_scale(413, 635), rule.jpeg_scale(635, 413)}
        inside = tf.function(lambda encoded, rule=rule: pixels_of(encoded, rule))(tf.constant(contents))
        outside = np.stack([rule.load(content) for content in contents])
        assert np.abs(inside.numpy() - outside).max() <= 1
        full = np.stack([replace(rule, decode="full").load(content) for content in contents])
        assert np.abs(inside.numpy() - full).max() > 1  # so the part was what decided
    assert scales == {2, 4, 8}


def test_what_cannot_be_kept_is_said():
    for rule in RULES:
        assert supported(rule)
    assert not supported(Preprocessing((8, 8), interpolation="area"))
    assert not supported(Preprocessing((8, 8), interpolation="bicubic", antialias=False))


NEAREST = Preprocessing((40, 40), "squash", "nearest")


def in_a_graph(*files):
    return tf.function(lambda encoded: pixels_of(encoded, NEAREST))(tf.constant(list(files))).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photographs_are_turned_by_their_exif_orientation(photos, kind):
    """As Pillow turns them; 0 and 9 are no orientations."""
    files = []
    for orientation, order in itertools.product(range(10), "<>"):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112], exif[0x0131] = "a maker", orientation, "a program"
        exif.endian = order
        file = io.BytesIO()
        Image.fromarray(photos["china"][40:160, 60:180]).save(file, kind, exif=exif)
        files.append(file.getvalue())
    expected = np.stack([NEAREST.load(file) for file in files])
    assert len({image.tobytes() for image in expected}) == 8
    np.testing.assert_array_equal(in_a_graph(*files), expected)


@pytest.mark.slow
def test_a_damaged_exif_block_turns_nothing(photos):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(photos["flower"][:120, :120]).save(file, "JPEG", exif=exif)
    whole = file.getvalue()
    at = whole.index(b"Exif\0\0") + 6
    files = [whole.replace(b"Exif\0\0", b"Exig\0\0", 1)]
    for place, value in ((at + 4, 255), (at + 5, 255), (at, 0)):  # a directory far away, no byte order
        damaged = bytearray(whole)
        damaged[place] = value
        files.append(bytes(damaged))
    upright, *others = in_a_graph(*files)
    for one in others:
        np.testing.assert_array_equal(one, upright)


@pytest.mark.slow
def test_only_what_is_promised_is_admitted(photos):
    picture = Image.fromarray(photos["china"][:90, :120])

    def encoded(image, kind):
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    asked = tf.function(
        lambda content: pixels_of(content, NEAREST), input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    asked(tf.constant([encoded(picture, "BMP")]))
    for content in (encoded(picture.convert("P"), "BMP"), encoded(picture, "WEBP"), b"", b"BM", b"no image"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            asked(tf.constant([content]))
