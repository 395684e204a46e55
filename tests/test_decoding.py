"""A large JPEG is decoded at a part of its size: which part, the same picture in the same place, the same errors."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_transfer.decoding import ImageError, decode, image_size, read_picture, verify
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing

RULES = ("squash", "crop", "pad")
SMOOTH = ("bilinear", "bicubic", "lanczos")


def jpeg(pixels: np.ndarray | Image.Image, orientation: int = 1, **options) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture.save(content, "JPEG", exif=exif, **{"quality": 92, **options})
    return content.getvalue()


def both(content: bytes, *arguments, **values) -> tuple[np.ndarray, np.ndarray]:
    """What a model sees, scaled and in full, as whole numbers that may be subtracted."""
    ways = (Preprocessing(*arguments, **values, decode=rule) for rule in ("scaled", "full"))
    scaled, full = (contract.load(content).astype(int) for contract in ways)
    return scaled, full


# --- which part of the size ---


@given(
    h=st.integers(1, 5000),
    w=st.integers(1, 5000),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    rule=st.sampled_from(RULES),
    filter=st.sampled_from(SMOOTH),
)
def test_the_smallest_part_that_leaves_twice_the_pixels(h, w, size, rule, filter):
    """Measured against the rule's words: so many pixels of the decoded region for each pixel of the result."""
    height, width = size
    scale = Preprocessing(size, rule, filter).jpeg_scale(h, w)
    if rule == "crop":
        ratios = [min(h / height, w / width)] * 2
    elif rule == "squash":
        ratios = [h / height, w / width]
    else:
        share = max(h / height, w / width)
        inner = [max(1, int(side / share + 0.5 + 1e-9)) for side in (h, w)]
        ratios = [h / inner[0], w / inner[1]]
    enough = [s for s in (1, 2, 4, 8) if all(ratio >= 2 * s for ratio in ratios)]
    assert scale == max(enough, default=1)


@pytest.mark.parametrize(
    "contract",
    [
        Preprocessing((48, 64), decode="full"),
        Preprocessing((48, 64), antialias=False),
        Preprocessing((48, 64), interpolation="nearest"),
        Preprocessing((48, 64), interpolation="area"),
        Preprocessing((48, 64), decode="full", version=1),
        Preprocessing.from_dict({"size": [48, 64]}),
    ],
)
def test_filters_that_take_or_leave_pixels_and_older_contracts_see_every_pixel(photos, contract):
    content = jpeg(photos["china"])
    assert contract.jpeg_scale(427, 640) == 1
    assert np.array_equal(contract.load(content), contract.apply(decode(content)))


@settings(deadline=None, max_examples=40)
@given(
    h=st.integers(1, 150),
    w=st.integers(1, 150),
    size=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    rule=st.sampled_from(RULES),
    filter=st.sampled_from(SMOOTH),
    orientation=st.integers(1, 8),
    format=st.sampled_from(["JPEG", "PNG"]),
)
def test_where_nothing_is_gained_nothing_changes(h, w, size, rule, filter, orientation, format):
    """Bit for bit what version 1 gave: a JPEG with less than four times the pixels a side, and every other format."""
    pixels = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), np.uint8)
    contract = Preprocessing(size, rule, filter)
    if format == "JPEG":
        content = jpeg(pixels, orientation)
    else:
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(file, "PNG", exif=exif)
        content = file.getvalue()
    image = decode(content)
    if format == "PNG" or contract.jpeg_scale(*image.shape[:2]) == 1:
        assert np.array_equal(contract.load(content), contract.apply(image))


# --- the same picture, in the same place ---


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_look_the_same(photos, rule, orientation):
    """Sides that no scale divides; measured 0.82 on average and 12 at most."""
    content = jpeg(photos["china"][:413, :635], orientation)
    for size in ((45, 50), (90, 88)):
        assert Preprocessing(size, rule).jpeg_scale(413, 635) > 1
        scaled, full = both(content, size, rule)
        assert np.abs(scaled - full).mean() < 1 and np.abs(scaled - full).max() <= 16


def ramp(height: int, width: int) -> np.ndarray:
    """Red rises from left to right, green from top to bottom: the colour tells the place."""
    down, across = np.mgrid[:height, :width]
    red, green = 20 + 200 * (across + 0.5) / width, 20 + 200 * (down + 0.5) / height
    return np.rint(np.stack([red, green, np.full_like(red, 128)], axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_place_is_exact_to_a_fraction_of_a_pixel(rule, orientation):
    """On slopes a shift is a difference of means; sides of 8 n + 1 fill seven columns of the last block up."""
    scaled, full = both(
        jpeg(ramp(681, 1033), orientation, quality=100, subsampling=0), (32, 32), rule, "bicubic"
    )
    step = 200 / 32  # of the value, from one pixel to the next
    inside = np.s_[4:-4, 4:-4]
    if rule == "pad":
        inside = np.s_[8:-8, 8:-8]
    shift = np.abs((scaled - full)[inside].mean(axis=(0, 1))) / step
    assert shift.max() < 0.03


def test_an_edge_stays_where_it_is(photos):
    board = np.kron((np.indices((8, 8)).sum(axis=0) % 2) * 255, np.ones((101, 101))).astype(np.uint8)
    scaled, full = both(jpeg(np.repeat(board[:, :, None], 3, axis=2)), (64, 64))
    assert np.array_equal(scaled > 127, full > 127)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_colours_and_progressive_files(photos, mode, progressive):
    picture = Image.fromarray(photos["flower"]).convert(mode)
    content = jpeg(picture, progressive=progressive)
    found = read_picture(content, lambda height, width: 4)
    assert found.picture.size == (160, 107) and (found.height, found.width) == (427, 640)
    assert found.picture.mode == ("L" if mode == "L" else "RGB")
    scaled, full = both(content, (48, 72))
    assert np.abs(scaled - full).mean() < 1


def test_a_photo_with_a_second_picture_inside_is_scaled_too(photos):
    """What many phones write (MPO) is opened as a JPEG of several frames."""
    file = io.BytesIO()
    first, second = (Image.fromarray(photos[name]) for name in ("china", "flower"))
    first.save(file, "MPO", save_all=True, append_images=[second])
    content = file.getvalue()
    assert read_picture(content, lambda height, width: 4).picture.size == (160, 107)
    scaled, full = both(content, (48, 72))
    assert np.abs(scaled - full).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_told_by_the_header(photos, orientation):
    content = jpeg(photos["china"], orientation)
    assert image_size(content) == decode(content).shape[:2]
    with pytest.raises(ImageError, match="not an image"):
        image_size(b"no image at all")
    with pytest.raises(ImageError, match="empty"):
        image_size(b"")


# --- bad files ---

WAYS = {
    "full": lambda content: Preprocessing((48, 64), decode="full").load(content),
    "half": lambda content: read_picture(content, lambda height, width: 2),
    "quarter": lambda content: read_picture(content, lambda height, width: 4),
    "eighth": lambda content: Preprocessing((20, 20)).load(content),
    "check": verify,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_off_file_is_noticed_at_every_scale(photos, way, progressive, share):
    whole = jpeg(photos["flower"], progressive=progressive)
    WAYS[way](whole)
    with pytest.raises(ImageError, match="truncated"):
        WAYS[way](whole[: int(len(whole) * share)])


def with_sides(content: bytes, height: int, width: int) -> bytes:
    """The JPEG with other sides in its header (the frame of a baseline file)."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize("way", WAYS)
def test_a_header_that_lies_about_the_size(photos, way):
    """Too large is a bomb. More rows than there are, or fewer: libjpeg fills up or leaves out, at every scale alike."""
    content = jpeg(photos["china"])
    with pytest.raises(ImageError, match="bomb"):
        WAYS[way](with_sides(content, 65_000, 65_000))
    for sides in ((800, 640), (200, 640), (427, 320), (427, 1000)):
        assert outcome(WAYS["full"], with_sides(content, *sides)) == outcome(
            WAYS[way], with_sides(content, *sides)
        )
    with pytest.raises(ImageError):
        WAYS[way](with_sides(content, 0, 640))


def outcome(way, content: bytes) -> str:
    try:
        way(content)
    except ImageError as error:
        return str(error).split("(")[0]
    return "good"


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_bytes_have_the_same_fate_at_every_scale(photos, data):
    content = bytearray(jpeg(photos["china"][:160, :200], progressive=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = {
        scale: outcome(lambda content, s=scale: read_picture(content, lambda *sides: s), bytes(content))
        for scale in (1, 2, 4, 8)
    }
    assert len(set(found.values())) == 1, found


# --- the contract as data ---


def test_an_older_record_keeps_its_version_its_form_and_its_fingerprint():
    old = {
        "size": [8, 8],
        "resize": "squash",
        "interpolation": "bilinear",
        "antialias": True,
        "color": "rgb",
        "value_range": [0.0, 255.0],
        "version": 1,
    }
    contract = Preprocessing.from_dict(old)
    assert (contract.decode, contract.version) == ("full", 1)
    assert contract.to_dict() == old
    kinds = [contract, Preprocessing((8, 8)), Preprocessing((8, 8), decode="full")]
    assert [kind.decode for kind in kinds] == ["full", "scaled", "full"]
    assert len({kind.fingerprint() for kind in kinds}) == 3
    assert [Preprocessing.from_dict(kind.to_dict()) for kind in kinds] == kinds
    assert kinds[1].to_dict()["decode"] == "scaled" and kinds[1].version == 2


def test_impossible_ways_of_decoding():
    with pytest.raises(UsageError, match="Did you mean scaled"):
        Preprocessing((8, 8), decode="scale")
    with pytest.raises(UsageError, match="version 1 decodes in full"):
        Preprocessing((8, 8), version=1)
    with pytest.raises(DataError, match="cannot be used"):
        Preprocessing.from_dict({"size": [8, 8], "decode": "scaled", "version": 1})
