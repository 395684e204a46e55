"""How alike two samples of features are: KID, FID, precision and recall, diversity. NumPy in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

NEIGHBOURS = 3
"""Of precision and recall, as in Kynkaanniemi et al. 2019."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error (None where too few samples tell it)."""

    value: float
    error: float | None


def kid(real: np.ndarray, made: np.ndarray) -> Estimate:
    """Kernel inception distance, unbiased, on any features (Binkowski et al. 2018, arXiv:1801.01401).

    The squared maximum mean discrepancy under the kernel ``(x.y / D + 1)^3``, as a U-statistic: its mean is that of the
    populations for every number of samples, so it can come out below 0 where they are alike. Its standard error is the
    jackknife's.

    Args:
        real: ``(N, D)``.
        made: ``(N, D)``; of unequal samples the first of the larger are taken.

    Raises:
        ValueError: fewer than 2 of either.
    """
    count = min(len(real), len(made))
    if count < 2:
        raise ValueError(f"KID needs at least 2 images of either kind; {count} were given.")
    x, y = real[:count].astype(np.float64), made[:count].astype(np.float64)
    cross = _kernel(x, y)
    # h(i, j) of the U-statistic; pairs of an image with itself are left out.
    pairs = _kernel(x, x) + _kernel(y, y) - cross - cross.T
    np.fill_diagonal(pairs, 0.0)
    rows = pairs.sum(axis=1)
    total = rows.sum()
    value = total / (count * (count - 1))
    if count < 4:
        return Estimate(float(value), None)
    without = (total - 2 * rows) / ((count - 1) * (count - 2))
    variance = (count - 1) / count * np.square(without - without.mean()).sum()
    return Estimate(float(value), float(np.sqrt(variance)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def fid(real: np.ndarray, made: np.ndarray) -> float | None:
    """Frechet distance of two Gaussians fitted to features (Heusel et al. 2017, arXiv:1706.08500).

    None unless either sample has more images than features: with fewer the covariances are singular, and the distance
    says more about the number of images than about them.
    """
    if min(len(real), len(made)) <= real.shape[1]:
        return None
    (m1, c1), (m2, c2) = (
        (x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real.astype(np.float64), made.astype(np.float64))
    )
    # Of two positive semi-definite matrices: tr sqrt(c1 c2) = tr sqrt(r c2 r), r = sqrt(c1), which is symmetric.
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ c2 @ root).clip(0)
    return float(np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.sqrt(inner).sum())


def precision_recall(real: np.ndarray, made: np.ndarray) -> tuple[float | None, float | None]:
    """Share of made images that lie among the real ones, and of real images among the made ones.

    Kynkaanniemi et al. 2019 (arXiv:1904.06991): a sample's manifold is the union of balls around its points that reach
    to their third neighbour. None with fewer than 5 images of either kind.
    """
    if min(len(real), len(made)) < NEIGHBOURS + 2:
        return None, None
    between = cdist(made, real)
    reach_real, reach_made = (np.sort(cdist(x, x), axis=1)[:, NEIGHBOURS] for x in (real, made))
    precision = (between <= reach_real[None, :]).any(axis=1).mean()
    recall = (between <= reach_made[:, None]).any(axis=0).mean()
    return float(precision), float(recall)


def diversity(real: np.ndarray, made: np.ndarray, labels: np.ndarray | None = None) -> float | None:
    """Mean distance of two made images over that of two real ones: near 0, all made images are alike.

    None where there are no two of either, or the real ones do not differ.

    Args:
        real, made: ``(N, ...)``.
        labels: classes ``(N,)`` of the real images and of as many made ones: only images of one class are compared.
            One image per class, a different one for each, is diverse on the whole and alike within.
    """
    of_real, of_made = (
        _mean_distance(x.reshape(len(x), -1).astype(np.float64), labels) for x in (real, made)
    )
    return of_made / of_real if of_real and of_made is not None else None


def _mean_distance(x: np.ndarray, labels: np.ndarray | None) -> float | None:
    groups = [x] if labels is None else [x[labels == label] for label in np.unique(labels)]
    distances = [pdist(group) for group in groups if len(group) > 1]
    return float(np.concatenate(distances).mean()) if distances else None


def nearest(made: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``made`` ``(N, D)`` the place of the nearest of ``known`` ``(M, D)``, and its distance."""
    distances = cdist(made, known)
    places = distances.argmin(axis=1)
    return places, distances[np.arange(len(made)), places]
