"""How much each class weighs in the loss: ``none``, ``balanced``, or numbers."""

from __future__ import annotations

import numpy as np

from keras_transfer.errors import UsageError


def parse_weights(text: str) -> str | tuple[float, ...]:
    """``none``, ``balanced``, or the numbers of ``"1,2.5,0.5"``. Raises ``UsageError`` for anything else."""
    if text in ("none", "balanced"):
        return text
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if not weights or not all(0 <= weight < float("inf") for weight in weights) or sum(weights) == 0:
        raise UsageError(
            f"--class-weights: {text!r} was given; none, balanced, or a number of at least 0 for each class, not all "
            "0, such as 1,2.5,0.5, is expected."
        )
    return weights


def class_weights(text: str, pixels: np.ndarray, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """The weight of each class; None where all weigh alike.

    Args:
        text: see :func:`parse_weights`. ``balanced``: every class weighs as much in all as any other, its pixels
            together: N / (C n_c), which has a mean of 1 over the pixels. A class without pixels weighs 0.
        pixels: int (C,), the training masks' pixels of each class.
        names: of the classes.

    Raises:
        UsageError: a text that cannot be read, or another number of weights than of classes.
    """
    asked = parse_weights(text)
    if asked == "none":
        return None
    if asked == "balanced":
        present = pixels > 0
        share = np.where(present, pixels, 1) / max(1, pixels.sum())
        return tuple(float(weight) for weight in np.where(present, 1 / (present.sum() * share), 0.0))
    if len(asked) != len(names):
        raise UsageError(
            f"--class-weights has {len(asked)} numbers and there are {len(names)} classes ({', '.join(names)}); one "
            "for each is expected, in this order."
        )
    return asked  # type: ignore[return-value]
