"""Mask files to class indices, and back.

A mask file is an *index* image (grey or palette; the numbers in it are classes), a *binary* one (0 and 255) or a
*color* one (a colour is a class). Which of them is a fact about a data set, not about one file: a file that shows only
background and ignored pixels holds {0, 255}, too. :func:`find_encoding` therefore looks at all of them.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from keras_transfer.decoding import ImageError, read_image_bytes, verify
from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer.paths import atomic_write
from keras_transfer_segmentation.classes import IGNORE_INDEX, Classes, palette

ENCODINGS = ("index", "binary", "color")
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WebP"}
_NAMED = 5  # unknown values an error names


def read_mask(
    source: Path | bytes,
    classes: Classes,
    *,
    encoding: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read one mask.

    Args:
        source: a PNG, BMP or GIF file, or its bytes. Grey of 1, 2, 4, 8 or 16 bits, a palette (its *indices* are
            read, not its colours), or RGB.
        classes: what the values may be.
        encoding: ``index``; ``binary``: 0 is class 0 and 255 is class 1; ``color``: by ``classes.colors``, for
            RGB and for palettes. None: what :func:`find_encoding` says of this file alone.
        image_size: (height, width) of the image the mask belongs to, to be checked.

    Returns:
        ``classes.dtype`` (h, w): class indices, and ``classes.ignore_index``.

    Raises:
        UsageError: an unknown encoding.
        DataError: unreadable, lossy, transparent, of another size, all ignored, or with values of no class; the
            message names the values and how many pixels have them.
    """
    name = "The mask" if isinstance(source, bytes) else str(source)
    pixels, indexed_colors = _pixels(source, name)
    if encoding is None:
        encoding = _encoding_of([(name, pixels)], classes)
    if encoding not in ENCODINGS:
        raise unknown_name("mask encoding", str(encoding), ENCODINGS)
    if image_size is not None and pixels.shape[:2] != tuple(image_size):
        raise DataError(
            f"{name} is {_size(pixels.shape)} pixels, its image {_size(image_size)} (height x width, upright). "
            "A mask has exactly the pixels of its image: export it again at the image's full size."
        )
    if encoding == "color":
        if pixels.ndim == 2 and indexed_colors is not None:
            pixels = indexed_colors[pixels]
        mask = _by_color(pixels, classes, name)
    else:
        _require_one_channel(pixels, classes, name)
        mask = _by_value(pixels, classes, name, binary=encoding == "binary")
    if (mask == classes.ignore_index).all():
        raise DataError(
            f"{name} has only ignored pixels ({classes.ignore_index}): nothing can be learned or measured on it. "
            "Leave the image out, or annotate it."
        )
    return mask


def find_encoding(paths: Iterable[Path], classes: Classes) -> str:
    """How the masks of one data set are to be read, from all of them.

    ``color`` if they are RGB; ``binary`` if there are two classes and no value but 0 and 255 in any mask, 255 among
    them; else ``index``.

    Raises:
        DataError: RGB and index masks are mixed, RGB without class colours, or a file :func:`read_mask` refuses.
    """
    return _encoding_of(((str(path), _pixels(path, str(path))[0]) for path in paths), classes)


def discover_classes(paths: Iterable[Path], ignore_index: int = IGNORE_INDEX) -> Classes:
    """Classes from the values in all masks of a data set, where nobody has named them.

    Only 0 and 255: ``background`` and ``foreground``. Else ``class_0`` to the largest value but ``ignore_index``.

    Raises:
        DataError: RGB masks, fewer than two classes, values that are rather grey levels than class indices, or a file
            :func:`read_mask` refuses.
    """
    counts: Counter[int] = Counter()
    for path in paths:
        pixels, _ = _pixels(path, str(path))
        if pixels.ndim == 3:
            raise DataError(_no_colors(str(path)))
        counts.update(count_values(pixels))
    return classes_of_values(counts, ignore_index)


def count_values(pixels: np.ndarray) -> dict[int, int]:
    """How many pixels have each value."""
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def classes_of_values(counts: Mapping[int, int], ignore_index: int = IGNORE_INDEX) -> Classes:
    """As :func:`discover_classes`, of the values found and how many pixels have each."""
    values = set(counts)
    if 255 in values and values <= {0, 255}:
        return Classes(("background", "foreground"), ignore_index=ignore_index)
    known = values - {ignore_index}
    if not known or max(known) < 1:
        raise DataError(
            f"The masks have only the values {sorted(values)}: one class at most, with nothing to tell apart. "
            "Expected class indices from 0."
        )
    _doubt_grey_levels(counts, known)
    if max(known) >= ignore_index:
        raise DataError(
            f"The masks have values up to {max(known)}, above the ignore index {ignore_index}. Name the classes, or "
            "give another ignore index."
        )
    return Classes(tuple(f"class_{index}" for index in range(max(known) + 1)), ignore_index=ignore_index)


def _doubt_grey_levels(counts: Mapping[int, int], known: set[int]) -> None:
    """``DataError`` where values are grey levels rather than class indices: gaps up to a large one, or soft edges."""
    gaps = max(known) >= 64 and max(known) > 2 * len(known)
    pixels = sum(counts.values())
    common = [value for value, count in counts.items() if count >= 0.005 * pixels]
    soft = len(known) > 16 and len(common) <= len(known) / 4
    if not gaps and not soft:
        return
    some = sorted(counts)
    shown = ", ".join(map(str, some[:8])) + (f", ... {some[-1]}" if len(some) > 8 else "")
    most = ", ".join(str(value) for value in sorted(sorted(counts, key=lambda value: -counts[value])[:3]))
    raise DataError(
        f"The masks have {len(counts)} values ({shown}), most pixels {most}: these look like grey levels with soft "
        "edges, not like class indices. If there are two classes, save the masks with only 0 and 255 "
        "(value >= 128); if each value is a class, save indices from 0, or name the classes (--class-names, in the "
        "order of the values)."
    )


def write_mask(path: Path, mask: np.ndarray, classes: Classes) -> None:
    """Write class indices (h, w) as a palette PNG in the classes' colours; 16-bit grey where an index is above 255.

    :func:`read_mask` with ``encoding="index"`` gives the same array back.

    Raises:
        UsageError: no array (h, w) of whole numbers. DataError: values that do not belong to a class.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer) or not mask.size:
        raise UsageError(f"The mask is {mask.dtype} {mask.shape}; expected whole numbers (height, width).")
    require_known(mask, classes, f"The mask for {path}")
    if classes.ignore_index <= 255:
        colors = palette()
        colors[: len(classes)] = classes.drawing_colors
        if classes.ignore_color:
            colors[classes.ignore_index] = classes.ignore_color
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette(colors.tobytes())
    else:
        picture = Image.fromarray(mask.astype(np.uint16))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    atomic_write(path, content.getvalue())


def require_known(pixels: np.ndarray, classes: Classes, name: str) -> None:
    """``DataError``, beginning with ``name``, that counts the values which are neither class nor ignore index."""
    unknown = ((pixels < 0) | (pixels >= len(classes))) & (pixels != classes.ignore_index)
    if unknown.any():
        hint = ""
        if len(classes) == 2 and classes.ignore_index != 255 and (pixels[unknown] == 255).all():
            hint = " If 255 stands for the second class, give the encoding 'binary'."
        raise DataError(
            f"{name} has values that do not belong to a class: {_counts(pixels[unknown])}. "
            f"Expected 0 to {len(classes) - 1} "
            f"({', '.join(classes.names[:_NAMED])}{', ...' if len(classes) > _NAMED else ''}), or "
            f"{classes.ignore_index} for pixels to ignore.{hint}"
        )


def _pixels(source: Path | bytes, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """What the file holds: whole numbers (h, w) or uint8 (h, w, 3); and the palette, uint8 (256, 3), if it has one."""
    try:
        content = source if isinstance(source, bytes) else read_image_bytes(source)
        verify(content)
    except ImageError as error:
        raise DataError(f"{name} cannot be read as a mask: {error}.") from error
    with Image.open(io.BytesIO(content)) as file:
        kind = file.format or ""
        if kind in _LOSSY:
            raise DataError(
                f"{name} is a {_LOSSY[kind]} file. Such files are lossy: compression changes the values, and with "
                "them the classes. Save masks as PNG, from the annotation, not from the lossy file."
            )
        if file.has_transparency_data:
            raise DataError(
                f"{name} has transparency. Expected a mask whose every pixel is one class; save it without an alpha "
                "channel."
            )
        colors = None
        if file.mode == "P":
            given = np.array(file.getpalette(), np.uint8).reshape(-1, 3)
            colors = np.zeros((256, 3), np.uint8)
            colors[: len(given)] = given
        picture = ImageOps.exif_transpose(file)
        if picture.mode not in ("1", "L", "P", "RGB") and not picture.mode.startswith("I"):
            raise DataError(
                f"{name} has pixels of mode {picture.mode}; expected grey, a palette or RGB. Save it as such a PNG."
            )
        pixels = np.array(picture)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if kind == "PNG" and picture.mode == "L" and content[24] in (2, 4):  # the bit depth, in the header
        pixels //= 255 // (2 ** content[24] - 1)  # Pillow spreads grey of few bits over 0..255
    return pixels, colors


def _encoding_of(masks: Iterable[tuple[str, np.ndarray]], classes: Classes) -> str:
    values: set[int] = set()
    color = index = ""
    for name, pixels in masks:
        if pixels.ndim == 3:
            color = color or name
        else:
            index = index or name
            values.update(np.unique(pixels).tolist())
        if color and index:
            raise DataError(
                f"{color} holds colours and {index} indices. The masks of a data set are all of one kind."
            )
    if color:
        if not classes.colors:
            raise DataError(_no_colors(color))
        return "color"
    return "binary" if len(classes) == 2 and 255 in values and values <= {0, 255} else "index"


def _by_value(pixels: np.ndarray, classes: Classes, name: str, binary: bool) -> np.ndarray:
    if not binary:
        require_known(pixels, classes, name)
        return pixels.astype(classes.dtype)
    wrong = (pixels != 0) & (pixels != 255)
    if wrong.any():
        raise DataError(
            f"{name} is read as a binary mask and has other values than 0 and 255: {_counts(pixels[wrong])}. "
            "Soft edges must be cut at a threshold when the mask is made."
        )
    if len(classes) != 2:
        raise UsageError(f"Binary masks have two classes; {len(classes)} were given.")
    return (pixels == 255).astype(classes.dtype)


def _by_color(pixels: np.ndarray, classes: Classes, name: str) -> np.ndarray:
    if pixels.ndim == 2:
        raise DataError(f"{name} holds indices, not colours. Leave out the colour encoding.")
    if not classes.colors:
        raise DataError(_no_colors(name))
    codes = _code(pixels)
    mask = np.full(codes.shape, -1, np.int32)
    table = dict(enumerate(classes.colors))
    if classes.ignore_color:
        table[classes.ignore_index] = classes.ignore_color
    for index, color in table.items():
        mask[codes == _code(np.array(color))] = index
    unknown = mask < 0
    if unknown.any():
        found, counts = np.unique(pixels[unknown], axis=0, return_counts=True)
        named = [f"{tuple(found[i].tolist())}: {counts[i]} pixels" for i in np.argsort(-counts)]
        raise DataError(
            f"{name} has colours that do not belong to a class: {_shortened(named)}. Add them to the colour "
            "table, as classes or as 'ignore'; masks with smoothed edges must be saved without smoothing."
        )
    return mask.astype(classes.dtype)


def _require_one_channel(pixels: np.ndarray, classes: Classes, name: str) -> None:
    if pixels.ndim == 3:
        hint = "Leave out the encoding, or give 'color'." if classes.colors else _no_colors(name)
        raise DataError(f"{name} is RGB; an index mask has one channel. {hint}")


def _counts(values: np.ndarray) -> str:
    found, counts = np.unique(values, return_counts=True)
    return _shortened([f"{found[i]}: {counts[i]} pixels" for i in np.argsort(-counts, kind="stable")])


def _shortened(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more


def _no_colors(name: str) -> str:
    return (
        f"{name} is an RGB mask and the classes have no colours. Give a colour table (CSV with name,r,g,b), or save "
        "the masks as index PNGs."
    )


def _code(colors: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 to one number for each colour."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
