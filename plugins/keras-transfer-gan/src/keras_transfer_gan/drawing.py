"""What images are made from: noise under a seed, and classes; and the images made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer_gan.networks import Facts

BATCH = 64
COLUMNS = 8
"""Of a picture of samples."""
ROWS, MOST_ROWS = 8, 16


def draw(facts: Facts, count: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Inputs of a generator, float32 ``(count, facts.inputs)``: normal noise, then the classes as one-hot.

    The first ``n`` of a seed are the same for every ``count``.

    Args:
        labels: int ``(count,)``, for a conditional generator.
    """
    noise = np.random.default_rng(seed).standard_normal((count, facts.noise), dtype=np.float32)
    return with_labels(facts, noise, labels)


def with_labels(facts: Facts, noise: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Noise ``(N, facts.noise)`` and classes to inputs."""
    if not facts.conditional:
        return noise
    if labels is None:
        raise ValueError("A conditional generator needs labels.")
    return np.concatenate([noise, np.eye(len(facts.classes), dtype=np.float32)[labels]], axis=1)


def labels_in_turn(facts: Facts, count: int) -> np.ndarray:
    """Classes for ``count`` images: one after the other; zeros where there are none."""
    return np.arange(count) % len(facts.classes) if facts.conditional else np.zeros(count, np.int64)


def grid_labels(facts: Facts) -> np.ndarray:
    """Classes for a picture of samples in rows of :data:`COLUMNS`: a row per class, in turn, eight rows at least.

    More than 16 classes are shown one after the other in 16 rows.
    """
    rows = min(max(ROWS, len(facts.classes)), MOST_ROWS) if facts.conditional else ROWS
    if facts.conditional and len(facts.classes) > MOST_ROWS:
        return labels_in_turn(facts, rows * COLUMNS)
    return np.repeat(labels_in_turn(facts, rows), COLUMNS)


def class_number(facts: Facts, name: str) -> int:
    """The place of a class.

    Raises ``UsageError`` for a generator that was told none, and for an unknown name.
    """
    if not facts.conditional:
        raise UsageError(
            f"--class {name} was given, and this generator was trained without classes. Train one with --conditional."
        )
    if name not in facts.classes:
        raise unknown_name("class", name, facts.classes)
    return facts.classes.index(name)


def make(generator: Any, inputs: np.ndarray) -> np.ndarray:
    """Images uint8 ``(N, H, W, C)`` of a generator whose images are in [-1, 1]."""
    return np.concatenate(list(_made(generator, inputs)))


def _made(generator: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(inputs), BATCH):
        images = np.asarray(generator(inputs[start : start + BATCH], training=False))
        yield np.rint(images * 127.5 + 127.5).clip(0, 255).astype(np.uint8)


def between(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """``steps`` noise vectors ``(steps, Z)`` from one to the other along the great circle (White 2016,
    arXiv:1609.04468).

    Noise of many dimensions lies near a sphere; the straight line would leave it. Lengths go from one to the other
    evenly.
    """
    shares = np.linspace(0.0, 1.0, steps)[:, np.newaxis]
    lengths = [float(np.linalg.norm(end.astype(np.float64))) for end in (first, second)]
    a, b = first.astype(np.float64) / lengths[0], second.astype(np.float64) / lengths[1]
    angle = np.arccos(np.clip(a @ b, -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # the same way, or opposite ones: there is no one circle
        return ((1 - shares) * first + shares * second).astype(np.float32)
    direction = (np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / np.sin(angle)
    return (direction * ((1 - shares) * lengths[0] + shares * lengths[1])).astype(np.float32)
