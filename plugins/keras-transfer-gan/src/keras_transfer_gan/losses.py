"""What discriminator and generator minimise, as functions of the discriminator's answers ``(B, 1)``.

- non-saturating: Goodfellow et al. 2014 (arXiv:1406.2661)
- hinge: Lim & Ye 2017 (arXiv:1705.02894)
- wgan-gp: Gulrajani et al. 2017 (arXiv:1704.00028)
- least-squares: Mao et al. 2016 (arXiv:1611.04076)
"""

from __future__ import annotations

from typing import Any

from keras import ops

THRESHOLDS = {"non-saturating": 0.0, "hinge": 0.0, "least-squares": 0.5}
"""An answer above it says that an image is real. wgan-gp's critic has none: its answers only compare."""


def discriminator_loss(name: str, real: Any, fake: Any, smoothing: float = 0.0) -> Any:
    """A scalar.

    Args:
        name: of the loss.
        real: answers to real images.
        fake: answers to images that were made.
        smoothing: one-sided (Salimans et al. 2016, arXiv:1606.03498): real images count as real to 1 - smoothing. For
            non-saturating and least-squares.
    """
    if name == "non-saturating":
        return ops.mean(ops.softplus(-real) + smoothing * real) + ops.mean(ops.softplus(fake))
    if name == "hinge":
        return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))
    if name == "least-squares":
        return 0.5 * (ops.mean(ops.square(real - (1 - smoothing))) + ops.mean(ops.square(fake)))
    return ops.mean(fake) - ops.mean(real)


def generator_loss(name: str, fake: Any) -> Any:
    """A scalar."""
    if name == "non-saturating":
        return ops.mean(ops.softplus(-fake))
    if name == "least-squares":
        return 0.5 * ops.mean(ops.square(fake - 1))
    return -ops.mean(fake)


def threshold(name: str, real: Any, fake: Any) -> Any:
    """What tells real from made: a fixed number, for a critic the middle between its mean answers."""
    if name in THRESHOLDS:
        return THRESHOLDS[name]
    return (ops.mean(real) + ops.mean(fake)) / 2
