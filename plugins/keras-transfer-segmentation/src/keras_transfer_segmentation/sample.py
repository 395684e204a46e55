"""A small data set for the conformance kit: crops of a photograph, and which of their pixels are red."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

SIDE = 96


def for_the_kit(folder: Path) -> Path:
    """64 crops: enough for a decoder to learn something in the one epoch that the conformance kit trains."""
    return photographs(folder, 64)


def photographs(folder: Path, crops: int = 16) -> Path:
    """``images/`` and ``masks/`` (0 and 1: is the pixel red?), crops of scikit-learn's ``flower.jpg``."""
    photo = load_sample_image("flower.jpg")
    values = photo.astype(np.int32)
    red = (values[..., 0] > values[..., 1] + 40) & (values[..., 0] > values[..., 2] + 40)
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    number = 0
    while number < crops:
        y, x = (int(rng.integers(0, side - SIDE)) for side in photo.shape[:2])
        part = np.s_[y : y + SIDE, x : x + SIDE]
        if not 0.1 < red[part].mean() < 0.9:
            continue
        Image.fromarray(photo[part]).save(folder / "images" / f"{number:02d}.png")
        Image.fromarray(red[part].astype(np.uint8)).save(folder / "masks" / f"{number:02d}.png")
        number += 1
    return folder


if __name__ == "__main__":
    import sys

    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    photographs(target)
