"""A small data set for the conformance kit: patches of two photographs, in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

PATCHES, SIDE = 40, 28


def textures(folder: Path) -> Path:
    """``china/`` and ``flower/``: 40 patches of 28 px each of scikit-learn's photographs, shrunk to a third."""
    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        (folder / name).mkdir()
        picture = Image.fromarray(load_sample_image(f"{name}.jpg"))
        photo = np.asarray(picture.resize((picture.width // 3, picture.height // 3)))
        for number in range(PATCHES):
            y, x = (int(rng.integers(0, side - SIDE)) for side in photo.shape[:2])
            Image.fromarray(photo[y : y + SIDE, x : x + SIDE]).save(folder / name / f"{number:02d}.png")
    return folder
