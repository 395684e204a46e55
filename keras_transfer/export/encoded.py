"""The preprocessing contract as TensorFlow operations: encoded images to the model's pixels, inside the graph.

For a SavedModel that is fed files. Decoding and resizing are TensorFlow's here and Pillow's everywhere else; with
``nearest`` the pixels are the same, otherwise they differ by at most 1 of 255 by rounding (``bicubic`` and
``lanczos``: by more where they overshoot, because Pillow 12 and 13 resize in another order and clip in between).
TensorFlow does not turn photographs by their EXIF orientation.
"""

from __future__ import annotations

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from keras_transfer.preprocessing import Preprocessing  # noqa: E402

_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos": "lanczos3"}


def supported(preprocessing: Preprocessing) -> bool:
    """Whether the contract can be kept inside a graph.

    Not ``area`` (TensorFlow weighs the pixels at a box's edge in another way), and not ``bicubic`` without
    antialiasing (Pillow's is another filter there).
    """
    if preprocessing.interpolation == "bicubic":
        return preprocessing.antialias
    return preprocessing.interpolation != "area"


def pixels_of(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """JPEG, PNG, BMP or GIF (first frame), string ``(B,)``, to float32 ``(B, H, W, 3)``, whole numbers in [0, 255]."""
    spec = tf.TensorSpec((*preprocessing.size, 3), tf.float32)
    return tf.map_fn(lambda one: _prepare(_decode(one), preprocessing), encoded, fn_output_signature=spec)


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """One image: float32 ``(h, w, 3)`` in [0, 255]; what is transparent lies on white."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        # The exact transform is what Pillow uses.
        lambda: tf.cast(tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"), tf.float32),
        lambda: _on_white(tf.io.decode_image(encoded, channels=0, expand_animations=False)),
    )


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Grey, grey with alpha, RGB or RGBA ``(h, w, 1 to 4)`` uint8 to RGB."""
    values = tf.cast(tf.ensure_shape(image, (None, None, None)), tf.float32)
    channels = tf.shape(values)[2]
    with_alpha = channels % 2 == 0
    colours = values[:, :, : channels - tf.cast(with_alpha, tf.int32)]
    alpha = tf.where(with_alpha, values[:, :, -1:], 255.0) / 255.0
    colours = tf.broadcast_to(colours, tf.concat([tf.shape(values)[:2], [3]], 0))
    return tf.round(colours * alpha + 255.0 * (1.0 - alpha))


def _prepare(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    height, width = preprocessing.size
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    h, w = shape[0], shape[1]
    full = tf.stack([0.0, 0.0, h, w])
    if preprocessing.resize == "squash":
        resized = _scale(image, full, tf.constant([height, width]), preprocessing)
    elif preprocessing.resize == "crop":
        ratio = tf.minimum(h / height, w / width)  # source pixels a target pixel
        inner = tf.stack([ratio * height, ratio * width])
        corner = (shape - inner) / 2
        resized = _scale(
            image, tf.concat([corner, corner + inner], 0), tf.constant([height, width]), preprocessing
        )
    else:
        resized = _pad(image, full, preprocessing)
    return tf.ensure_shape(resized, (height, width, 3))


def _pad(image: tf.Tensor, full: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    height, width = preprocessing.size
    shape = tf.shape(image)
    h, w = shape[0], shape[1]
    wider = height * w >= width * h
    fit_height = tf.where(wider, tf.maximum(1, (2 * h * width + w) // (2 * w)), height)
    fit_width = tf.where(wider, width, tf.maximum(1, (2 * w * height + h) // (2 * h)))
    inner = _scale(image, full, tf.stack([fit_height, fit_width]), preprocessing)
    return tf.image.pad_to_bounding_box(
        inner, (height - fit_height) // 2, (width - fit_width) // 2, height, width
    )


def _scale(image: tf.Tensor, box: tf.Tensor, size: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The region ``box`` (top, left, bottom, right) of an image, scaled to ``size`` (height, width) and rounded."""
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
