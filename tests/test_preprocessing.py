"""The preprocessing contract: any image in, exactly the promised pixels out."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from keras_transfer.decoding import MAX_PIXELS, ImageError, decode, verify
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing

SIDES = st.integers(1, 80)
RULES = st.sampled_from(["squash", "crop", "pad"])
FILTERS = st.sampled_from(
    [(f, a) for f in ("nearest", "bilinear", "bicubic") for a in (True, False)]
    + [("area", True), ("lanczos", True)]
)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# --- resizing ---


@settings(deadline=None, max_examples=150)
@given(h=SIDES, w=SIDES, height=SIDES, width=SIDES, rule=RULES, how=FILTERS)
def test_any_image_gets_exactly_the_size_and_stays_as_it_was(h, w, height, width, rule, how):
    image = noise(h, w)
    image.setflags(write=False)
    before = image.copy()
    result = Preprocessing((height, width), rule, *how).apply(image)
    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8
    assert result.flags.writeable
    assert np.array_equal(image, before)
    assert not np.shares_memory(result, image)


@settings(deadline=None, max_examples=60)
@given(h=SIDES, w=SIDES, rule=RULES, how=FILTERS)
def test_equal_size_keeps_every_pixel(h, w, rule, how):
    image = noise(h, w)
    assert np.array_equal(Preprocessing((h, w), rule, *how).apply(image), image)


@settings(deadline=None, max_examples=60)
@given(h=SIDES, w=SIDES, height=SIDES, width=SIDES, how=FILTERS, value=st.integers(0, 255))
def test_a_flat_image_stays_flat(h, w, height, width, how, value):
    image = np.full((h, w, 3), value, np.uint8)
    for rule in ("squash", "crop"):
        assert (Preprocessing((height, width), rule, *how).apply(image) == value).all()


@pytest.mark.parametrize("rule", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1), (1, 1)])
def test_extreme_ratios(rule, shape):
    assert Preprocessing((9, 7), rule).apply(np.full((*shape, 3), 200, np.uint8)).shape == (9, 7, 3)


@pytest.mark.parametrize("antialias", [True, False])
def test_crop_takes_the_centre(antialias):
    image = noise(10, 16)
    cropped = Preprocessing((10, 10), "crop", antialias=antialias).apply(image)
    assert np.array_equal(cropped, image[:, 3:13])
    tall = Preprocessing((10, 10), "crop", antialias=antialias).apply(image.transpose(1, 0, 2))
    assert np.array_equal(tall, image.transpose(1, 0, 2)[3:13])


def test_crop_keeps_the_aspect_ratio_and_squash_does_not():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 255  # exactly the centred square
    assert (Preprocessing((20, 20), "crop", "area").apply(image) == 255).all()
    assert (Preprocessing((20, 20), "squash", "area").apply(image)[:, 5:15] == 255).all()
    assert (Preprocessing((20, 20), "squash", "area").apply(image)[:, :5] == 0).all()


def test_pad_centres_on_black():
    image = np.full((10, 20, 3), 255, np.uint8)
    padded = Preprocessing((20, 20), "pad").apply(image)
    assert (padded[5:15] == 255).all()
    assert (padded[:5] == 0).all() and (padded[15:] == 0).all()
    odd = Preprocessing((21, 20), "pad").apply(image)  # 11 rows of margin: 5 above, 6 below
    assert (odd[5:15] == 255).all() and (odd[:5] == 0).all() and (odd[15:] == 0).all()
    narrow = Preprocessing((10, 10), "pad").apply(np.full((30, 10, 3), 255, np.uint8))
    assert (narrow[:, 3:6] == 255).all() and narrow.sum() == 10 * 3 * 3 * 255


def test_without_antialias_the_half_pixel_centres_are_sampled():
    """Against the textbook bilinear formula (half-pixel centres, clamped), which TFLite and OpenCV use."""
    image = noise(37, 53)
    height, width = 16, 24
    y = ((np.arange(height) + 0.5) * 37 / height - 0.5).clip(0, 36)
    x = ((np.arange(width) + 0.5) * 53 / width - 0.5).clip(0, 52)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, 36), np.minimum(x0 + 1, 52)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    pixels = image.astype(float)
    top = pixels[y0][:, x0] * (1 - fx) + pixels[y0][:, x1] * fx
    bottom = pixels[y1][:, x0] * (1 - fx) + pixels[y1][:, x1] * fx
    expected = top * (1 - fy) + bottom * fy
    result = Preprocessing((height, width), antialias=False).apply(image)
    assert np.abs(result - expected).max() <= 1


def test_antialias_averages_where_sampling_does_not():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    smooth = Preprocessing((16, 16), interpolation="area").apply(stripes)
    assert (smooth == 64).all()
    sampled = Preprocessing((16, 16), interpolation="nearest").apply(stripes)
    assert set(np.unique(sampled)) <= {0, 255}


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), [1]]
)
def test_apply_refuses_other_arrays(image):
    with pytest.raises(UsageError, match="expected"):
        Preprocessing((8, 8)).apply(image)


# --- the contract as data ---


@given(size=st.tuples(SIDES, SIDES), rule=RULES, how=FILTERS)
def test_dict_round_trip_and_fingerprint(size, rule, how):
    contract = Preprocessing(size, rule, *how)
    again = Preprocessing.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert again.fingerprint() == contract.fingerprint()
    assert contract.fingerprint() != Preprocessing((size[0] + 1, size[1]), rule, *how).fingerprint()


def test_every_field_is_in_the_fingerprint():
    contracts = [
        Preprocessing((8, 8)),
        Preprocessing((8, 9)),
        Preprocessing((8, 8), "crop"),
        Preprocessing((8, 8), interpolation="bicubic"),
        Preprocessing((8, 8), antialias=False),
    ]
    assert len({contract.fingerprint() for contract in contracts}) == len(contracts)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"size": (0, 8)}, "whole pixels"),
        ({"size": 8}, r"\(height, width\)"),
        ({"size": (8.5, 8)}, "whole pixels"),
        ({"size": (8, 10**6)}, "16384"),
        ({"size": (8, 8), "resize": "sqash"}, "Did you mean squash"),
        ({"size": (8, 8), "interpolation": "cubic"}, "Did you mean bicubic"),
        ({"size": (8, 8), "interpolation": "area", "antialias": False}, "always antialiases"),
        ({"size": (8, 8), "antialias": 1}, "True or False"),
        ({"size": (8, 8), "color": "bgr"}, "rgb"),
        ({"size": (8, 8), "value_range": (0, 1)}, "255"),
    ],
)
def test_impossible_values(arguments, hint):
    with pytest.raises(UsageError, match=hint):
        Preprocessing(**arguments)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"size": [8, 8], "version": 99}, "Update keras_transfer"),
        ({"size": [8, 8], "mean": 3}, "mean"),
        ({}, "size"),
        ({"size": [8, 8], "resize": "zoom"}, "zoom"),
        ({"size": [8, 8], "value_range": 3}, "cannot be used"),
        ([1], "list"),
    ],
)
def test_a_damaged_or_newer_dict(values, hint):
    with pytest.raises(DataError, match=hint):
        Preprocessing.from_dict(values)


# --- decoding ---


def corners() -> np.ndarray:
    """An image that shows its orientation: 24x40, the corners in four colours on grey."""
    image = np.full((24, 40, 3), 128, np.uint8)
    image[:8, :8], image[:8, -8:], image[-8:, :8], image[-8:, -8:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
    )
    return image


# How the upright image must be stored for each orientation (Exif 2.32: 0th row and column as seen).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](corners())))
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[format]
    result = decode(encoded(stored, format, exif=exif.tobytes(), **options))
    assert result.shape == (24, 40, 3)
    assert np.abs(result.astype(int) - corners()).max() <= (12 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_senseless_orientation_is_passed_over(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(corners()), "PNG", exif=exif.tobytes())
    assert np.array_equal(decode(content), corners())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_image():
    content = encoded(Image.fromarray(corners()), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode(content).shape == (24, 40, 3)


@pytest.mark.parametrize(("format", "exact"), [("PNG", True), ("BMP", True), ("WEBP", True), ("JPEG", False)])
def test_formats(tmp_path, format, exact):
    options = {"lossless": True} if format == "WEBP" else {}
    path = tmp_path / "image.any"
    path.write_bytes(encoded(Image.fromarray(corners()), format, **options))
    result = decode(path)
    assert result.dtype == np.uint8 and result.shape == (24, 40, 3)
    if exact:
        assert np.array_equal(result, corners())


def test_sixteen_bit_grey_is_divided_by_257_whatever_its_values():
    values = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    result = decode(encoded(Image.fromarray(values), "PNG"))
    assert result[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]
    assert (result == result[:, :, :1]).all()
    dark = decode(encoded(Image.fromarray(np.full((4, 4), 300, np.uint16)), "PNG"))
    assert (dark == 1).all()  # not stretched to white


def test_grey_and_one_bit():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(encoded(Image.fromarray(grey), "PNG")), np.repeat(grey[:, :, None], 3, 2))
    bits = Image.fromarray(grey).point(lambda v: 255 if v > 127 else 0).convert("1")
    assert np.array_equal(decode(encoded(bits, "PNG"))[:, :, 0], np.where(grey > 127, 255, 0))


def test_transparency_is_laid_over_white():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 1, 3], rgba[:, 2, 3] = 128, 255
    result = decode(encoded(Image.fromarray(rgba), "PNG"))
    assert (result[:, 0] == 255).all()
    assert (result[:, 2] == (200, 0, 0)).all()
    assert np.abs(result[0, 1].astype(int) - (227, 127, 127)).max() <= 1
    la = np.zeros((2, 2, 2), np.uint8)
    la[:, 1, 1] = 255
    grey = decode(encoded(Image.fromarray(la, "LA"), "PNG"))
    assert (grey[:, 0] == 255).all() and (grey[:, 1] == 0).all()


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_with_transparency(format):
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    result = decode(encoded(palette, format, transparency=1))
    assert result[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]


def test_transparent_value_of_grey():
    grey = Image.fromarray(np.array([[10, 20]], np.uint8))
    assert decode(encoded(grey, "PNG", transparency=10))[0, :, 0].tolist() == [255, 20]
    deep = Image.fromarray(np.array([[2570, 5140]], np.uint16))
    assert decode(encoded(deep, "PNG", transparency=2570))[0, :, 0].tolist() == [255, 20]


def test_cmyk_jpeg():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    result = decode(encoded(cmyk, "JPEG", quality=95))
    assert np.abs(result.astype(int) - (255, 0, 0)).max() <= 12


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert (decode(content) == (255, 0, 0)).all()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises ``side`` x ``side`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_decompression_bomb_is_refused_from_its_header():
    for check in (decode, verify):
        with pytest.raises(ImageError, match="bomb"):
            check(bomb(60_000))


def test_our_limit_holds_when_pillow_has_none(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ImageError, match=f"{side * side} pixels"):
        decode(bomb(side))


def test_pillows_warning_made_an_error_is_an_image_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="bomb"):
            decode(bomb(11_000))


def test_no_setting_of_pillow_is_changed():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode(encoded(Image.fromarray(corners()), "PNG"))
    with pytest.raises(ImageError):
        decode(bomb(60_000))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text\n" * 50, "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"II*\0" + bytes(100), "not an image"),  # TIFF is none of the five
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an image|damaged"),
    ],
)
def test_what_is_no_image(content, reason):
    for check in (decode, verify):
        with pytest.raises(ImageError, match=reason):
            check(content)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_jpeg(photos, progressive, share):
    whole = encoded(Image.fromarray(photos["flower"]), "JPEG", progressive=progressive)
    verify(whole)
    for check in (decode, verify):
        with pytest.raises(ImageError, match="truncated"):
            check(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "WEBP"])
def test_truncated_others(photos, format):
    whole = encoded(Image.fromarray(photos["flower"]), format)
    for check in (decode, verify):
        with pytest.raises(ImageError, match=r"truncated|damaged|not an image"):
            check(whole[: len(whole) // 2])


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match="file not found"):
        decode(tmp_path / "nothing.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="broken link"):
        decode(tmp_path / "link.png")


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(data=st.data(), format=st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "WEBP"]))
def test_damaged_bytes_decode_or_are_an_image_error(data, format):
    """Whatever is broken, the answer is pixels or a reason, and the cheap check agrees with the decoder."""
    content = bytearray(encoded(Image.fromarray(corners()), format))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for check in (decode, verify):
            try:
                result = check(bytes(content))
                assert result is None or (result.dtype == np.uint8 and result.ndim == 3)
                outcomes.append("good")
            except ImageError:
                outcomes.append("bad")
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "1", "I;16"])
@pytest.mark.parametrize("rule", ["squash", "crop", "pad"])
@pytest.mark.parametrize("antialias", [True, False])
def test_loading_at_a_size_gives_the_pixels_of_decoding_and_resizing(mode, rule, antialias):
    grey = np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8)
    picture = (
        Image.fromarray(grey.astype(np.uint16) * 200)
        if mode == "I;16"
        else Image.fromarray(grey).convert(mode)
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    contract = Preprocessing(size=(24, 31), resize=rule, antialias=antialias)
    expected = contract.apply(decode(file.getvalue()))
    np.testing.assert_array_equal(contract.load(file.getvalue()), expected)
    assert contract.load(file.getvalue()).shape == (24, 31, 3)
