"""Different images: clusters, centres and gradients among features of unit length.

Three ways to take a batch that does not say the same thing many times:

- :func:`weighted_clusters`: Zhdanov 2019, "Diverse mini-batch Active Learning", arXiv:1901.05954.
- :func:`k_centre`: the greedy cover of Sener & Savarese 2018, arXiv:1708.00489.
- :func:`gradient_seeds`: BADGE, Ash et al. 2020, arXiv:1906.03671. The gradient of the last layer is
  ``(p - onehot(argmax p)) x features``; distances between such products need no product of that size.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

_BLOCK = 1024
_LEAST_WEIGHT = 1e-3
"""So that images of no doubt still count where there are no others."""
_STEPS = 20


def distances(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each row to the nearest of ``others``, float32 ``(N,)``; infinite where there are none.

    Args:
        values, others: float32 ``(N, D)`` and ``(M, D)``.
    """
    nearest = np.full(len(values), np.inf, np.float32)
    for at in range(0, len(others), _BLOCK):
        nearest = np.minimum(nearest, _squares(values, others[at : at + _BLOCK]).min(axis=1))
    return np.sqrt(nearest)


def weighted_clusters(values: np.ndarray, weights: np.ndarray, count: int, seed: int) -> np.ndarray:
    """One row of each of ``count`` clusters, the nearest to its centre; int64 ``(count,)``.

    Args:
        values: float32 ``(N, D)``, N at least ``count``.
        weights: float ``(N,)`` >= 0: what a row counts for the centres.
        count: at least 1.
        seed: of the first centres.
    """
    if count == len(values):
        return np.arange(count)
    weights = np.maximum(np.asarray(weights, np.float64), _LEAST_WEIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        means = KMeans(count, n_init=1, max_iter=_STEPS, random_state=seed).fit(values, sample_weight=weights)
    apart = _squares(means.cluster_centers_.astype(np.float32), values)
    found = np.empty(count, np.int64)
    for cluster in range(count):
        found[cluster] = apart[cluster].argmin()
        apart[:, found[cluster]] = np.inf
    return found


def k_centre(values: np.ndarray, from_others: np.ndarray, count: int) -> np.ndarray:
    """Rows that are each the farthest from all before them, int64 ``(count,)``.

    Args:
        values: float32 ``(N, D)``, N at least ``count``.
        from_others: float ``(N,)``: distance to the nearest labelled image; infinite where none is known.
        count: at least 1.
    """
    nearest = np.array(from_others, np.float64)
    if np.isinf(nearest).all():  # nothing to be far from: begin in the middle
        nearest = 2.0 + values @ values.mean(axis=0)
        first = int(nearest.argmax())
        nearest = np.full(len(values), np.inf)
    else:
        first = int(nearest.argmax())
    found = [first]
    while len(found) < count:
        last = found[-1]
        nearest = np.minimum(nearest, np.sqrt(_squares(values, values[last : last + 1])[:, 0]))
        nearest[found] = -1
        found.append(int(nearest.argmax()))
    return np.array(found)


def gradient_seeds(gradients: np.ndarray, values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The first centres of k-means++ (Arthur & Vassilvitskii 2007) among outer products; int64 ``(count,)``.

    Args:
        gradients: float ``(N, C)``: of the loss by the logits, at the label that the model expects.
        values: float ``(N, D)``: what the last layer sees.
        count: at least 1, at most N.
        seed: of the draws; the first is the longest product.
    """
    gradients, values = np.asarray(gradients, np.float64), np.asarray(values, np.float64)
    lengths = (gradients**2).sum(axis=1) * (values**2).sum(axis=1)
    draw, nearest, found = np.random.default_rng(seed), np.full(len(values), np.inf), [int(lengths.argmax())]
    while len(found) < count:
        last = found[-1]
        products = (gradients @ gradients[last]) * (values @ values[last])
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[last] - 2 * products, 0))
        nearest[found] = 0
        total = nearest.sum()
        if total > 0:
            found.append(int(draw.choice(len(values), p=nearest / total)))
        else:  # the others are equal to these
            found.append(int(np.setdiff1d(np.arange(len(values)), found)[0]))
    return np.array(found)


def _squares(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances ``(N, M)``."""
    found = (values**2).sum(axis=1)[:, np.newaxis] + (others**2).sum(axis=1) - 2 * values @ others.T
    return np.maximum(found, 0)
