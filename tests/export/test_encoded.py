"""Images inside a TensorFlow graph become the pixels that the preprocessing contract gives outside of it."""

import io
import itertools

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


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: f"{rule.resize}-{rule.interpolation}-{rule.antialias}"
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


def test_what_cannot_be_kept_is_said():
    for rule in RULES:
        assert supported(rule)
    assert not supported(Preprocessing((8, 8), interpolation="area"))
    assert not supported(Preprocessing((8, 8), interpolation="bicubic", antialias=False))
