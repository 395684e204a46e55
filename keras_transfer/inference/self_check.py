"""An engine is believed after it answered like Keras on a few of the user's own images."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np

from keras_transfer.inference.runner import Runner


@dataclass(frozen=True)
class Tolerance:
    """What an engine's answers may be off.

    ``difference``: the largest absolute difference, as a share of the scale. ``cosine``: between an image's answer and
    Keras's, at least.
    """

    difference: float
    cosine: float = -1.0


# float32: a sound conversion is within 1e-5 of the scale. bfloat16: features of EfficientNet-Lite0 were found up to
# 0.13 of the scale off, their cosine 0.989 at least; the accuracy of a probe on them was the same.
TOLERANCES = {"float32": Tolerance(1e-3), "bfloat16": Tolerance(0.5, 0.98)}


@dataclass(frozen=True)
class SelfCheck:
    """How far an engine's answers were from Keras's on real images.

    ``difference``: the largest absolute difference. ``scale``: the largest absolute answer of Keras's. ``cosine``: the
    smallest of any image. ``machine``: the kind of processor it was made on.
    """

    difference: float
    scale: float
    cosine: float
    images: int
    machine: str = platform.machine()

    def passed(self, tolerance: Tolerance) -> bool:
        """False as well when an answer was not finite."""
        near = self.difference <= tolerance.difference * self.scale
        return bool(near and self.cosine >= tolerance.cosine)


@dataclass(frozen=True)
class Converted:
    """A converted model, and the self-checks that were made with it on this kind of processor, by engine."""

    content: bytes
    checks: Mapping[str, SelfCheck] = field(default_factory=dict)


class Conversions(Protocol):
    """Where converted models are found and kept."""

    def load(self, key: str) -> Converted | None:
        """The model under ``key``, or None."""

    def save(self, key: str, model: Converted, about: Mapping[str, Any]) -> None:
        """Keep a model."""


def self_check(engine: Runner, pooled: keras.Model, pixels: np.ndarray) -> SelfCheck:
    """Compare an engine with Keras on a few images, uint8 ``(n, H, W, 3)``."""
    expected = np.asarray(pooled(pixels.astype(np.float32), training=False), np.float32)
    found = engine.predict(pixels)
    difference = np.abs(found - expected)
    return SelfCheck(
        float(difference.max()), float(np.abs(expected).max()), _cosine(found, expected), len(pixels)
    )


def _cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """The smallest over the images, ``(n, ...)``; two answers of zeros are alike."""
    one, other = (values.reshape(len(values), -1).astype(np.float64) for values in (found, expected))
    with np.errstate(invalid="ignore"):  # an answer that is not finite has no cosine
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines = np.divide(
            (one * other).sum(axis=1), lengths, out=np.zeros_like(lengths), where=lengths != 0
        )
    cosines[~one.any(axis=1) & ~other.any(axis=1)] = 1.0
    return float(cosines.min())
