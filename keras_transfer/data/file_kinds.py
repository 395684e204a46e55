"""Kinds of image files, by their first bytes."""

from __future__ import annotations

_MAGIC = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
_BRANDS = {
    b"avif": ".avif",
    b"avis": ".avif",
    b"heic": ".heic",
    b"heix": ".heic",
    b"mif1": ".heic",
    b"msf1": ".heic",
}


def suffix_of(content: bytes) -> str:
    """The usual suffix of an image file that begins like this; "" where it is not known."""
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "")
    return next((suffix for magic, suffix in _MAGIC if content.startswith(magic)), "")
