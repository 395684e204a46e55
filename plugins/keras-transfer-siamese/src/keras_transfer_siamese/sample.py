"""A small data set for the conformance kit: characters from the typefaces that come with matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

CHARACTERS = "ABDEGHKMNQRSTXYZ"
TYPEFACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralItalic",
)
SIDE = 64


def glyph(character: str, typeface: str) -> Image.Image:
    """A character in one of :data:`TYPEFACES`: grey, 64 px, black on white."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    picture = Image.new("L", (SIDE, SIDE), 255)
    face = ImageFont.truetype(str(file), 44)
    ImageDraw.Draw(picture).text((SIDE / 2, SIDE / 2), character, fill=0, font=face, anchor="mm")
    return picture


def glyphs(folder: Path) -> Path:
    """16 characters, a folder each, by 10 "writers": the typefaces DejaVu and STIX."""
    for character in CHARACTERS:
        (folder / character).mkdir()
        for name in TYPEFACES:
            glyph(character, name).save(folder / character / f"{name}.png")
    return folder


if __name__ == "__main__":
    import sys

    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    glyphs(target)
