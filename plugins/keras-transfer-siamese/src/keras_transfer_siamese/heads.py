"""Heads in closed form: what a matrix from the training features does for comparing, without any gradient.

Centring, signed square roots, within-class covariance normalisation and linear discriminants. Each is written into
built-in Keras layers of the exported model; the division by the length follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn.covariance import ledoit_wolf_shrinkage

from keras_transfer.errors import DataError
from keras_transfer.training.embedding_problem import dense_of
from keras_transfer_siamese.networks import PROJECTION

SMALL = 1e-4
"""What keeps the slope of the signed root finite at 0."""
MOST_DIRECTIONS = 512
"""Principal directions of the training features that wccn and lda look at."""
SHRINKAGES = ("auto", 0.3, 0.9)
"""Of the within-class covariance towards a multiple of the identity; ``auto``: Ledoit and Wolf's (2004)."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """``unit((root(x) - mean) @ kernel + bias)``, with any of its parts.

    Attributes:
        name: such as ``power+wccn``.
        power: whether every feature is replaced by its signed square root first.
        mean: float32 ``(D,)``, subtracted; None: nothing is.
        kernel: float32 ``(D, d)``; None: all features are kept.
        shrinkage: of the within-class covariance, where it was used.
        bias: float32 ``(d,)``, of a trained head.
        asked: the shrinkage that was asked for, of :data:`SHRINKAGES`; None: none.
    """

    name: str
    power: bool = False
    mean: np.ndarray | None = None
    kernel: np.ndarray | None = None
    shrinkage: float | None = None
    bias: np.ndarray | None = None
    asked: float | str | None = None

    def embed(self, features: np.ndarray, unit: bool = True) -> np.ndarray:
        """Features ``(N, D)`` to embeddings ``(N, d)``, float32, of the length 1 with ``unit``."""
        x = signed_root(features) if self.power else features
        x = x if self.mean is None else x - self.mean
        x = x if self.kernel is None else x @ self.kernel
        x = x if self.bias is None else x + self.bias
        if not unit:
            return x.astype(np.float32)
        return (x / np.sqrt(np.maximum(np.sum(x**2, axis=1, keepdims=True), 1e-12))).astype(np.float32)

    def build(self, features: Any) -> Any:
        """The same in Keras, but for the division by the length: features ``(B, D)`` to ``(B, d)``."""
        x = features
        if self.power:
            x = x / ops.sqrt(ops.abs(x) + SMALL)
        if self.kernel is not None:
            mean = np.zeros(len(self.kernel)) if self.mean is None else self.mean
            bias = (0.0 if self.bias is None else self.bias) - mean @ self.kernel
            return dense_of(self.kernel, bias, PROJECTION)(x)
        if self.mean is not None:
            offset = [float(-value) for value in self.mean]
            return keras.layers.Rescaling(1.0, offset=offset, name="head_centre")(x)
        return x


def signed_root(x: np.ndarray) -> np.ndarray:
    """``sign(x) sqrt(|x|)``, with a finite slope at 0.

    Square roots of activations compress bursts (Jegou & Chum 2012; signed: Perronnin et al. 2010).
    """
    return x / np.sqrt(np.abs(x) + SMALL)


KINDS = ("raw", "centred", "power", "wccn", "lda")
"""The simplest first."""


def closed_forms(
    features: np.ndarray, labels: np.ndarray, dim: int, wanted: str = "auto"
) -> list[ClosedForm]:
    """The heads that may be tried, fitted on training features.

    Args:
        features: float32 ``(N, D)``.
        labels: int ``(N,)``.
        dim: numbers of an embedding that wccn and lda keep at most.
        wanted: ``auto`` for all, or the name of one kind: ``raw``, ``centred``, ``power``, ``wccn``, ``lda`` (these two
            with several shrinkages, and with and without the root).

    Raises:
        DataError: wccn or lda was asked for and no class has two images that differ, or lda and there are two classes,
            which one number tells apart.
    """
    kinds = KINDS if wanted == "auto" else (wanted,)
    sizes = np.unique(labels, return_counts=True)[1]
    if wanted in ("wccn", "lda") and not _enough(sizes):
        raise DataError(
            f"--head {wanted} learns how images of one class differ, and no training class has two. Add images, or use "
            "--head centred."
        )
    if wanted == "lda" and len(sizes) < 3:
        raise DataError(
            f"--head lda needs three training classes; here are {len(sizes)}. Add classes, or use --head wccn."
        )
    found = forms_on(features, labels, dim, kinds) + forms_on(
        signed_root(features), labels, dim, kinds, power=True
    )
    if not found:
        raise DataError(
            f"--head {wanted} learns how images of one class differ, and the training images of each class have the "
            "same features. Use --head raw, or add images that differ."
        )
    return found


def forms_on(
    x: np.ndarray, labels: np.ndarray, dim: int, kinds: Sequence[str] = KINDS, *, power: bool = False
) -> list[ClosedForm]:
    """The heads of some kinds on ``x`` ``(N, D)``: the features, or, with ``power``, their signed roots.

    What cannot be fitted is left out: lda of two classes, wccn and lda where no class has two images that differ.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    found = []
    plain, centred = ("power", "power+centred") if power else ("raw", "centred")
    if plain in kinds:
        found.append(ClosedForm(plain, power))
    if ("power" if power else "centred") in kinds:
        found.append(ClosedForm(centred, power, mean=x.mean(axis=0)))
    whitened = [kind for kind in ("wccn", "lda") if kind in kinds and (kind == "wccn" or len(sizes) > 2)]
    if whitened and _enough(sizes):
        found += _whitened(x.astype(np.float64), labels, dim, whitened, power)
    return found


def _enough(sizes: np.ndarray) -> bool:
    """Whether there are two classes, and two images of one."""
    return len(sizes) > 1 and bool((sizes > 1).any())


def _whitened(
    x: np.ndarray, labels: np.ndarray, dim: int, kinds: Sequence[str], power: bool
) -> list[ClosedForm]:
    mean = x.mean(axis=0)
    # Beyond the directions in which the training images vary nothing is learned, and nothing is kept.
    if len(x) - 1 <= min(
        MOST_DIRECTIONS, x.shape[1]
    ):  # all of them: any basis will do, and this one is soon found
        basis = np.linalg.qr((x - mean)[:-1].T)[0]
    else:
        basis = _leading(x - mean, min(MOST_DIRECTIONS, len(x) - 1))
    inside = (x - mean) @ basis
    residuals, centres = _within(inside, labels)
    variances, axes = np.linalg.eigh(residuals.T @ residuals / len(residuals))
    if not np.any(variances > 0):
        return []
    prefix = "power+" if power else ""
    found = []
    for asked in SHRINKAGES:
        shrinkage = (
            ledoit_wolf_shrinkage(residuals, assume_centered=True) if asked == "auto" else float(asked)
        )
        # Shrinking towards a multiple of the identity (Ledoit & Wolf 2004) leaves the axes as they are.
        shrunk = (1 - shrinkage) * np.maximum(variances, 0) + shrinkage * variances.mean()
        whiten = axes / np.sqrt(np.maximum(shrunk, shrunk.max() * 1e-7))
        for kind in ("wccn", "lda"):
            if kind not in kinds:
                continue
            # wccn keeps the directions in which whitened images vary most; lda those in which class means do.
            points = (inside if kind == "wccn" else centres) @ whiten
            directions = _leading(points, min(dim, len(points) - 1))
            kernel = (basis @ (whiten @ directions)).astype(np.float32)
            mean32, used = mean.astype(np.float32), float(shrinkage)
            found.append(ClosedForm(prefix + kind, power, mean32, kernel, used, asked=asked))
    return found


def _leading(points: np.ndarray, most: int) -> np.ndarray:
    """Directions ``(D, d)`` in which points ``(N, D)`` vary most about 0, the first first; d is at most ``most``."""
    if len(points) < points.shape[1]:
        return np.linalg.svd(points, full_matrices=False)[2][:most].T
    return np.linalg.eigh(points.T @ points)[1][:, ::-1][:, :most]


def _within(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How images of one class differ from their mean ``(M, D)`` (of classes with several), and the means ``(C, D)``."""
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), x.shape[1]))
    np.add.at(means, index, x)
    means /= sizes[:, None]
    several = sizes[index] > 1
    # n images differ from their own mean less than from the true one.
    unbiased = np.sqrt(sizes / np.maximum(sizes - 1, 1))[index]
    return ((x - means[index]) * unbiased[:, None])[several], means
