"""Small sets of real images as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def write_crops(folder: Path, photo: np.ndarray, count: int, seed: int, size: int = 96) -> None:
    """Write ``count`` random crops of a photograph as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        y, x = rng.integers(0, photo.shape[0] - size), rng.integers(0, photo.shape[1] - size)
        Image.fromarray(photo[y : y + size, x : x + size]).save(folder / f"{i:03d}.png")


def copy_crops(source: Path, target: Path, count: int) -> None:
    """Copy the first ``count`` images of each class of a folder per class."""
    for folder in sorted(source.iterdir()):
        (target / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:count]:
            shutil.copy(path, target / folder.name)
