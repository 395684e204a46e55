"""The one preprocessing contract: from a file's bytes to the uint8 pixels every model is fed.

Training, prediction, calibration, export and the golden vectors all go through :func:`decode` and
:meth:`Preprocessing.apply`. Scaling to what a backbone wants is a layer inside the model, so the
contract ends at RGB pixels in [0, 255]; **rounding to uint8 after resizing is part of it**.

Nothing here depends on the values of the pixels ("rescale if the maximum is above 1"), and no
module-wide setting of Pillow is touched, so all of it may run in many threads.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer.hashing import sha256_of_json

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 178_956_970  # twice Pillow's warning threshold: above it Pillow speaks of a decompression bomb
MAX_SIDE = 16_384

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
_WITHOUT_ANTIALIAS = ("nearest", "bilinear", "bicubic")  # what Image.transform can sample with
_RESIZE_RULES = ("squash", "crop", "pad")
_VERSION = 1

# EXIF tag 0x0112 (Exif 2.32, 4.6.4 A): how the stored pixels must be turned to stand upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(DataError):
    """One image cannot be decoded. ``str(error)`` is a short reason, without the file's name."""


@dataclass(frozen=True)
class Preprocessing:
    """From an upright RGB image of any size to the model's input size. uint8 in, uint8 out.

    Attributes:
        size: (height, width) of the result in pixels.
        resize: what happens to the aspect ratio. ``squash``: height and width are scaled
            independently. ``crop``: the largest centred region with the target's aspect ratio is
            scaled (the shorter side is scaled to fit, the rest cut off). ``pad``: the whole image is
            scaled until it fits (sides rounded half up, at least 1) and centred on black; of an odd
            margin the larger part is at the bottom or right.
        interpolation: ``nearest``, ``bilinear``, ``bicubic``, ``area`` (box) or ``lanczos``.
        antialias: when shrinking, widen the filter by the scale (Pillow's ``resize``). Without it the
            source is sampled at half-pixel centres, as TFLite's and OpenCV's bilinear do; ``area`` and
            ``lanczos`` are antialiasing filters and refuse ``False``.
        color: ``rgb``, the only order so far.
        value_range: (0.0, 255.0), the only range so far.
        version: of this contract.

    Raises:
        UsageError: a value that is not one of the above.
    """

    size: tuple[int, int]
    resize: str = "squash"
    interpolation: str = "bilinear"
    antialias: bool = True
    color: str = "rgb"
    value_range: tuple[float, float] = (0.0, 255.0)
    version: int = _VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _checked_size(self.size))
        object.__setattr__(self, "value_range", tuple(float(v) for v in self.value_range))
        if self.resize not in _RESIZE_RULES:
            raise unknown_name("resize rule", str(self.resize), _RESIZE_RULES)
        if self.interpolation not in _FILTERS:
            raise unknown_name("interpolation", str(self.interpolation), _FILTERS)
        if not isinstance(self.antialias, bool):
            raise UsageError(f"antialias is {self.antialias!r}; expected True or False.")
        if not self.antialias and self.interpolation not in _WITHOUT_ANTIALIAS:
            raise UsageError(
                f"Interpolation {self.interpolation!r} always antialiases. Leave antialias=True, or choose "
                f"one of {', '.join(_WITHOUT_ANTIALIAS)}."
            )
        if self.color != "rgb":
            raise UsageError(f"Colour order {self.color!r} is not supported; expected 'rgb'.")
        if self.value_range != (0.0, 255.0):
            raise UsageError(f"Value range {self.value_range} is not supported; expected (0.0, 255.0).")
        if self.version != _VERSION:
            raise UsageError(f"Preprocessing version {self.version} is unknown; this one is {_VERSION}.")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values; :meth:`from_dict` is the inverse."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            DataError: unknown or missing keys, an impossible value, or a newer version.
        """
        if not isinstance(values, Mapping):
            raise DataError(
                f"The preprocessing is a {type(values).__name__}; expected an object with its fields."
            )
        version = values.get("version", _VERSION)
        if not isinstance(version, int) or version > _VERSION:
            raise DataError(
                f"The preprocessing has version {version!r}, this keras_transfer knows up to {_VERSION}. "
                "Update keras_transfer to read it."
            )
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise DataError(
                f"Unknown preprocessing fields: {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
            )
        if "size" not in values:
            raise DataError("The preprocessing has no 'size'; expected [height, width].")
        try:
            return cls(**values)
        except (UsageError, TypeError, ValueError) as error:
            raise DataError(f"The preprocessing cannot be used: {error}") from error

    def fingerprint(self) -> str:
        """64 hex digits over the fields and Pillow's major.minor version (whose filters give the pixels)."""
        pillow = ".".join(PIL.__version__.split(".")[:2])
        return sha256_of_json({**self.to_dict(), "pillow": pillow})

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resize one image.

        Args:
            image: uint8 (h, w, 3), RGB in [0, 255]; never changed.

        Returns:
            A new uint8 array (height, width, 3), RGB in [0, 255]. Equal to the input where sizes agree.

        Raises:
            UsageError: another dtype or shape.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise UsageError(f"The image is {kind}; expected a uint8 array (height, width, 3) in [0, 255].")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(f"The image has shape {image.shape}; expected (height, width, 3), not empty.")
        if image.shape[:2] == self.size:
            return image.copy()
        return np.array(self._resize(Image.fromarray(np.ascontiguousarray(image))))

    def load(self, source: Path | bytes) -> np.ndarray:
        """``apply(decode(source))``, the same pixels at less cost: grey is resized as one channel.

        Returns:
            uint8 (height, width, 3), RGB in [0, 255].

        Raises:
            ImageError: as :func:`decode`.
        """
        picture = _decode(source if isinstance(source, bytes) else read_image_bytes(source))
        if (picture.height, picture.width) != self.size:
            picture = self._resize(picture)
        return np.array(picture.convert("RGB"))

    def _resize(self, picture: Image.Image) -> Image.Image:
        """A picture of mode RGB or L at the size, in the same mode. Every channel is resized by itself."""
        height, width = self.size
        h, w = picture.height, picture.width
        if self.resize == "squash":
            return self._scale(picture, (0.0, 0.0, w, h), (width, height))
        if self.resize == "crop":
            return self._scale(picture, _crop_box(h, w, height, width), (width, height))
        inner_height, inner_width = _fit(h, w, height, width)
        inner = self._scale(picture, (0.0, 0.0, w, h), (inner_width, inner_height))
        result = Image.new(picture.mode, (width, height))
        result.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
        return result

    def _scale(
        self, picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]
    ) -> Image.Image:
        """The region ``box`` (left, top, right, bottom) of a picture, scaled to ``size`` (width, height)."""
        resample = _FILTERS[self.interpolation]
        if self.antialias:
            return picture.resize(size, resample, box=box)
        left, top, right, bottom = box
        step_x, step_y = (right - left) / size[0], (bottom - top) / size[1]
        return picture.transform(size, Image.Transform.AFFINE, (step_x, 0, left, 0, step_y, top), resample)


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        height, width = size
        checked = (int(height), int(width))
        exact = checked == (height, width)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact or not all(1 <= side <= MAX_SIDE for side in checked):
        raise UsageError(f"Image size {size!r}; expected (height, width), whole pixels from 1 to {MAX_SIDE}.")
    return checked


def _crop_box(h: int, w: int, height: int, width: int) -> tuple[float, float, float, float]:
    """The largest centred (left, top, right, bottom) of an (h, w) image with the ratio of (height, width)."""
    if height * w >= width * h:  # the image is relatively wider: cut left and right
        inner = width * h / height
        left = (w - inner) / 2
        return (left, 0.0, min(left + inner, float(w)), float(h))
    inner = height * w / width
    top = (h - inner) / 2
    return (0.0, top, float(w), min(top + inner, float(h)))


def _fit(h: int, w: int, height: int, width: int) -> tuple[int, int]:
    """The size an (h, w) image gets when it is scaled to just fit into (height, width); rounded half up."""
    if height * w >= width * h:
        return max(1, (2 * h * width + w) // (2 * w)), width
    return height, max(1, (2 * w * height + h) // (2 * h))


def decode(source: Path | bytes) -> np.ndarray:
    """Decode one image: JPEG, PNG, BMP, GIF or WebP, the first frame, upright by its EXIF orientation.

    Transparency is laid over white. 16-bit grey is divided by 257 and rounded (65535 -> 255); of 16-bit
    colour Pillow keeps the high byte. Colour profiles are ignored.

    Args:
        source: a file, or the file's bytes.

    Returns:
        uint8 (h, w, 3), RGB in [0, 255].

    Raises:
        ImageError: with a short reason: missing, empty, truncated, not an image, or more than
            ``MAX_PIXELS`` pixels (a decompression bomb; found from the header, nothing is decoded).
    """
    return np.array(_decode(source if isinstance(source, bytes) else read_image_bytes(source)).convert("RGB"))


def verify(content: bytes) -> None:
    """Check that :func:`decode` would succeed, cheaper: a JPEG is read to its end at an eighth of its size.

    Raises:
        ImageError: the reason for which :func:`decode` would fail.
    """
    _decode(content, check_only=True)


def read_image_bytes(path: Path) -> bytes:
    """A file's bytes; ``ImageError`` with a short reason where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("broken link" if path.is_symlink() else "file not found") from error
    except PermissionError as error:
        raise ImageError("permission denied") from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error


def _decode(content: bytes, check_only: bool = False) -> Image.Image:
    """The upright picture, of mode RGB, or L where the file is plain grey. ``check_only``: it may be smaller."""
    if not content:
        raise ImageError("empty file (0 bytes)")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels > MAX_PIXELS:
                raise ImageError(f"decompression bomb ({pixels} pixels, the limit is {MAX_PIXELS})")
            if check_only:
                picture.draft(picture.mode, (max(1, picture.width // 8), max(1, picture.height // 8)))
            picture.load()
            if check_only:
                _require_known_mode(picture)
                return picture
            return _upright(picture)
    except PIL.UnidentifiedImageError as error:
        raise ImageError("not an image (expected JPEG, PNG, BMP, GIF or WebP)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # The warning arrives as an exception only where the user asked Python for that.
        raise ImageError(f"decompression bomb ({error})") from error
    except OSError as error:
        text = " ".join(str(error).split())
        raise ImageError(f"truncated ({text})" if "truncated" in text else f"damaged ({text})") from error
    except (
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        ArithmeticError,
        RuntimeError,
        struct.error,
        zlib.error,
    ) as error:  # what Pillow's parsers let through on damaged headers; MemoryError is not the image's fault
        text = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"damaged ({text})") from error


def _require_known_mode(picture: Image.Image) -> None:
    if picture.mode == "F":
        raise ImageError("floating-point pixels (mode F) have no fixed range")


def _upright(picture: Image.Image) -> Image.Image:
    _require_known_mode(picture)
    turn = _UPRIGHT.get(_orientation(picture))
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        upright = _grey16(picture)
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba).convert("RGB")
    elif picture.mode == "L":
        upright = picture.copy()
    else:
        upright = picture.convert("RGB")
    return upright if turn is None else upright.transpose(turn)


def _grey16(picture: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits: round(v / 257), a fixed rule whatever values the image uses."""
    values = np.asarray(picture).astype(np.int64).clip(0, 65535)
    grey = ((values + 128) // 257).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def orientation(path: Path) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 (upright) where there is none or the file cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return _orientation(picture)
    except (OSError, SyntaxError, ValueError):
        return 1


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    try:
        value = picture.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1
    return value if isinstance(value, int) else 1
