"""Measures of unfamiliarity as small Keras models of stock layers: features ``(B, D)`` to one float ``(B, 1)``.

The larger it is, the farther an image is from what was learned. All but ``energy`` and ``softmax`` look at directions
(features divided by their length; Sun et al. 2022) on a few principal components, and at the remainder that these
components leave (Wang et al. 2022, arXiv:2203.10807): an image of another kind is mostly remainder.

- ``mahalanobis``: distance to the nearest of class-conditional Gaussians with one covariance (Lee et al. 2018,
  arXiv:1807.03888), shrunk (Ledoit & Wolf 2004);
- ``relative``: that, less the distance to one Gaussian of all images (Ren et al. 2021, arXiv:2106.09022);
- ``knn``: squared distance to the k-th nearest of remembered training images (Sun et al. 2022, arXiv:2204.06507);
- ``energy``: minus the log of the summed exponentials of the logits (Liu et al. 2020, arXiv:2010.03759);
- ``vim``: the energy and the remainder, as a logit of its own (Wang et al. 2022);
- ``joint``: ``relative`` and ``energy``, each in its deviations over the training images: what is far from all
  classes, and what lies between them;
- ``softmax``: 1 minus the largest probability (Hendrycks & Gimpel 2017, arXiv:1610.02136), the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.utils.extmath import randomized_svd

from keras_transfer.errors import DataError, UsageError
from keras_transfer.training.embedding_problem import dense_of

METHODS = ("mahalanobis", "relative", "knn", "energy", "vim", "joint", "softmax")
NEED_LOGITS = ("energy", "vim", "joint", "softmax")
NEED_CLASSES = ("relative", "joint")
MOST_BYTES = 184_000
"""Of the weights that a measure adds to a model, the head not counted: the file has a few KB more."""
COMPONENTS, REMEMBERED = 32, 16
"""Principal components at most, and those of ``knn``, which needs the room for the images it remembers."""
IMAGES = 4
"""Images a component at least: of almost as many components as images nothing would remain, and of new images much."""
NEIGHBOUR = 5
"""Which neighbour's distance counts."""
SHARE = 0.25
"""What the remainder counts in ``relative``, in components."""
_SMALL = 1e-12
_EXACT = 256  # images or features up to which all components are computed
Head = tuple[np.ndarray, np.ndarray]
"""Kernel ``(D, C)`` and bias ``(C,)`` of the logits."""


@dataclass(frozen=True, eq=False)
class Measure:
    """A fitted measure.

    Attributes:
        model: features ``(B, D)`` float32 to ``unfamiliarity`` ``(B, 1)``; loads with Keras alone.
        components: how many principal components it looks at; 0: none.
        shrinkage: of the covariance, from 0 (none) to 1 (a sphere); None where there is none.
        bytes: of the weights, without the head's.
    """

    model: keras.Model
    components: int
    shrinkage: float | None
    bytes: int

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Unfamiliarity, float64 ``(N,)``, of features ``(N, D)``."""
        parts = [np.empty((0, 1))]
        for at in range(0, len(features), 4096):
            parts.append(
                ops.convert_to_numpy(
                    self.model(np.asarray(features[at : at + 4096], np.float32), training=False)
                )
            )
        return np.concatenate(parts)[:, 0].astype(np.float64)


@dataclass(frozen=True)
class _Directions:
    """Principal components of directions, as tensors of a model and as numbers of the images they come from."""

    entry: keras.KerasTensor
    tensor: keras.KerasTensor
    remainder: keras.KerasTensor
    points: np.ndarray
    left: np.ndarray
    """Remainders ``(n,)`` of the images."""


def measure(
    method: str, features: np.ndarray, labels: np.ndarray | None, *, head: Head | None = None, seed: int = 0
) -> Measure:
    """Fit one of :data:`METHODS`.

    Args:
        method: which.
        features: float ``(n, D)`` of the images that are learned from.
        labels: int ``(n,)``; None where images have no single class: ``mahalanobis`` then has one Gaussian.
        head: the logits of the classifier; needed by :data:`NEED_LOGITS`.
        seed: of which images ``knn`` remembers.

    Raises:
        UsageError: a method that these images or this head do not allow.
        DataError: fewer than two images, or features that are all the same.
    """
    if method not in METHODS:
        raise UsageError(f"The method {method!r} was given; one of {', '.join(METHODS)} is expected.")
    if method in NEED_LOGITS and (head is None or head[0].shape[1] < 2):
        raise UsageError(
            f"{method} needs the logits of a classifier with a linear head. Use mahalanobis or knn, which need "
            "features alone."
        )
    if method in NEED_CLASSES and (labels is None or len(np.unique(labels)) < 2):
        raise UsageError(
            f"{method} compares classes with all images, and there are no two classes. Use mahalanobis."
        )
    entry = keras.Input((features.shape[1],), name="features")
    logits = None
    if method in NEED_LOGITS and head is not None:
        logits = dense_of(head[0], head[1], "unfamiliar_logits")(entry)
    if method in ("energy", "softmax"):
        if method == "energy":
            value = -ops.logsumexp(logits, axis=-1, keepdims=True)
        else:
            value = 1.0 - ops.max(ops.softmax(logits), axis=-1, keepdims=True)
        return Measure(_named(entry, value), 0, None, 0)
    classes = 0 if labels is None or method in ("knn", "vim") else len(np.unique(labels))
    seen = _directions(
        entry, np.asarray(features, np.float64), REMEMBERED if method == "knn" else COMPONENTS, classes
    )
    shrinkage = None
    if method == "knn":
        value = _knn(seen, features.shape[1], seed)
    elif method == "vim" and head is not None:
        scores = np.asarray(features, np.float64) @ head[0] + head[1]
        lead = float(np.mean(scores.max(axis=1) - scores.mean(axis=1)))
        alpha = lead / max(float(np.sqrt(seen.left).mean()), _SMALL)
        value = alpha * ops.sqrt(seen.remainder + 1e-9) - ops.logsumexp(logits, axis=-1, keepdims=True)
    else:
        value, shrinkage = _gaussians(seen, labels, method in NEED_CLASSES)
    if method == "joint" and head is not None:
        energy = -ops.logsumexp(logits, axis=-1, keepdims=True)
        learned = keras.ops.convert_to_tensor(np.asarray(features, np.float32))
        spreads = [
            float(np.std(ops.convert_to_numpy(keras.Model(entry, one)(learned)))) for one in (value, energy)
        ]
        value = value / max(spreads[0], 1e-6) + energy / max(spreads[1], 1e-6)
    model = _named(entry, value)
    own = 0 if head is None or method not in ("vim", "joint") else head[0].size + head[1].size
    return Measure(model, seen.points.shape[1], shrinkage, 4 * (model.count_params() - own))


def _named(entry: keras.KerasTensor, value: keras.KerasTensor) -> keras.Model:
    return keras.Model(
        entry, keras.layers.Activation("linear", name="unfamiliarity")(value), name="unfamiliarity"
    )


def _directions(entry: keras.KerasTensor, features: np.ndarray, most: int, classes: int) -> _Directions:
    count, dimensions = features.shape
    if count < 2:
        raise DataError(
            f"{count} image was given to learn what is familiar from; at least 2 are needed. Add images."
        )
    x = features / np.sqrt(np.maximum(np.sum(features**2, axis=1, keepdims=True), _SMALL))
    mean = x.mean(axis=0)
    x -= mean
    if not np.sum(x**2) > 1e-9 * count:
        raise DataError(
            f"The features of all {count} training images are the same: nothing tells what is familiar. Use other "
            "images or weights, or leave out --unknown."
        )
    kept = min(most, max(count // IMAGES, 1), dimensions)
    while kept > 1 and 4 * (dimensions * (kept + 1) + 2 * kept**2 + classes * (kept + 1)) > MOST_BYTES:
        kept -= 1
    if min(x.shape) <= _EXACT:
        rows = np.linalg.svd(x, full_matrices=False)[2]
    else:
        rows = randomized_svd(x, kept, random_state=0)[2]
    axes = rows[:kept].T
    points = x @ axes
    left = np.maximum(np.sum(x**2, axis=1) - np.sum(points**2, axis=1), 0.0)
    direction = keras.layers.UnitNormalization(name="unfamiliar_direction")(entry)
    tensor = dense_of(axes, -mean @ axes, "unfamiliar_components")(direction)
    across = dense_of(-2 * mean[:, np.newaxis], np.array([mean @ mean]), "unfamiliar_mean")(direction)
    remainder = ops.relu(_squared(direction) + across - _squared(tensor))
    return _Directions(entry, tensor, remainder, points, left)


def _squared(x: keras.KerasTensor) -> keras.KerasTensor:
    return ops.sum(x * x, axis=-1, keepdims=True)


def _gaussians(
    seen: _Directions, labels: np.ndarray | None, relative: bool
) -> tuple[keras.KerasTensor, float]:
    points = seen.points
    found, place = (
        (np.zeros(1), np.zeros(len(points), int))
        if labels is None
        else np.unique(labels, return_inverse=True)
    )
    means = np.stack([points[place == c].mean(axis=0) for c in range(len(found))])
    within = points - means[place]
    if not np.any(np.abs(within) > 1e-9):  # one image a class
        means, within = points.mean(axis=0, keepdims=True), points - points.mean(axis=0)
    whitening, shrinkage = _whitening(within)
    white = dense_of(whitening, None, "unfamiliar_within")(seen.tensor)
    centres = means @ whitening
    gaps = dense_of(-2 * centres.T, np.sum(centres**2, axis=1), "unfamiliar_classes")(white)
    distance = ops.relu(_squared(white) + ops.min(gaps, axis=-1, keepdims=True))
    share = 1.0
    if relative:
        everything, _ = _whitening(points)
        distance = distance - _squared(dense_of(everything, None, "unfamiliar_all")(seen.tensor))
        share = SHARE
    weight = share * points.shape[1] / max(float(seen.left.mean()), 1e-6)
    return distance + weight * seen.remainder, shrinkage


def _whitening(centred: np.ndarray) -> tuple[np.ndarray, float]:
    """``(k, k)``: the product with it has the covariance 1; and how much the covariance was shrunk."""
    shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if centred.shape[1] > 1 else 0.0
    covariance = centred.T @ centred / len(centred)
    middle = float(np.trace(covariance)) / len(covariance)
    values, axes = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * middle * np.eye(len(covariance)))
    return axes / np.sqrt(np.maximum(values, max(1e-4 * middle, _SMALL))), shrinkage


def _knn(seen: _Directions, dimensions: int, seed: int) -> keras.KerasTensor:
    points = seen.points
    components = points.shape[1]
    room = max((MOST_BYTES // 4 - (dimensions + 1) * (components + 1)) // (components + 1), 2 * NEIGHBOUR)
    if len(points) > room:
        points = points[np.random.default_rng(seed).choice(len(points), room, replace=False)]
    which = min(NEIGHBOUR, len(points))
    memory = dense_of(2 * points.T, -np.sum(points**2, axis=1), "unfamiliar_memory")
    nearest, _ = ops.top_k(memory(seen.tensor) - _squared(seen.tensor), which)
    return ops.relu(-nearest[:, which - 1 :]) + seen.remainder
