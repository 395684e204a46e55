"""How well a network's features suit a task, before anything is trained on them: LogME.

You et al. 2021, LogME: Practical Assessment of Pre-trained Models for Transfer Learning (arXiv:2102.11005). Each class
is a regression target of 0 and 1; weights with a Gaussian prior of precision alpha map the features to it, noise has
precision beta, and the score is the logarithm of the evidence (the probability of the labels given the features, the
weights integrated out) at the best alpha and beta. No split is needed: evidence pays for complexity by itself.
"""

from __future__ import annotations

import math

import numpy as np

from keras_transfer.errors import DataError

STEPS = 1000
TOLERANCE = 1e-8
"""The iteration ends when alpha / beta changes by a smaller share than this."""
RANGE = 1e10
"""How far alpha / beta may go from the mean squared singular value: it would go to infinity for features that tell
nothing of the labels, and to zero for features that contain them."""


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """The maximum log evidence of the labels given the features, in nats an image, averaged over the classes.

    Higher is better; only scores of the same images and labels can be compared. Rotating the features or scaling them
    by one number changes nothing. As in the paper there is no intercept.

    Args:
        features: float ``(N, D)``.
        labels: int ``(N,)``, class indices.

    Raises:
        DataError: shapes that do not fit, features that are not finite, or fewer than two classes.
    """
    x, labels = np.asarray(features, np.float64), np.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise DataError(
            f"Features of shape {x.shape} and labels of shape {labels.shape} were given; (N, D) and (N,) are expected."
        )
    if not np.isfinite(x).all():
        raise DataError("The features are not all finite numbers (broken weights or images?).")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f"The labels hold {len(classes)} class; at least 2 are needed to compare features.")
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    kept = singular > singular.max(initial=0.0) * max(x.shape) * np.finfo(np.float64).eps
    left, energy = left[:, kept], singular[kept] ** 2
    scores = [_evidence(energy, left, (labels == label).astype(np.float64)) for label in classes]
    return float(np.mean(scores) / len(labels))


def _evidence(energy: np.ndarray, left: np.ndarray, target: np.ndarray) -> float:
    """Log evidence of one target ``(N,)`` at its best alpha and beta.

    Args:
        energy: ``(K,)``, squared singular values of the features, all positive.
        left: ``(N, K)``, their left singular vectors.
        target: what is regressed on.
    """
    count = len(target)
    within = (left.T @ target) ** 2
    outside = max(float(target @ target - within.sum()), 0.0)
    # In the basis of the singular vectors everything depends on ratio = alpha / beta alone. It starts at the scale
    # of the features, so that their unit does not matter.
    middle = ratio = float(energy.mean()) if len(energy) else 1.0
    for _ in range(STEPS):
        damped = ratio / (energy + ratio)
        effective = float((1.0 - damped).sum())  # the paper's gamma: how many directions the data determine
        free = count - len(energy) + float(damped.sum())  # N - gamma, without cancellation
        weights = float((energy * within / (energy + ratio) ** 2).sum())  # m'm
        residual = float((damped**2 * within).sum()) + outside
        # alpha = gamma / m'm and beta = (N - gamma) / residual are the paper's fixed point.
        best = effective * residual / max(free * weights, np.finfo(np.float64).tiny)
        best = min(max(best, middle / RANGE), middle * RANGE)
        change = abs(best - ratio) / ratio
        ratio = best
        if change < TOLERANCE:
            break
    # For a given ratio the best beta is known, and equals the fixed point's: N / (residual + ratio m'm).
    misfit = float((ratio / (energy + ratio) * within).sum()) + outside
    spread = float(np.log1p(energy / ratio).sum())
    return 0.5 * (count * (math.log(count / misfit) - math.log(2 * math.pi) - 1.0) - spread)
