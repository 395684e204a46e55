"""Small sets of real images for the built-in tasks: crops of the two photographs that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

CROPS, SIDE = 16, 96


def two_photographs(folder: Path) -> Path:
    """``china/`` and ``flower/``, 16 crops of 96 px each: one label per image."""
    for name, number, crop in _crops():
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(crop).save(folder / name / f"{number:02d}.png")
    return folder


def with_labels(folder: Path) -> Path:
    """A CSV of the same crops with several labels per image: what it shows, and ``bright`` where it is."""
    return _table(folder, lambda name, crop: name + (";bright" if crop.mean() > 120 else ""))


def with_numbers(folder: Path) -> Path:
    """A CSV of the same crops with the mean of their pixels, 0 to 1."""
    return _table(folder, lambda name, crop: f"{crop.mean() / 255:.4f}")


def crops() -> list[np.ndarray]:
    """The crops alone, uint8 (96, 96, 3), RGB."""
    return [crop for _, _, crop in _crops()]


def _crops() -> Iterator[tuple[str, int, np.ndarray]]:
    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photo = load_sample_image(f"{name}.jpg")
        for number in range(CROPS):
            y, x = (int(rng.integers(0, side - SIDE)) for side in photo.shape[:2])
            yield name, number, photo[y : y + SIDE, x : x + SIDE]


def _table(folder: Path, label: Callable[[str, np.ndarray], str]) -> Path:
    rows = []
    for name, number, crop in _crops():
        image = f"{name}{number:02d}.png"
        Image.fromarray(crop).save(folder / image)
        rows.append(f"{image},{label(name, crop)}")
    path = folder / "labels.csv"
    path.write_text("path,label\n" + "\n".join(rows) + "\n")
    return path
