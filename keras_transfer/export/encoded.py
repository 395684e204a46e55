"""The preprocessing contract as TensorFlow operations: encoded images to the model's pixels, inside the graph.

For a SavedModel that is fed files. Decoding and resizing are TensorFlow's here and Pillow's everywhere else; with
``nearest`` the pixels are the same, otherwise they differ by at most 1 of 255 by rounding (``bicubic`` and
``lanczos``: by more where they overshoot, because Pillow 12 and 13 resize in another order and clip in between).

A large JPEG is decoded at a part of its size, as the contract's ``decode`` says: both decoders are libjpeg's.

TensorFlow's decoders do not turn photographs by their EXIF orientation, take a palette BMP for its indices, and try
formats that nobody promised. So the first bytes decide what is admitted, and the EXIF block is read here.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_transfer.preprocessing import Preprocessing

_SCALES = (1, 2, 4, 8)
_LARGEST = 65_535  # pixels a side of a JPEG
_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos": "lanczos3"}


class _Picture(NamedTuple):
    """An upright image, of a JPEG perhaps at a part of its size, as :class:`keras_transfer.decoding.Decoded`."""

    pixels: tf.Tensor
    """float32 ``(h', w', 3)`` in [0, 255]"""
    size: tf.Tensor
    """int32 ``(2,)``: height and width of the file's pixels, upright."""
    scale: tf.Tensor
    """float32: so many of these along each side are one of ``pixels``."""
    corner: tf.Tensor
    """float32 ``(2,)``: top and left of the image in ``pixels``."""


def supported(preprocessing: Preprocessing) -> bool:
    """Whether the contract can be kept inside a graph.

    Not ``area`` (TensorFlow weighs the pixels at a box's edge in another way), and not ``bicubic`` without
    antialiasing (Pillow's is another filter there).
    """
    if preprocessing.interpolation == "bicubic":
        return preprocessing.antialias
    return preprocessing.interpolation != "area"


@tf.autograph.experimental.do_not_convert  # nothing here is Python's control flow; converting it takes seconds
def pixels_of(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """JPEG, PNG, BMP or GIF (first frame), string ``(B,)``, to float32 ``(B, H, W, 3)``, whole numbers in [0, 255]."""
    spec = tf.TensorSpec((*preprocessing.size, 3), tf.float32)
    return tf.map_fn(
        lambda one: _prepare(_decode(one, preprocessing), preprocessing), encoded, fn_output_signature=spec
    )


def _decode(encoded: tf.Tensor, preprocessing: Preprocessing) -> _Picture:
    """One image, upright; what is transparent lies on white.

    A file that is no JPEG, PNG, BMP or GIF by its first bytes, and a BMP with a palette, is an error of the call.
    """
    jpeg, png = _begins(encoded, b"\xff\xd8\xff"), _begins(encoded, b"\x89PNG\r\n\x1a\n")
    bmp, gif = _begins(encoded, b"BM"), _begins(encoded, b"GIF8")
    content = tf.io.decode_raw(encoded, tf.uint8)
    palette = bmp & (_number(content, 28, 2, little=True) <= 8)
    known = tf.debugging.Assert(
        (jpeg | png | bmp | gif) & ~palette, ["a JPEG, PNG, GIF or BMP (without a palette) is expected"]
    )
    block = tf.cond(
        jpeg,
        lambda: _exif_of_jpeg(encoded, content),
        lambda: tf.cond(png, lambda: _exif_of_png(encoded, content), lambda: tf.constant(-1)),
    )
    orientation = _orientation(encoded, content, block)

    def other() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = _on_white(tf.io.decode_image(encoded, channels=0, expand_animations=False))
        return image, tf.shape(image)[:2], tf.constant(1)

    with tf.control_dependencies([known] if known is not None else []):
        image, stored, scale = tf.cond(jpeg, lambda: _decode_jpeg(encoded, orientation, preprocessing), other)
    # Beyond the file's edge the last row and column of a scaled image are filled up; see `Decoded.box`.
    factor = tf.cast(scale, tf.float32)
    size = tf.where(orientation >= 5, stored[::-1], stored)
    image = _upright(image, orientation)
    beyond = tf.cast(tf.shape(image)[:2], tf.float32) - tf.cast(size, tf.float32) / factor
    across, down = _mirrored(orientation)
    return _Picture(image, size, factor, tf.where(tf.stack([down, across]), beyond, 0.0))


def _decode_jpeg(
    encoded: tf.Tensor, orientation: tf.Tensor, preprocessing: Preprocessing
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As stored: float32 ``(h', w', 3)``; height and width in the file, int32 ``(2,)``; the scale, int32."""

    def at(scale: int) -> tf.Tensor:
        # The exact transform is what Pillow uses.
        decoded = tf.io.decode_jpeg(encoded, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")
        return tf.cast(decoded, tf.float32)

    if preprocessing.jpeg_scale(_LARGEST, _LARGEST) == 1:  # none is ever scaled
        image = at(1)
        return image, tf.shape(image)[:2], tf.constant(1)
    stored = tf.io.extract_jpeg_shape(encoded)[:2]
    size = tf.where(orientation >= 5, stored[::-1], stored)
    target = _fit(size, preprocessing) if preprocessing.resize == "pad" else preprocessing.size
    least = 2 * tf.stack(target)
    enough = [tf.reduce_all(size >= scale * least) for scale in _SCALES[1:]]
    place = tf.reduce_sum(tf.cast(tf.stack(enough), tf.int32))
    image = tf.switch_case(place, [lambda scale=scale: at(scale) for scale in _SCALES])
    return image, stored, tf.gather(_SCALES, place)


def _begins(encoded: tf.Tensor, magic: bytes, at: tf.Tensor | int = 0) -> tf.Tensor:
    """Whether these bytes stand at a place."""
    enough = at + len(magic) <= tf.strings.length(encoded)
    place = tf.where(enough, at, 0)
    length = tf.minimum(len(magic), tf.strings.length(encoded))
    return enough & (tf.strings.substr(encoded, place, length) == magic)


def _number(
    content: tf.Tensor, at: tf.Tensor | int, size: int, little: tf.Tensor | bool = False
) -> tf.Tensor:
    """int32: an unsigned number of so many bytes (its lower 31 bits); 0 beyond the end."""
    end = tf.size(content)
    places = at + tf.range(size)
    known = tf.reduce_all((places >= 0) & (places < end))
    values = tf.cast(tf.gather(content, tf.where(known, places, 0)), tf.int32)
    values = tf.where(little, values[::-1], values)
    total = tf.constant(0)
    for i in range(size):
        total = tf.bitwise.bitwise_or(tf.bitwise.left_shift(total, 8), values[i])
    return tf.where(known, tf.bitwise.bitwise_and(total, 0x7FFFFFFF), 0)


def _exif_of_jpeg(encoded: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of the EXIF block begins, among the segments before the image; -1: nowhere."""

    def goes_on(at: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        marker = _number(content, at, 2)
        return (found < 0) & (marker >= 0xFF01) & (marker != 0xFFDA)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length = _number(content, at, 2), _number(content, at + 2, 2)
        here = (marker == 0xFFE1) & _begins(encoded, b"Exif\0\0", at + 4)
        padding = marker == 0xFFFF
        return at + tf.where(padding, 1, 2 + tf.maximum(length, 2)), tf.where(here, at + 10, found)

    return tf.while_loop(goes_on, step, (tf.constant(2), tf.constant(-1)))[1]


def _exif_of_png(encoded: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """The same in the chunk ``eXIf`` of a PNG."""

    def goes_on(at: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return (found < 0) & (at + 12 <= tf.size(content)) & (at > 0)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        here = _begins(encoded, b"eXIf", at + 4)
        length = tf.minimum(_number(content, at, 4), tf.size(content))
        return at + 12 + length, tf.where(here, at + 8, found)

    return tf.while_loop(goes_on, step, (tf.constant(8), tf.constant(-1)))[1]


def _orientation(encoded: tf.Tensor, content: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """int32, 1 to 8: the tag 0x0112 of the first directory of a TIFF header; 1 where there is none."""
    place = tf.maximum(block, 0)
    little, big = _begins(encoded, b"II*\0", place), _begins(encoded, b"MM\0*", place)
    begin = block + tf.minimum(_number(content, block + 4, 4, little), tf.size(content))
    count = tf.minimum(_number(content, begin, 2, little), 256)

    def goes_on(i: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        return (i < count) & (value == 0)

    def step(i: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        entry = begin + 2 + 12 * i
        here = _number(content, entry, 2, little) == 0x0112
        return i + 1, tf.where(here, _number(content, entry + 8, 2, little), value)

    found = tf.while_loop(goes_on, step, (tf.constant(0), tf.constant(0)))[1]
    return tf.where((block >= 0) & (little | big) & (found >= 1) & (found <= 8), found, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """An image as it is looked at (EXIF 2.3, tag 274): transposed, mirrored, both or neither."""
    turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    across, down = _mirrored(orientation)
    turned = tf.cond(across, lambda: tf.reverse(turned, (1,)), lambda: turned)
    return tf.cond(down, lambda: tf.reverse(turned, (0,)), lambda: turned)


def _mirrored(orientation: tf.Tensor) -> list[tf.Tensor]:
    """Whether an orientation exchanges left and right, and top and bottom, after transposing where it does that."""
    return [tf.reduce_any(orientation == tf.constant(values)) for values in ((2, 3, 6, 7), (3, 4, 7, 8))]


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Grey, grey with alpha, RGB or RGBA ``(h, w, 1 to 4)`` uint8 to RGB."""
    values = tf.cast(tf.ensure_shape(image, (None, None, None)), tf.float32)
    channels = tf.shape(values)[2]
    with_alpha = channels % 2 == 0
    colours = values[:, :, : channels - tf.cast(with_alpha, tf.int32)]
    alpha = tf.where(with_alpha, values[:, :, -1:], 255.0) / 255.0
    colours = tf.broadcast_to(colours, tf.concat([tf.shape(values)[:2], [3]], 0))
    return tf.round(colours * alpha + 255.0 * (1.0 - alpha))


def _prepare(picture: _Picture, preprocessing: Preprocessing) -> tf.Tensor:
    height, width = preprocessing.size
    shape = tf.cast(picture.size, tf.float32)
    h, w = shape[0], shape[1]
    full = tf.stack([0.0, 0.0, h, w])
    if preprocessing.resize == "squash":
        resized = _scale(picture, full, tf.constant([height, width]), preprocessing)
    elif preprocessing.resize == "crop":
        ratio = tf.minimum(h / height, w / width)  # source pixels a target pixel
        inner = tf.stack([ratio * height, ratio * width])
        corner = (shape - inner) / 2
        region = tf.concat([corner, corner + inner], 0)
        resized = _scale(picture, region, tf.constant([height, width]), preprocessing)
    else:
        fit_height, fit_width = _fit(picture.size, preprocessing)
        inner = _scale(picture, full, tf.stack([fit_height, fit_width]), preprocessing)
        resized = tf.image.pad_to_bounding_box(
            inner, (height - fit_height) // 2, (width - fit_width) // 2, height, width
        )
    return tf.ensure_shape(resized, (height, width, 3))


def _fit(size: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of an image that just fits into the model's input; rounded half up."""
    height, width = preprocessing.size
    h, w = size[0], size[1]
    wider = height * w >= width * h
    return (
        tf.where(wider, tf.maximum(1, (2 * h * width + w) // (2 * w)), height),
        tf.where(wider, width, tf.maximum(1, (2 * w * height + h) // (2 * h))),
    )


def _scale(picture: _Picture, region: tf.Tensor, size: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The region (top, left, bottom, right) of the file's pixels, scaled to ``size`` (height, width) and rounded."""
    image, box = picture.pixels, tf.tile(picture.corner, [2]) + region / picture.scale
    target = tf.cast(size, tf.float32)
    extent = box[2:] - box[:2]
    if preprocessing.interpolation == "nearest":
        return _nearest(image, box, size, extent / target)
    scale = target / extent
    shift = -box[:2] * scale
    # Across, then down, each rounded to whole pixels: filters that overshoot are clipped in between, as in Pillow.
    for axis in (1, 0):
        along = tf.one_hot(axis, 2)
        image = tf.raw_ops.ScaleAndTranslate(
            images=image[tf.newaxis],
            size=tf.where(along > 0, size, tf.shape(image)[:2]),
            scale=tf.where(along > 0, scale, 1.0),
            translation=along * shift,
            kernel_type=_KERNELS[preprocessing.interpolation],
            antialias=preprocessing.antialias,
        )[0]
        image = tf.floor(tf.clip_by_value(image, 0.0, 255.0) + 0.5)
    return image


def _nearest(image: tf.Tensor, box: tf.Tensor, size: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    rows, columns = (
        tf.clip_by_value(
            tf.cast(
                tf.floor(box[axis] + (tf.range(size[axis], dtype=tf.float32) + 0.5) * step[axis]), tf.int32
            ),
            0,
            tf.shape(image)[axis] - 1,
        )
        for axis in (0, 1)
    )
    return tf.gather(tf.gather(image, rows, axis=0), columns, axis=1)
