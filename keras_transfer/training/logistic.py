"""L2-regularised logistic regression at one strength after the other, where features are many and correlated.

The minimum is the one that scikit-learn's ``LogisticRegression`` has: ``C sum_i w_i loss_i + |W|^2 / 2``, the
intercepts free. L-BFGS (Liu & Nocedal 1989, doi:10.1007/BF01589116) needs hundreds of steps for it, because features
of a network are correlated: along some directions they vary a thousand times as much as along others. Here the
features are turned to their principal axes, which leaves the penalty what it was, and every axis and class is scaled
by the root of the Hessian's diagonal there, ``C sum_i w_i p_i (1 - p_i) z_i^2 + 1``, with the mean of ``p (1 - p)``
taken out of the sum (a Jacobi preconditioner: Nocedal & Wright 2006, 5.1). Each strength begins where the last one
ended, or as far again from the one before, whichever is lower.

Of many features, sums over rows are float32, which halves their time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController

CHOOSING = 3e-6
"""Relative decrease of the loss in a step at which a fit ends that only a strength is chosen by."""
DELIVERED = {"float32": 1e-7, "float64": 1e-12}
"""The same for a head that is kept."""
JUDGED = {"float32": 1e-8, "float64": 1e-12}
"""The same for a head that is asked of rows which the one it began at has learned from."""
EXACT = 1_000_000
"""Numbers of a feature table up to which everything is float64, and a head that is kept is fitted to the last digit."""
MOST_STEPS = 1000
MOST_AXES = 4096
"""Beyond so many rows and features, finding the axes takes longer than what it saves: features stay as they are."""
ROWS_PER_FEATURE = 8
LONG = 500_000_000
"""Multiply-adds of a product from which on it is shared between threads. Threads of a short one wait for each other
longer than they work as soon as the machine has something else to do: with three other processes on two cores, the
axes of 1,280 features took a hundred times as long by two threads as by one."""
_LEAST_CURVATURE = 1e-3  # of the largest: a class that is settled everywhere has next to none
_RANK = 1e-10  # of the largest variance: below it an axis is rounding


class Linear(NamedTuple):
    """Scores ``x @ w + b``: ``w`` float64 ``(D, K)``, ``b`` float64 ``(K,)``."""

    w: np.ndarray
    b: np.ndarray


def principal_axes(x: np.ndarray) -> np.ndarray:
    """``(D, r)``: orthonormal axes along which the rows ``x`` ``(n, D)`` do not correlate, and which span them.

    Of many rows every few are looked at: where these are more than the features, the axes span everything. Their type
    (float64 up to :data:`EXACT` numbers, else float32) is the type of what is fitted along them.
    """
    with _threads(0):
        return _principal_axes(x)


def _principal_axes(x: np.ndarray) -> np.ndarray:
    count, features = x.shape
    dtype = np.dtype(np.float64 if x.size <= EXACT else np.float32)
    if min(count, features) > MOST_AXES:
        return np.eye(features, dtype=dtype)
    if count > features:
        some = x[:: max(1, count // (ROWS_PER_FEATURE * features))].astype(dtype)
        return eigh(some.T @ some, driver="evd", overwrite_a=True)[1]
    squares, left = eigh(x @ x.T, driver="evd", overwrite_a=True)
    kept = squares > _RANK * squares[-1]
    return (x.T @ (left[:, kept] / np.sqrt(squares[kept]))).astype(dtype)


def turned(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """``(n, r)``: rows along axes, in the axes' type."""
    return x.astype(axes.dtype) @ axes


class LogisticPath:
    """Logistic regressions on the same rows, fitted at one strength after the other.

    Args:
        z: ``(n, r)``, features :func:`turned` to their :func:`principal_axes`; any others do, in more steps.
        targets: ``(n, K)`` of 0 and 1: one 1 in each row for classes, any number of them for labels.
        weight: float ``(n,)``, at least 0: what a row counts.
        softmax: the K columns exclude each other (multinomial); otherwise each is a question of its own.
    """

    def __init__(self, z: np.ndarray, targets: np.ndarray, weight: np.ndarray, *, softmax: bool) -> None:
        self._z, self._targets, self._softmax = z, np.asarray(targets, z.dtype), softmax
        self._total = float(weight.sum())
        self._share = (weight / self._total).astype(z.dtype)[:, np.newaxis]
        self._spread = np.append((self._share * z * z).sum(axis=0, dtype=np.float64), 1.0)[:, np.newaxis]
        self._last = np.zeros((z.shape[1] + 1, targets.shape[1]))
        self._near = [self._last]
        self._found: dict[float, np.ndarray] = {}

    def fit(self, c: float) -> Linear:
        """A solution to choose by, at an inverse regularisation strength ``C``: the next one of a path."""
        begin = min(self._near, key=lambda solution: self._objective(solution, self._penalty(c))[0])
        solution = self._found[c] = self._minimum(begin, c, CHOOSING)
        self._near = [solution, 2 * solution - self._last]
        self._last = solution
        return _linear(solution)

    def deliver(self, c: float, path: Sequence[float]) -> Linear:
        """The solution at a strength of a path, to the last: the same whether more of the path was fitted, or none."""
        for strength in path:
            if strength <= c and strength not in self._found:
                self.fit(strength)
        return _linear(self._minimum(self._found[c], c, DELIVERED[self._z.dtype.name]))

    def near(self, c: float, start: Linear, tolerance: Mapping[str, float]) -> Linear | None:
        """The solution at a strength, begun at one that is near; None where nothing at all is nearer."""
        begin = np.vstack([start.w, start.b])
        penalty = self._penalty(c)
        if not self._objective(begin, penalty)[0] < self._objective(np.zeros_like(begin), penalty)[0]:
            return None
        return _linear(self._minimum(begin, c, tolerance[self._z.dtype.name]))

    def _penalty(self, c: float) -> float:
        return 1.0 / (c * self._total)

    def _minimum(self, begin: np.ndarray, c: float, tolerance: float) -> np.ndarray:
        penalty, shape = self._penalty(c), begin.shape
        scale = self._scale(begin, penalty)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._objective(flat.reshape(shape) * scale, penalty)
            return value, (gradient * scale).ravel()

        options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": 1e-9, "ftol": tolerance}
        start = (begin / scale).ravel()
        with _threads(self._z.size * shape[1]):
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        solution = found.x.reshape(shape) * scale
        if self._softmax:
            solution[-1] -= solution[-1].mean()  # intercepts are free: only their differences mean anything
        return solution

    def _scale(self, solution: np.ndarray, penalty: float) -> np.ndarray:
        """``(r + 1, K)``: one over the root of the Hessian's diagonal; the intercepts' are last."""
        chances, _ = self._chances(solution)
        curvature = (self._share * chances * (1 - chances)).sum(axis=0, dtype=np.float64)
        curvature = np.maximum(curvature, max(_LEAST_CURVATURE * curvature.max(), 1e-12))
        diagonal = self._spread * curvature
        diagonal[:-1] += penalty
        return 1.0 / np.sqrt(diagonal)

    def _objective(self, solution: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        chances, value = self._chances(solution)
        chances -= self._targets
        chances *= self._share
        gradient = np.empty(solution.shape)
        gradient[:-1] = self._z.T @ chances
        gradient[:-1] += penalty * solution[:-1]
        gradient[-1] = chances.sum(axis=0, dtype=np.float64)
        return value + 0.5 * penalty * float(np.vdot(solution[:-1], solution[:-1])), gradient

    def _chances(self, solution: np.ndarray) -> tuple[np.ndarray, float]:
        """The probabilities ``(n, K)``, and the weighted mean of the loss."""
        scores = self._z @ solution[:-1].astype(self._z.dtype) + solution[-1].astype(self._z.dtype)
        if self._softmax:
            scores -= scores.max(axis=1, keepdims=True)
            right = (scores * self._targets).sum(axis=1, dtype=np.float64)
            chances = np.exp(scores, out=scores)
            total = chances.sum(axis=1, keepdims=True)
            chances /= total
            losses = np.log(total[:, 0].astype(np.float64)) - right
        else:
            losses = (np.logaddexp(0, scores) - scores * self._targets).sum(axis=1, dtype=np.float64)
            chances = expit(scores)
        return chances, float(self._share[:, 0].astype(np.float64) @ losses)


def _linear(solution: np.ndarray) -> Linear:
    return Linear(solution[:-1], solution[-1])


def _threads(multiply_adds: int) -> AbstractContextManager[object]:
    """One thread for what is short."""
    return nullcontext() if multiply_adds >= LONG else _pools().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
