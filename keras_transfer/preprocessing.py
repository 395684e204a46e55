"""The one preprocessing contract: from a file's bytes to the uint8 pixels every model is fed.

Training, prediction, calibration, export and the golden vectors all go through :meth:`Preprocessing.load`
(:meth:`Preprocessing.apply` for arrays). Scaling to what a backbone wants is a layer inside the model, so the
contract ends at RGB pixels in [0, 255]; **rounding to uint8 after resizing is part of it**.

Version 2 decodes a large JPEG at a part of its size; ``docs/pixels.md`` has the rules one by one, for other
languages. Version 1, which older runs and bundles recorded, decodes every pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from keras_transfer.decoding import Decoded, read_picture
from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer.hashing import sha256_of_json

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
_DECODE_RULES = ("scaled", "full")
_OF_SCALED = ("bilinear", "bicubic", "lanczos")  # what a scaled JPEG can be resized with
_SCALES = (8, 4, 2)  # of the DCT in libjpeg, besides 1
_VERSION = 2


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
        decode: ``scaled``: a JPEG is decoded at the smallest of 1/8, 1/4 and 1/2 of its size whose sides are
            still at least twice those it is then scaled to (:meth:`jpeg_scale`), any other file in full. On
            photographs the pixels differ from those of ``full`` by 0.2 to 0.8 of 255 on average. That holds for
            filters that weigh neighbours: without antialiasing, and with ``nearest`` and ``area``, which take or
            leave whole pixels, ``scaled`` decodes in full, too. ``full``: every pixel of every file is decoded.
        color: ``rgb``, the only order so far.
        value_range: (0.0, 255.0), the only range so far.
        version: of this contract. Version 1 knew ``full`` only.

    Raises:
        UsageError: a value that is not one of the above.
    """

    size: tuple[int, int]
    resize: str = "squash"
    interpolation: str = "bilinear"
    antialias: bool = True
    decode: str = "scaled"
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
        if self.decode not in _DECODE_RULES:
            raise unknown_name("decode rule", str(self.decode), _DECODE_RULES)
        if self.version not in (1, _VERSION):
            raise UsageError(f"Preprocessing version {self.version} is unknown; this one is {_VERSION}.")
        if self.version == 1 and self.decode != "full":
            raise UsageError(f"Preprocessing version 1 decodes in full; decode={self.decode!r} was given.")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values; :meth:`from_dict` is the inverse. Version 1 has no ``decode``."""
        fields = dataclasses.asdict(self)
        if self.version == 1:
            del fields["decode"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read back what :meth:`to_dict` wrote. What does not name ``decode`` is of version 1 and decodes in full.

        Raises:
            DataError: unknown or missing keys, an impossible value, or a newer version.
        """
        if not isinstance(values, Mapping):
            raise DataError(
                f"The preprocessing is a {type(values).__name__}; expected an object with its fields."
            )
        before = {} if "decode" in values else {"decode": "full", "version": 1}
        values = {**before, **values}
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

    def jpeg_scale(self, height: int, width: int) -> int:
        """At which part of its size a JPEG of so many upright pixels is decoded: 1 (all of it), 2, 4 or 8."""
        if self.decode == "full" or not self.antialias or self.interpolation not in _OF_SCALED:
            return 1
        rows, columns = _fit(height, width, *self.size) if self.resize == "pad" else self.size
        # What `crop` cuts off needs no word: of the region that is left, the shorter side decides, and it is whole.
        enough = (s for s in _SCALES if height >= 2 * s * rows and width >= 2 * s * columns)
        return next(enough, 1)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resize one image that is an array already.

        For a file :meth:`load` is the contract: ``apply(decode(file))`` gives the same pixels only where
        :meth:`jpeg_scale` is 1, and decodes more than is needed.

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
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.array(self._resize(Decoded(picture, picture.height, picture.width)))

    def load(self, source: Path | bytes) -> np.ndarray:
        """What the model sees of an image file: decoded as ``decode`` says, upright, resized.

        Args:
            source: a file, or the file's bytes.

        Returns:
            uint8 (height, width, 3), RGB in [0, 255].

        Raises:
            ImageError: as :func:`keras_transfer.decoding.decode`.
        """
        found = read_picture(source, self.jpeg_scale)
        # Grey is resized as one channel: the same numbers at less cost.
        picture = found.picture if (found.height, found.width) == self.size else self._resize(found)
        return np.array(picture.convert("RGB"))

    def _resize(self, found: Decoded) -> Image.Image:
        """A picture of mode RGB or L at the size, in the same mode. Every channel is resized by itself."""
        height, width = self.size
        h, w = found.height, found.width
        if self.resize == "squash":
            return self._scale(found, (0.0, 0.0, w, h), (width, height))
        if self.resize == "crop":
            return self._scale(found, _crop_box(h, w, height, width), (width, height))
        inner_height, inner_width = _fit(h, w, height, width)
        inner = self._scale(found, (0.0, 0.0, w, h), (inner_width, inner_height))
        result = Image.new(found.picture.mode, (width, height))
        result.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
        return result

    def _scale(
        self, found: Decoded, region: tuple[float, float, float, float], size: tuple[int, int]
    ) -> Image.Image:
        """The region (left, top, right, bottom) of the file's upright pixels, scaled to ``size`` (width, height)."""
        resample = _FILTERS[self.interpolation]
        left, top, right, bottom = box = found.box(*region)
        if self.antialias:
            return found.picture.resize(size, resample, box=box)
        step_x, step_y = (right - left) / size[0], (bottom - top) / size[1]
        matrix = (step_x, 0, left, 0, step_y, top)
        return found.picture.transform(size, Image.Transform.AFFINE, matrix, resample)


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
