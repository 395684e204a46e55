"""Pictures: grids of samples, animations, strips, pairs, curves. Pillow for pixels, matplotlib for curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from keras_transfer.evaluation.plots import INK, new_figure, save_figure
from keras_transfer.paths import atomic_write

GAP = 2
SOURCE = "synthetic"
FRAME = 250
"""Milliseconds a frame of an animation is shown; the last one five times as long."""


def as_rgb(images: np.ndarray) -> np.ndarray:
    """uint8 ``(..., 1 or 3)`` to ``(..., 3)``."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images uint8 ``(N, H, W, C)`` in rows of ``columns`` on white: uint8 ``(h, w, 3)``."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for place, image in enumerate(as_rgb(images)):
        top, left = GAP + place // columns * (height + GAP), GAP + place % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_png(path: Path, image: np.ndarray, notes: Mapping[str, str] | None = None) -> None:
    """Write uint8 ``(H, W, 1 or 3)``, with ``notes`` as text chunks, whole or not at all."""
    info = PngInfo()
    for name, value in (notes or {}).items():
        info.add_text(name, value)
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG", pnginfo=info)
    atomic_write(path, file.getvalue())


def write_animation(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write uint8 ``(H, W, 3)`` frames of one size as an endless GIF or WebP, by the suffix."""
    pictures = [Image.fromarray(as_rgb(frame)) for frame in frames]
    file = io.BytesIO()
    kind = path.suffix.lstrip(".").upper()
    extra: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    pictures[0].save(
        file,
        kind,
        save_all=True,
        append_images=pictures[1:],
        duration=[*[FRAME] * (len(pictures) - 1), 5 * FRAME],
        loop=0,
        **extra,
    )
    atomic_write(path, file.getvalue())


def pairs(made: np.ndarray, nearest: np.ndarray, columns: int = 8) -> np.ndarray:
    """Each made image above the training image nearest to it; uint8 ``(h, w, 3)``."""
    stacked = np.concatenate([as_rgb(made), as_rgb(nearest)], axis=1)
    return grid(stacked, columns)


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Losses, the discriminator's accuracy (50 %: it cannot tell), diversity and KID over the epochs."""
    epochs = [row["epoch"] for row in history]
    panels = [
        ("loss", ("discriminator_loss", "generator_loss")),
        ("share the discriminator gets right", ("real_accuracy", "made_accuracy", "held_out_accuracy")),
        ("diversity (real images: 1)", ("pixel_diversity",)),
        ("kid_lite0", ("kid_lite0",)),
    ]
    panels = [
        (title, names)
        for title, names in panels
        if any(row.get(name) is not None for row in history for name in names)
    ]
    figure, axes = new_figure(3.4 * len(panels), 3.2, columns=len(panels))
    for axis, (title, names) in zip(np.atleast_1d(axes), panels, strict=True):
        for name in names:
            found = [row.get(name) for row in history]
            points = [(e, value) for e, value in zip(epochs, found, strict=True) if value is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=".")
        if "discriminator" in title:
            axis.axhline(0.5, color=INK, linestyle=":", linewidth=1)
        axis.set_ylabel(title, fontsize=8)
        axis.legend(fontsize=8, frameon=False)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def read_rgb(path: Path) -> np.ndarray:
    """uint8 ``(H, W, 3)`` of a picture this package wrote."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
