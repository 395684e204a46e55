"""Temperature scaling: one number that makes a classifier's probabilities honest, folded into its last layer.

Guo et al. 2017 (arXiv:1706.04599): ``softmax(logits / T)``, with T chosen on images that were not learned from, changes
no decision and removes most of a network's over-confidence. ``(f W + b) / T = f (W / T) + b / T``: the division is
done once, in the Dense layer's weights, so the model that is saved and exported has no extra layer.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import LOGITS

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures are looked for between these."""
SMALLEST = 1e-12
"""Probabilities are clipped here before the logarithm."""


PRIOR = 0.5
"""Deviation of log T that is expected before any image is seen: T between 0.37 and 2.7 nineteen times of twenty.
Of 50 images one answer that is wrong by a hair would otherwise make all others certain (T near its lower bound)."""


def fit_temperature(
    logits: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    prior: float | None = None,
) -> float:
    """The temperature T that gives held-out images the highest likelihood under ``softmax(logits / T)``.

    Args:
        logits: float ``(N, C)`` of images the model did not learn from.
        labels: int ``(N,)``, true class indices.
        sample_weight: float ``(N,)`` >= 0, default 1.
        prior: deviation of a normal distribution of log T around 0, which counts beside the images (maximum a
            posteriori): of few images, which say little, T stays near 1. None: the images alone count.

    Returns:
        T in [0.05, 20]; above 1 the model was over-confident. It is 1 when nothing can be learned about it: no image
        (of positive weight), no T with a lower loss, or every image answered correctly (then the likelihood rises
        without end as T goes to 0, and the number found would only be the bound it is looked for in).

    Raises:
        DataError: shapes that do not fit, logits that are not finite, labels that are no class indices, or weights
            that are negative or not finite.
    """
    logits, labels, weight = _checked(logits, labels, sample_weight)
    counted = weight > 0
    logits, labels, weight = logits[counted], labels[counted], weight[counted]
    rows = np.arange(len(labels))
    right = logits[rows, labels] >= logits.max(axis=1, initial=-np.inf)
    if right.all():  # no image at all is among these cases
        return 1.0

    doubt = 0.0 if prior is None else 0.5 / (prior**2 * weight.sum())

    def loss(log_temperature: float) -> float:
        chance = log_softmax(logits / math.exp(log_temperature), axis=1)[rows, labels]
        return -float(np.average(chance, weights=weight)) + doubt * log_temperature**2

    # The loss is convex in 1/T, so over log T it has one valley: a bounded search finds its floor. With a prior there
    # might be two between the floors of both; whichever is found is better than T = 1.
    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x)) if found.fun < loss(0.0) else 1.0


def tempered(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities ``(N, C)`` at their best temperature on these images: what no calibration could make likelier."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    return softmax(logits / fit_temperature(logits, labels), axis=1)


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide a classifier's logits by T for good, by dividing the weights of its last Dense layer in place.

    The decisions stay as they are. Fold once: folding again divides again.

    Args:
        model: made by ``heads.add_head``: a Dense layer named ``"logits"`` before the softmax.
        temperature: T > 0, from :func:`fit_temperature`.

    Raises:
        UsageError: T is no positive number, or the layer ``"logits"`` is missing or no plain Dense layer.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"The temperature is {temperature!r}; a finite number above 0 is expected.")
    layer = next((layer for layer in model.layers if layer.name == LOGITS), None)
    if layer is None:
        raise UsageError(f"The model {model.name!r} has no layer named {LOGITS!r}: build it with add_head.")
    if type(layer) is not keras.layers.Dense or layer.activation is not keras.activations.linear:
        raise UsageError(
            f"The layer {LOGITS!r} of {model.name!r} is not a Dense layer without activation but a "
            f"{type(layer).__name__}: a temperature cannot be folded into it. Divide the logits by {temperature:.4g} "
            "after the model instead, or use a head that ends in Dense."
        )
    layer.set_weights([weight / np.float32(temperature) for weight in layer.get_weights()])


def _checked(
    logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    weight = np.ones(labels.shape) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if logits.ndim != 2 or not labels.shape == weight.shape == logits.shape[:1]:
        raise DataError(
            f"Logits of shape {logits.shape}, labels {labels.shape} and weights {weight.shape} were given; (N, C), "
            "(N,) and (N,) are expected: one row, one class index and one weight per image."
        )
    if not len(labels):
        return logits, labels.astype(np.int64), weight
    if not np.isfinite(logits).all():
        raise DataError("The logits are not all finite numbers (broken weights?). Train the model again.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DataError(
            f"Labels from {labels.min()} to {labels.max()} were given; whole numbers from 0 to "
            f"{logits.shape[1] - 1} are expected."
        )
    if not np.all(np.isfinite(weight) & (weight >= 0)):
        raise DataError("Sample weights are expected as finite numbers of at least 0.")
    return logits, labels, weight
