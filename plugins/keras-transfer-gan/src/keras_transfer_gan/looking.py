"""What a training is looked at by, when it is done: samples, the way there, and whether it copies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer_gan import pictures
from keras_transfer_gan.drawing import (
    COLUMNS,
    between,
    draw,
    grid_labels,
    labels_in_turn,
    make,
    with_labels,
)
from keras_transfer_gan.measuring import memorised, spread
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.training import Material

log = logging.getLogger("keras_transfer")
SHOWN, STRIPS, STEPS, FRAMES = 16, 4, 9, 60
SEARCHED_FOR = 256
"""Made images whose nearest training images are looked for."""


def draw_training(
    facts: Facts, generator: keras.Model, rows: Sequence[Mapping[str, Any]], seed: int, folder: Path
) -> None:
    """Samples, the way there, strips between images, and the curves, into ``folder``.

    Args:
        facts: of the networks. generator: trained.
        rows: of the history; the pictures of the epochs are in ``folder/epochs``.
        seed: of the noise.
    """
    labels = grid_labels(facts)
    made = make(generator, draw(facts, len(labels), seed, labels))
    pictures.write_png(folder / "samples.png", pictures.grid(made, COLUMNS))
    grids = sorted((folder / "epochs").glob("*.png"))
    if grids:
        frames = [pictures.read_rgb(grids[place]) for place in spread(len(grids), FRAMES)]
        for name in ("training.gif", "training.webp"):
            pictures.write_animation(folder / name, frames)
    ends = draw(replace(facts, conditional=False), 2 * STRIPS, seed)
    strips = [between(ends[2 * i], ends[2 * i + 1], STEPS) for i in range(STRIPS)]
    strip_labels = np.repeat(labels_in_turn(facts, STRIPS), STEPS)
    strip = make(generator, with_labels(facts, np.concatenate(strips), strip_labels))
    pictures.write_png(folder / "interpolation.png", pictures.grid(strip, STEPS))
    pictures.draw_curves(rows, folder / "curves.png")


def look_for_copies(
    facts: Facts, generator: keras.Model, material: Material, most: int, seed: int, folder: Path
) -> dict[str, Any]:
    """How far made images are from their nearest training images, as a note; and a picture of some in ``folder``.

    Args:
        most: held-out images that are compared with, at most.
    """
    inputs = draw(facts, SEARCHED_FOR, seed, labels_in_turn(facts, SEARCHED_FOR))
    made = make(generator, inputs)
    held_out = material.held_out[spread(len(material.held_out), most)]
    places, ratio = memorised(made, material.pixels, held_out)
    # Classes come in turn: the first of each, or where they are many, of some from all over them.
    shown = spread(min(max(SHOWN, len(facts.classes)), SEARCHED_FOR), SHOWN)
    pictures.write_png(
        folder / "nearest_training_images.png",
        pictures.pairs(made[shown], material.pixels[places[shown]]),
    )
    if ratio is not None and ratio < 0.5:
        log.warning(
            "The images made are %.2g times as far from their nearest training images as held-out real ones are: it "
            "copies. Look at plots/nearest_training_images.png; train on more images, or for fewer epochs.",
            ratio,
        )
    return {"ratio": ratio, "made": SEARCHED_FOR, "compared_with": len(material.pixels)}
