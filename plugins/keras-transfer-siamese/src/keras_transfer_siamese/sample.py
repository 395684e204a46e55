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


def glyphs(folder: Path) -> Path:
    """16 characters, a folder each, by 10 "writers": the typefaces DejaVu and STIX. 64 px, black on white."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for character in CHARACTERS:
        (folder / character).mkdir()
        for name in TYPEFACES:
            face = ImageFont.truetype(str(fonts / f"{name}.ttf"), 44)
            picture = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(picture).text((SIDE / 2, SIDE / 2), character, fill=0, font=face, anchor="mm")
            picture.save(folder / character / f"{name}.png")
    return folder


if __name__ == "__main__":
    import sys

    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    glyphs(target)
