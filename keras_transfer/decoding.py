"""From a file's bytes to an upright picture: decoding, EXIF orientation, colours, and what is wrong with a file.

Nothing here depends on the values of the pixels ("rescale if the maximum is above 1"), and no
module-wide setting of Pillow is touched, so all of it may run in many threads.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features
from PIL.JpegImagePlugin import JpegImageFile

from keras_transfer.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""What is always read; AVIF where Pillow reads it, and HEIC with pillow-heif (the extra ``formats``), too."""
MAX_PIXELS = 178_956_970  # twice Pillow's warning threshold: above it Pillow speaks of a decompression bomb

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

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What the box ``ftyp`` of a HEIC file begins with (ISO/IEC 23008-12)."""
HEIC_COMMAND = "pip install 'keras-transfer[formats]'"
_TURNED_BY_READER = ("TIFF", "HEIF")  # Pillow and pillow-heif bring them upright


class ImageError(DataError):
    """One image cannot be decoded. ``str(error)`` is a short reason, without the file's name."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An upright picture, of a JPEG perhaps at a part of its size.

    Attributes:
        picture: mode RGB, or L where the file is plain grey. Its sides are ``ceil(side / scale)``.
        height, width: of the file's pixels, upright.
        scale: 1, 2, 4 or 8: so many pixels of the file along each side are one pixel here.
        orientation: EXIF's, 1 to 8, by which the picture was turned.
    """

    picture: Image.Image
    height: int
    width: int
    scale: int = 1
    orientation: int = 1

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """A region of the file's upright pixels, in the coordinates of ``picture``: exact, with fractions.

        The last row and column of a scaled picture are filled up beyond the file's edge. Turning may bring
        them to the top or to the left.
        """
        across = self.picture.width - self.width / self.scale if self.orientation in (2, 3, 6, 7) else 0.0
        down = self.picture.height - self.height / self.scale if self.orientation in (3, 4, 7, 8) else 0.0
        return (
            across + left / self.scale,
            down + top / self.scale,
            across + right / self.scale,
            down + bottom / self.scale,
        )


def decode(source: Path | bytes) -> np.ndarray:
    """Decode one image: JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC, the first frame, upright as EXIF says.

    Transparency is laid over white. 16-bit grey is divided by 257 and rounded (65535 -> 255); of 16-bit
    colour Pillow keeps the high byte. Colour profiles are ignored.

    This is every pixel of the file, for looking at it. What a model is shown comes from
    :meth:`keras_transfer.preprocessing.Preprocessing.load`, which decodes a large JPEG at a part of its size.

    Args:
        source: a file, or the file's bytes.

    Returns:
        uint8 (h, w, 3), RGB in [0, 255].

    Raises:
        ImageError: with a short reason: missing, empty, truncated, not an image, or more than
            ``MAX_PIXELS`` pixels (a decompression bomb; found from the header, nothing is decoded).
    """
    return np.array(read_picture(source).picture.convert("RGB"))


def verify(content: bytes) -> None:
    """Check that :func:`decode` would succeed, cheaper: a JPEG is read to its end at an eighth of its size.

    Raises:
        ImageError: the reason for which :func:`decode` would fail.
    """
    _read(content, lambda height, width: 8, upright=False)


def read_picture(source: Path | bytes, scale: Callable[[int, int], int] | None = None) -> Decoded:
    """Decode one image as :func:`decode` does, a JPEG at the scale that is asked for.

    Args:
        source: a file, or the file's bytes.
        scale: from (height, width) of a JPEG, upright, to the scale: 1, 2, 4 or 8, with sides of at least
            so many pixels. None: always 1.

    Raises:
        ImageError: as :func:`decode`, at every scale: a JPEG is read to its end.
    """
    content = source if isinstance(source, bytes) else read_image_bytes(source)
    return _read(content, scale or (lambda height, width: 1))


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


def _read(content: bytes, scale_of: Callable[[int, int], int], upright: bool = True) -> Decoded:
    """The picture; as it is stored and in any mode where it need not be ``upright``."""
    with _reasons(), _opened(content) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"decompression bomb ({width * height} pixels, the limit is {MAX_PIXELS})")
        scale = 1
        if isinstance(picture, JpegImageFile):
            turned = upright and _orientation(picture) >= 5
            scale = scale_of(*((width, height) if turned else (height, width)))
        if scale > 1:
            # Without a mode: a mode may change the colours. Of a size Pillow takes the scale that leaves as much.
            picture.draft(None, (max(1, width // scale), max(1, height // scale)))
        picture.load()
        _require_known_mode(picture)
        if not upright:
            return Decoded(picture, height, width, scale)
        orientation = _orientation(picture)
        if orientation >= 5:
            height, width = width, height
        return Decoded(_upright(picture, orientation), height, width, scale, orientation)


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise ImageError("empty file (0 bytes)")
    return Image.open(io.BytesIO(content), formats=formats_of(content))


def formats_of(content: bytes) -> tuple[str, ...]:
    """The formats, in Pillow's names, that a file may have which begins with these bytes (12 at least).

    Raises:
        ImageError: AVIF or HEIC, and the package that reads it is not there.
    """
    if content[4:8] != b"ftyp":
        return FORMATS
    brand = content[8:12]
    if brand in (b"avif", b"avis"):
        if not features.check("avif"):
            raise ImageError("AVIF is read by Pillow 11.3 and newer: pip install --upgrade pillow")
        return ("AVIF",)
    if brand not in HEIC_BRANDS:
        return FORMATS
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(f"HEIC is read with pillow-heif: {HEIC_COMMAND}") from error
    pillow_heif.register_heif_opener()
    return ("HEIF",)


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """What Pillow raises, as an ``ImageError`` with a short reason."""
    try:
        yield
    except PIL.UnidentifiedImageError as error:
        raise ImageError("not an image (expected JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC)") from error
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
    if picture.mode == "I" and picture.format == "TIFF":
        raise ImageError("pixels of 32 bits, or with a sign, have no fixed range")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
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
    return upright.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else upright


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
        with _opened(read_image_bytes(path)) as picture:
            return _orientation(picture)
    except (ImageError, OSError, SyntaxError, ValueError):
        return 1


def image_size(source: Path | bytes) -> tuple[int, int]:
    """(height, width) of an image's upright pixels, from its header: what :func:`decode` gives, without decoding.

    Raises:
        ImageError: not an image, or it cannot be read. That it decodes is not said.
    """
    content = source if isinstance(source, bytes) else read_image_bytes(source)
    with _reasons(), _opened(content) as picture:
        width, height = picture.size
        turned = picture.format not in _TURNED_BY_READER and _orientation(picture) >= 5
        return (width, height) if turned else (height, width)


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG does.

    Raises ``ImageError`` where it cannot be read.
    """
    return read_image_bytes(path)[:3] == b"\xff\xd8\xff"


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none or the EXIF block is damaged."""
    try:
        value = picture.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1
