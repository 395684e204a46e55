"""How alike two embeddings are, and from where on they count as the same. NumPy alone: the bundle can carry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_transfer.errors import DataError

KINDS = ("cosine", "euclidean", "weighted_l1")
BLOCK = 1 << 22
"""Numbers a block of differences may have (weighted L1 cannot be written as a matrix product)."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A score for two embeddings, higher for more alike, and the threshold that was chosen for it.

    Attributes:
        kind: ``cosine`` in [-1, 1]; ``euclidean``, the negative distance in (-inf, 0] (Hadsell et al. 2006);
            ``weighted_l1``, the probability of being the same, ``sigmoid(bias - sum(weights * |a - b|))`` in (0, 1)
            (Koch et al. 2015).
        weights: float32 ``(D,)`` of ``weighted_l1``, else None.
        bias: of ``weighted_l1``.
        threshold: two images are the same where their score is at least this; None where none was chosen.
    """

    kind: str = "cosine"
    weights: np.ndarray | None = None
    bias: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"Comparison {self.kind!r} is not known. Known are {', '.join(KINDS)}.")
        if (self.weights is not None) != (self.kind == "weighted_l1"):
            raise DataError("weighted_l1, and it alone, has weights.")

    def scores(self, queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
        """Every query against every entry.

        Args:
            queries: float32 ``(n, D)``.
            entries: float32 ``(m, D)``.

        Returns:
            float32 ``(n, m)``.
        """
        return self.against(entries)(queries)

    def against(self, entries: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """:meth:`scores` for entries that stay: what depends on them alone is computed once.

        Args:
            entries: float32 ``(m, D)``.

        Returns:
            A function from queries ``(n, D)`` to scores float32 ``(n, m)``.
        """
        if self.kind == "cosine":
            directions = unit(entries)
            return lambda queries: unit(queries) @ directions.T
        if self.kind == "euclidean":
            lengths = np.einsum("md,md->m", entries, entries)
            return lambda queries: (
                -np.sqrt(np.maximum((queries**2).sum(1)[:, None] + lengths - 2 * queries @ entries.T, 0))
            )
        return lambda queries: self._probabilities(queries, entries)

    def _probabilities(self, queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
        assert self.weights is not None
        found = np.empty((len(queries), len(entries)), np.float32)
        down = min(max(1, len(entries)), max(1, BLOCK // max(1, entries.shape[1])))
        step = max(1, BLOCK // max(1, down * entries.shape[1]))
        for first in range(0, len(queries), step):
            block = queries[first : first + step, None]
            for start in range(0, len(entries), down):
                differences = np.abs(block - entries[None, start : start + down])
                found[first : first + step, start : start + down] = differences @ self.weights
        return 1 / (1 + np.exp(np.clip(found - self.bias, -60, 60)))

    def same(self, scores: np.ndarray) -> np.ndarray:
        """Which scores say "the same"; shape as given, bool.

        Raises:
            DataError: no threshold was chosen.
        """
        if self.threshold is None:
            raise DataError(
                "No threshold was chosen for this model: its training had no validation classes. Pass one."
            )
        return np.asarray(scores) >= self.threshold

    def at(self, threshold: float) -> Comparison:
        """The same with another threshold."""
        return replace(self, threshold=float(threshold))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        weights = None if self.weights is None else [float(value) for value in self.weights]
        return {"kind": self.kind, "weights": weights, "bias": self.bias, "threshold": self.threshold}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """What :meth:`to_dict` gave.

        Raises:
            DataError: it is no such dictionary.
        """
        try:
            weights, threshold = values["weights"], values["threshold"]
            return cls(
                kind=values["kind"],
                weights=None if weights is None else np.asarray(weights, np.float32),
                bias=float(values["bias"]),
                threshold=None if threshold is None else float(threshold),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise DataError(f"This describes no comparison of embeddings: {problem}.") from problem


def unit(values: np.ndarray) -> np.ndarray:
    """Rows ``(n, D)`` divided by their length; a row of zeros stays one."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
