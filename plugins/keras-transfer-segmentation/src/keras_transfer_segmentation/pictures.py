"""Masks made visible: laid over their image, beside the truth, and as areas in percent."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from keras_transfer.errors import UsageError
from keras_transfer.paths import atomic_write
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.masks import require_known

GAP = 4
"""White pixels between the parts of a strip."""
_IGNORED = (224, 224, 192)
"""The colour of ignored pixels where the classes give none: PASCAL VOC's void."""


def colorize(mask: np.ndarray, classes: Classes) -> np.ndarray:
    """The mask in the classes' colours: whole numbers (H, W) to uint8 (H, W, 3).

    Raises:
        UsageError: no array (H, W) of whole numbers. DataError: values that do not belong to a class.
    """
    mask = _checked(mask, classes)
    colors = np.vstack([classes.drawing_colors, np.array(classes.ignore_color or _IGNORED, np.uint8)])
    return colors[np.where(mask == classes.ignore_index, len(classes), mask)]


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: Classes, *, alpha: float = 0.5, background: int | None = 0
) -> np.ndarray:
    """The image with the colours of its mask laid over it.

    Args:
        image: uint8 (H, W, 3), RGB; not changed.
        mask: whole numbers (H, W), class indices or the ignore index.
        alpha: share of the colour, from 0 (the image) to 1 (the colour).
        background: a class that is left as it is; None colours all. Ignored pixels are left as they are.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UsageError: other shapes, or an impossible alpha. DataError: values that do not belong to a class.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha!r}; expected a share from 0 to 1.")
    image, mask = _checked_image(image), _checked(mask, classes)
    _require_same_size(image, mask)
    mixed = np.rint((1 - alpha) * image + alpha * colorize(mask, classes)).astype(np.uint8)
    untouched = (mask == classes.ignore_index) | (mask == (-1 if background is None else background))
    return np.where(untouched[..., None], image, mixed)


def strip(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    classes: Classes,
    *,
    alpha: float | None = None,
) -> np.ndarray:
    """Image, truth and prediction side by side, white pixels between them.

    Args:
        image, truth, prediction: (H, W, 3), (H, W), (H, W) as for :func:`overlay`; without truth there are two parts.
        alpha: None: masks as plain colours; a share: laid over the image.

    Returns:
        uint8 (H, 3 W + 2 GAP, 3).
    """
    image = _checked_image(image)
    masks = [mask for mask in (truth, prediction) if mask is not None]
    parts = [image]
    for mask in masks:
        _require_same_size(image, np.asarray(mask))
        parts.append(colorize(mask, classes) if alpha is None else overlay(image, mask, classes, alpha=alpha))
    gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    joined = [parts[0]]
    for part in parts[1:]:
        joined += [gap, part]
    return np.hstack(joined)


def area_percent(mask: np.ndarray, classes: Classes) -> dict[str, float]:
    """{class name: its share of the pixels that are not ignored, in percent}; they sum to 100, or are 0 without any.

    Raises:
        UsageError: no array (H, W) of whole numbers. DataError: values that do not belong to a class.
    """
    mask = _checked(mask, classes)
    counted = mask[mask != classes.ignore_index]
    counts = np.bincount(counted, minlength=len(classes))
    return dict(zip(classes.names, (100.0 * counts / max(1, len(counted))).tolist(), strict=True))


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as a PNG, under a temporary name first.

    Raises:
        UsageError: another shape or dtype, or another suffix than ``.png``. OSError: it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} does not end in .png; pictures are written as PNG.")
    content = io.BytesIO()
    Image.fromarray(_checked_image(pixels)).save(content, format="PNG")
    atomic_write(path, content.getvalue())


def _checked(mask: np.ndarray, classes: Classes) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise UsageError(f"The mask is {mask.dtype} {mask.shape}; expected whole numbers (height, width).")
    require_known(mask, classes, "The mask")
    return mask.astype(np.int64)


def _checked_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"The image is {image.dtype} {image.shape}; expected uint8 (height, width, 3).")
    return image


def _require_same_size(image: np.ndarray, mask: np.ndarray) -> None:
    if image.shape[:2] != mask.shape:
        raise UsageError(
            f"The image is {image.shape[:2]} pixels and the mask {mask.shape}; expected the same size."
        )
