"""Test-time augmentation: several views of each image, one answer, the mean of what the model says to each.

Ten views (five crops and their mirror images) are those of Krizhevsky et al. 2012 (AlexNet, section 4.1); it costs
as many times the plain prediction as there are views.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_transfer.errors import UsageError

CROP = 0.9
"""The sides of a crop, as a share of the image's."""
# Where a crop lies: 0 at the left or top edge, 1 at the right or bottom one.
_PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
MAX_VIEWS = 2 * (1 + len(_PLACES))


def tta_views(pixels: np.ndarray, views: int) -> list[np.ndarray]:
    """The first of a fixed list of views, the same in every call.

    In order: the image; its mirror image (left and right exchanged); its centre and its four corners at
    ``CROP`` of its sides, scaled back to its size (bilinear, rounded); the mirror images of these five.

    Mirror images are for classes that have no left and right: with letters or arrows, take ``views=1``.

    Args:
        pixels: uint8 (B, H, W, 3), RGB in [0, 255], as the model takes them; not changed.
        views: 1 to ``MAX_VIEWS`` (12).

    Returns:
        ``views`` arrays, each uint8 (B, H, W, 3); the first is ``pixels`` itself.

    Raises:
        UsageError: another number of views or another kind of array.
    """
    require_views(views)
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise UsageError(f"The pixels are {pixels.dtype} {pixels.shape}; uint8 (B, H, W, 3) is expected.")
    found = [pixels, _mirrored(pixels)][:views]
    crops = [_cropped(pixels, place) for place in _PLACES[: max(views - 2, 0)]]
    found += crops
    return found + [_mirrored(crop) for crop in crops[: views - len(found)]]


def tta_predict(predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, views: int) -> np.ndarray:
    """The mean of a model's probabilities over the views of each image.

    Args:
        predict: uint8 (B, H, W, 3) to probabilities (B, C). Called once a view.
        pixels: uint8 (B, H, W, 3), RGB in [0, 255].
        views: see :func:`tta_views`. 1 is exactly ``predict(pixels)``.

    Returns:
        (B, C), of the type that ``predict`` gives; rows that add up to 1 still do.

    Raises:
        UsageError: see :func:`tta_views`.
    """
    require_views(views)
    if views == 1:
        return predict(pixels)
    answers = [np.asarray(predict(view)) for view in tta_views(pixels, views)]
    return np.mean(answers, axis=0, dtype=np.float64).astype(answers[0].dtype)


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _cropped(pixels: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    height, width = pixels.shape[1:3]
    left, top = place[0] * (1 - CROP) * width, place[1] * (1 - CROP) * height
    box = (left, top, left + CROP * width, top + CROP * height)
    crops = np.empty_like(pixels)
    for crop, image in zip(crops, pixels, strict=True):
        crop[:] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return crops


def require_views(views: int) -> None:
    """Raise ``UsageError`` for a number of views that :func:`tta_views` does not have."""
    if isinstance(views, bool) or not isinstance(views, (int, np.integer)) or not 1 <= views <= MAX_VIEWS:
        raise UsageError(f"views is {views!r}; expected a whole number from 1 to {MAX_VIEWS}.")
