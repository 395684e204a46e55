"""L2-regularised logistic regression at one strength after the other, where features are many and correlated.

The minimum is the one that scikit-learn's ``LogisticRegression`` has: ``C sum_i w_i loss_i + |W|^2 / 2``, the
intercepts free. L-BFGS (Liu & Nocedal 1989, doi:10.1007/BF01589116) needs hundreds of steps for it, because features
of a network are correlated: along some directions they vary a thousand times as much as along others. Here the
directions of most variance are found first, by random projection (Halko et al. 2011, arXiv:0909.4061), and what is
looked for is scaled along each of them, and across all of them, by one over the root of the curvature there,
``C sum_i w_i p_i (1 - p_i) (u . x_i)^2 + 1``, with the mean of ``p (1 - p)`` taken out of the sum (a preconditioner:
Nocedal & Wright 2006, 5.1). As few as a hundred directions save as many steps as all. Each strength begins where the
last one ended, or as far again from the one before, whichever is lower.

Of many features, sums over rows are float32, which halves their time. Where rows are fewer than features, the
minimum lies in what the rows span, and it is looked for there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, qr
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from keras_transfer.training.row_blocks import FeatureRows, Whole

CHOOSING = 3e-6
"""Relative decrease of the loss in a step at which a fit ends that only a strength is chosen by."""
DELIVERED = {"float32": 1e-7, "float64": 1e-12}
"""The same for a head that is kept."""
EXACT = 1_000_000
"""Numbers of a feature table up to which everything is float64, and a head that is kept is fitted to the last digit."""
EXACT_PRODUCT = 10_000_000
"""Multiply-adds of its product with a head, beyond which it is not: of 100 classes, the last digits take a thousand
steps."""
MOST_STEPS = 1000
DIRECTIONS = 96
"""Directions of most variance that are scaled by themselves, of more than :data:`FEW` features."""
FEW = 256
"""Features of which all directions are found, which takes no time then."""
MOST_ROWS = 2048
"""Rows up to which what they span is looked for: beyond, it takes longer than what it saves."""
_OVER = 8  # directions more than asked for, which random projection needs to find these well
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


def working(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Features ``(n, D)`` in the type that fits work in: float32 where they are long, else float64.

    ``rows`` of them are learned from, ``columns`` of weights are looked for.
    """
    numbers = rows * x.shape[1]
    return np.asarray(x, np.float64 if numbers <= min(EXACT, EXACT_PRODUCT // columns) else np.float32)


class OneHot:
    """Classes ``(n,)`` as a table ``(n, K)`` of 0 and 1 that is made a part at a time."""

    def __init__(self, positions: np.ndarray, columns: int, dtype: Any = np.float32) -> None:
        self._positions, self._columns, self._dtype = positions, np.arange(columns), dtype
        self.shape = (len(positions), columns)

    def __getitem__(self, part: slice) -> np.ndarray:
        return (self._positions[part, np.newaxis] == self._columns).astype(self._dtype)


class LogisticPath:
    """Logistic regressions on the same rows, fitted at one strength after the other.

    Args:
        x: ``(n, D)``, standardised features, in the type that sums over rows are to have (:func:`working`); or more
            than are to be in memory, in blocks.
        targets: ``(n, K)`` of 0 and 1: one 1 in each row for classes, any number of them for labels.
        weight: float ``(n,)``, at least 0: what a row counts.
        softmax: the K columns exclude each other (multinomial); otherwise each is a question of its own.
    """

    def __init__(
        self, x: np.ndarray | FeatureRows, targets: np.ndarray | OneHot, weight: np.ndarray, *, softmax: bool
    ) -> None:
        self._softmax, self._basis = softmax, None
        self._total = float(weight.sum())
        self._share = (weight / self._total).astype(x.dtype)[:, np.newaxis]
        count, features = x.shape
        with _threads(count * features * min(DIRECTIONS, count)):
            if isinstance(x, np.ndarray):
                self._basis = _spanning(x)
                z = x if self._basis is None else x @ self._basis
                self._rows: FeatureRows = Whole(z)
                self._directions = _Directions.of(z * np.sqrt(self._share))
                targets = np.asarray(targets[:], x.dtype)
            else:
                self._rows = x
                self._directions = _Directions.of_blocks(x, self._share)
        self._targets = targets
        self._last = np.zeros((self._rows.shape[1] + 1, targets.shape[1]))
        self._near = [self._last]
        self._found: dict[float, np.ndarray] = {}

    def fit(self, c: float) -> Linear:
        """A solution to choose by, at an inverse regularisation strength ``C``: the next one of a path."""
        begin = min(self._near, key=lambda solution: self._objective(solution, self._penalty(c))[0])
        solution = self._found[c] = self._minimum(begin, c, CHOOSING)
        self._near = [solution, 2 * solution - self._last]
        self._last = solution
        return self._linear(solution)

    def deliver(self, c: float, path: Sequence[float]) -> Linear:
        """The solution at a strength of a path, to the last: the same whether more of the path was fitted, or none."""
        for strength in path:
            if strength <= c and strength not in self._found:
                self.fit(strength)
        return self._linear(self._minimum(self._found[c], c, DELIVERED[self._rows.dtype.name]))

    def near(self, c: float, start: Linear) -> Linear | None:
        """The solution at a strength, begun at one that is near; None where nothing at all is nearer."""
        w = start.w if self._basis is None else self._basis.T @ start.w
        begin = np.vstack([w, start.b])
        penalty = self._penalty(c)
        if not self._objective(begin, penalty)[0] < self._objective(np.zeros_like(begin), penalty)[0]:
            return None
        return self._linear(self._minimum(begin, c, DELIVERED[self._rows.dtype.name]))

    def _penalty(self, c: float) -> float:
        return 1.0 / (c * self._total)

    def _linear(self, solution: np.ndarray) -> Linear:
        w = solution[:-1] if self._basis is None else self._basis @ solution[:-1]
        return Linear(w, solution[-1])

    def _minimum(self, begin: np.ndarray, c: float, tolerance: float) -> np.ndarray:
        penalty, shape = self._penalty(c), begin.shape
        with _threads(self._rows.shape[0] * self._rows.shape[1] * shape[1]):
            scale = self._scale(begin, penalty)

            def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
                value, gradient = self._objective(scale(flat.reshape(shape)), penalty)
                return value, scale(gradient).ravel()

            options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": 1e-9, "ftol": tolerance}
            start = scale.inverse()(begin).ravel()
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
            solution = scale(found.x.reshape(shape))
        if self._softmax:
            solution[-1] -= solution[-1].mean()  # intercepts are free: only their differences mean anything
        return solution

    def _scale(self, solution: np.ndarray, penalty: float) -> _Scale:
        curvature = np.zeros(solution.shape[1])
        for part, block in self._rows.blocks():
            chances, _ = self._chances(block, part, solution)
            curvature += (self._share[part] * chances * (1 - chances)).sum(axis=0, dtype=np.float64)
        curvature = np.maximum(curvature, max(_LEAST_CURVATURE * curvature.max(), 1e-12))
        found = self._directions
        along = 1.0 / np.sqrt(found.along[:, np.newaxis] * curvature + penalty)
        return _Scale(
            found.axes, along, 1.0 / np.sqrt(found.across * curvature + penalty), 1.0 / np.sqrt(curvature)
        )

    def _objective(self, solution: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        value, gradient = 0.0, np.zeros(solution.shape)
        for part, block in self._rows.blocks():
            chances, loss = self._chances(block, part, solution)
            value += loss
            chances -= self._targets[part]
            chances *= self._share[part]
            gradient[:-1] += self._rows.back(block, chances)
            gradient[-1] += chances.sum(axis=0, dtype=np.float64)
        gradient[:-1] += penalty * solution[:-1]
        return value + 0.5 * penalty * float(np.vdot(solution[:-1], solution[:-1])), gradient

    def _chances(self, block: np.ndarray, part: slice, solution: np.ndarray) -> tuple[np.ndarray, float]:
        """The probabilities ``(m, K)`` of some rows, and their share of the weighted mean of the loss."""
        dtype = self._rows.dtype
        scores = self._rows.times(block, solution[:-1].astype(dtype)) + solution[-1].astype(dtype)
        targets = self._targets[part]
        if self._softmax:
            scores -= scores.max(axis=1, keepdims=True)
            right = (scores * targets).sum(axis=1, dtype=np.float64)
            chances = np.exp(scores, out=scores)
            total = chances.sum(axis=1, keepdims=True)
            chances /= total
            losses = np.log(total[:, 0].astype(np.float64)) - right
        else:
            losses = (np.logaddexp(0, scores) - scores * targets).sum(axis=1, dtype=np.float64)
            chances = expit(scores)
        return chances, float(self._share[part, 0].astype(np.float64) @ losses)


class _Directions(NamedTuple):
    """Orthonormal directions of most variance, ``(r, k)``, the variance along each, and the mean across all others."""

    axes: np.ndarray
    along: np.ndarray
    across: float

    @classmethod
    def of(cls, z: np.ndarray) -> _Directions:
        """Of rows ``(n, r)`` that are multiplied by the root of what each counts."""
        features = z.shape[1]
        if features <= FEW:
            along, axes = eigh(z.T @ z, driver="evd", overwrite_a=True)
        else:
            random = np.random.default_rng(0).standard_normal((features, DIRECTIONS + _OVER), z.dtype)
            span = qr(z.T @ (z @ random), mode="economic", overwrite_a=True)[0]
            image = z @ span
            along, turns = eigh(image.T @ image, driver="evd", overwrite_a=True)
            along, axes = along[_OVER:], span @ turns[:, _OVER:]
        along = np.maximum(along.astype(np.float64), 0.0)
        rest = float(np.vdot(z, z)) - float(along.sum())
        return cls(axes, along, max(rest, 0.0) / max(features - len(along), 1))

    @classmethod
    def of_blocks(cls, rows: FeatureRows, share: np.ndarray) -> _Directions:
        """The same of more rows than are in memory, which count by ``share`` ``(n, 1)``; read three times."""
        features = rows.shape[1]
        count = min(DIRECTIONS + _OVER, features)
        random = np.random.default_rng(0).standard_normal((features, count), np.float32)
        ahead, square, total = np.zeros((features, count)), np.zeros((count, count)), 0.0
        for part, block in rows.blocks():
            ahead += rows.back(block, share[part] * rows.times(block, random))
        span = qr(ahead, mode="economic")[0].astype(np.float32)
        for part, block in rows.blocks():
            image = rows.times(block, span)
            square += (image * share[part]).T @ image
        for part, block in rows.blocks():
            total += float(share[part, 0] @ rows.squares(block))
        along, turns = eigh(square, driver="evd")
        over = max(count - DIRECTIONS, 0)
        along, axes = np.maximum(along[over:], 0.0), span @ turns[:, over:].astype(np.float32)
        return cls(axes, along, max(total - float(along.sum()), 0.0) / max(features - len(along), 1))


class _Scale(NamedTuple):
    """A symmetric factor a class: along some axes ``(k, K)``, across them ``(K,)``, of the intercepts ``(K,)``."""

    axes: np.ndarray
    along: np.ndarray
    across: np.ndarray
    intercept: np.ndarray

    def __call__(self, solution: np.ndarray) -> np.ndarray:
        """``(r + 1, K)``, the intercepts last."""
        scaled = np.empty(solution.shape)
        w = solution[:-1].astype(self.axes.dtype)
        scaled[:-1] = self.axes @ ((self.along - self.across) * (self.axes.T @ w)).astype(self.axes.dtype)
        scaled[:-1] += self.across * solution[:-1]
        scaled[-1] = self.intercept * solution[-1]
        return scaled

    def inverse(self) -> _Scale:
        return _Scale(self.axes, 1.0 / self.along, 1.0 / self.across, 1.0 / self.intercept)


def _spanning(x: np.ndarray) -> np.ndarray | None:
    """``(D, r)``: an orthonormal basis of what rows ``(n, D)`` span, where it is much less than everything."""
    if len(x) >= min(x.shape[1], MOST_ROWS):
        return None
    squares, left = eigh(x @ x.T, driver="evd", overwrite_a=True)
    kept = squares > _RANK * squares[-1]
    return (x.T @ (left[:, kept] / np.sqrt(squares[kept]))).astype(x.dtype)


def _threads(multiply_adds: int) -> AbstractContextManager[object]:
    """One thread for what is short."""
    return nullcontext() if multiply_adds >= LONG else _pools().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
