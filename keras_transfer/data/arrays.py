"""NumPy arrays and ``tf.data`` as sources."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.data.assemble import Rows
from keras_transfer.data.checking import BlobStore
from keras_transfer.data.labels import Labels, encode_names, require_classes
from keras_transfer.data.table import ArrayImages, PathImages
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import CacheError, DataError, UsageError

_CHUNK_BYTES = 1 << 26


def read_arrays(images: Any, labels: Any, label_mode: str, classes: Sequence[str] | None) -> Rows:
    """Rows of a pair of arrays.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), RGB. uint8; any other dtype only when every
            value is a whole number in [0, 255] (nothing is rescaled). Referred to, not copied.
        labels: see :func:`encode_array`.

    Raises:
        UsageError: another shape, dtype or range. DataError: no images, labels that cannot be used.
    """
    if not isinstance(images, np.ndarray):
        raise UsageError(
            f"The images are a {type(images).__name__}; expected a NumPy array (see numpy.asarray)."
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise UsageError(
            f"The images have shape {images.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)."
        )
    if len(images) == 0 or 0 in images.shape:
        raise DataError(f"The images have shape {images.shape}: there is not one pixel.")
    step = max(1, _CHUNK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        require_pixels(images[start : start + step], "The images")
    values = np.asarray(labels)
    if values.ndim == 0 or len(values) != len(images):
        raise UsageError(
            f"There are {len(images)} images and labels of shape {values.shape}; expected one each."
        )
    return Rows(
        source="arrays",
        images=ArrayImages(images, np.arange(len(images))),
        labels=encode_array(values, label_mode, classes, "arrays"),
    )


def require_pixels(pixels: np.ndarray, what: str) -> None:
    """``UsageError`` unless every value is a whole number in [0, 255]."""
    if pixels.dtype == np.uint8:
        return
    advice = (
        "expected uint8, or whole numbers in [0, 255] of another type. Convert first; nothing is rescaled."
    )
    if pixels.dtype.kind not in "iuf":
        raise UsageError(f"{what} have dtype {pixels.dtype}; {advice}")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # also true for NaN
        raise UsageError(f"{what} have values from {low} to {high}; {advice}")
    if pixels.dtype.kind == "f" and not (np.floor(pixels) == pixels).all():
        raise UsageError(f"{what} have values with a fraction; {advice}")


def encode_array(values: np.ndarray, label_mode: str, classes: Sequence[str] | None, source: str) -> Labels:
    """Labels of an array.

    Whole numbers (N,) are class ids: indices into ``classes`` where given, else the ids found, in numeric
    order, are the classes. Text (N,) is class names. Whole numbers or booleans (N, C) of 0/1 are multilabel;
    with ``label_mode="classes"`` one-hot. Floats (N,) or (N, T) are regression, unless ``label_mode`` says that
    (N, C) of 0.0/1.0 is one-hot or multilabel.

    Raises:
        UsageError: a dtype or shape that does not go with ``label_mode``. DataError: values out of range.
    """
    if values.dtype.kind == "O" and all(isinstance(value, (str, bytes)) for value in values.ravel()):
        values = np.array([v.decode() if isinstance(v, bytes) else v for v in values.ravel()]).reshape(
            values.shape
        )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    form = f"labels of dtype {values.dtype} and shape {values.shape}"
    if values.dtype.kind not in "Uiufb" or values.ndim not in (1, 2):
        raise UsageError(f"The source has {form}; expected numbers or text, (N,) or (N, C).")
    if label_mode == "auto":
        label_mode = (
            "regression" if values.dtype.kind == "f" else "classes" if values.ndim == 1 else "multilabel"
        )
    if label_mode == "regression":
        return _regression(values, classes, form)
    if values.ndim == 2:
        return _from_columns(values, label_mode, classes, form)
    if label_mode == "multilabel" or values.dtype.kind == "f":
        raise UsageError(
            f"The source has {form}, which cannot be {label_mode}. Give class ids, names, or columns of 0/1."
        )
    where = [f"row {i} of {source}" for i in range(len(values))]
    if values.dtype.kind == "U":
        return encode_names([(str(value),) for value in values], "classes", classes, where, source)
    ids = values.astype(np.int64)
    if classes is None:
        found, index = np.unique(ids, return_inverse=True)
        return Labels("classes", tuple(str(i) for i in found), index.astype(np.int32))
    names = require_classes(classes)
    if ids.min() < 0 or ids.max() >= len(names):
        raise DataError(
            f"The class ids go from {ids.min()} to {ids.max()}, and there are {len(names)} classes."
        )
    return Labels("classes", names, ids.astype(np.int32), fixed=True)


def _regression(values: np.ndarray, classes: Sequence[str] | None, form: str) -> Labels:
    if values.dtype.kind == "U" or classes:
        what = "classes were given" if classes else f"the source has {form}"
        raise UsageError(
            f"label_mode='regression', and {what}. Expected numbers (N,) or (N, T) and no classes."
        )
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32).reshape(len(values), -1)
    if not np.isfinite(numbers).all():
        raise DataError(
            "The labels have values that are not finite (nan, inf, or beyond float32). Remove those rows."
        )
    return Labels("regression", (), numbers)


def _from_columns(values: np.ndarray, label_mode: str, classes: Sequence[str] | None, form: str) -> Labels:
    if values.dtype.kind == "U" or not np.isin(values, (0, 1)).all():
        raise UsageError(
            f"The source has {form} with values other than 0 and 1, which cannot be {label_mode}."
        )
    names = tuple(str(i) for i in range(values.shape[1])) if classes is None else require_classes(classes)
    if len(names) != values.shape[1]:
        raise UsageError(f"The source has {form}, and there are {len(names)} classes.")
    if label_mode == "multilabel":
        return Labels(label_mode, names, values.astype(np.uint8), fixed=classes is not None)
    if not (values.sum(axis=1) == 1).all():
        raise UsageError(f"The source has {form} that are not one-hot. Use label_mode='multilabel'?")
    return Labels(label_mode, names, values.argmax(axis=1).astype(np.int32), fixed=classes is not None)


def is_dataset(source: Any) -> bool:
    """Whether this is a ``tf.data.Dataset`` (TensorFlow is not imported to find out)."""
    return any(
        base.__name__ == "DatasetV2" and base.__module__.startswith("tensorflow")
        for base in type(source).__mro__
    )


def read_dataset(dataset: Any, label_mode: str, classes: Sequence[str] | None) -> Rows:
    """Rows of a ``tf.data.Dataset`` of (image, label), batched or not.

    The images, uint8 (or whole numbers in [0, 255]) of (H, W, 3) or (H, W, 1), are written once as PNG
    into the cache while the data set streams by, so that paths stream afterwards.

    Raises:
        UsageError: another structure, shape or range, or an endless data set. CacheError: no room.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(hasattr(part, "shape") for part in spec):
        raise UsageError(f"The tf.data.Dataset yields {spec}; expected pairs (image, label).")
    if spec[0].shape.rank not in (3, 4):
        raise UsageError(
            f"The images have shape {spec[0].shape}; expected (H, W, 3), or (B, H, W, 3) in batches."
        )
    if int(dataset.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise UsageError("The tf.data.Dataset is endless. Leave out .repeat(), or add .take(n).")
    batched = spec[0].shape.rank == 4
    store = BlobStore()

    def keep(pair: tuple[np.ndarray, Any]) -> tuple[str, Any]:
        return store.store(_png(pair[0]), "png"), pair[1]

    try:
        kept = list(ordered_map(keep, _pairs(dataset, batched), ahead=32))
    except OSError as error:
        raise CacheError(
            f"The images cannot be written to {store.root}: {error}. Make room there."
        ) from error
    if not kept:
        raise DataError("The tf.data.Dataset is empty. Expected pairs (image, label).")
    return Rows(
        source="tf.data",
        images=PathImages(store.root, tuple(name for name, _ in kept)),
        labels=encode_array(np.array([label for _, label in kept]), label_mode, classes, "tf.data"),
    )


def _pairs(dataset: Any, batched: bool) -> Iterator[tuple[np.ndarray, Any]]:
    for image, label in unbuffered(dataset).as_numpy_iterator():
        if batched:
            yield from zip(image, label, strict=True)
        else:
            yield image, label


def unbuffered(dataset: Any) -> Any:
    """The data set without the buffer that tf.data puts at its end, which grows while whoever reads is slow."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _png(pixels: np.ndarray) -> bytes:
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise UsageError(f"An image has shape {pixels.shape}; expected (H, W, 3) or (H, W, 1).")
    require_pixels(pixels, "The images")
    exact = pixels.astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(exact[:, :, 0] if exact.shape[2] == 1 else exact).save(content, "PNG", compress_level=1)
    return content.getvalue()
