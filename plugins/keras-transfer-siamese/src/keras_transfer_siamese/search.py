"""Which enrolled name is most alike? Every entry is compared; the answers are the true ones.

The work is one matrix product and one selection. Above :data:`EXACT` entries an index of the library faiss (the extra
``index``) can propose candidates instead; those are compared as exactly, but one that was not proposed is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer_siamese.comparison import Comparison

EXACT = 100_000
"""Up to so many entries ``engine="auto"`` compares every one."""
ENGINES = ("auto", "exact", "index")
SCORES = ("best", "mean")
CHUNK = 1 << 25
"""Scores that are held at once: queries are answered in groups of this many by entries."""


@dataclass(frozen=True)
class Match:
    """A name and its score, higher for more alike."""

    name: str
    score: float


class Search:
    """Enrolled embeddings, prepared for queries.

    Args:
        names: the name of each entry; a name may have several.
        embeddings: float32 ``(n, D)``, one entry each.
        comparison: how two embeddings are compared.
        score: of a name with several entries: ``best`` is that of its most alike entry, ``mean`` the mean of its
            ``most`` best.
        most: entries that ``mean`` looks at.
        engine: ``exact``; ``index``, candidates of a faiss index; ``auto``, the index above :data:`EXACT` entries where
            faiss is installed and knows the comparison.

    Raises:
        DataError: nothing is enrolled, or numbers that are not finite.
        UsageError: an unknown engine or score; ``index`` without faiss, or with a comparison it does not know.
    """

    def __init__(
        self,
        names: Sequence[str],
        embeddings: np.ndarray,
        comparison: Comparison,
        *,
        score: str = "best",
        most: int = 3,
        engine: str = "auto",
    ) -> None:
        if score not in SCORES:
            raise unknown_name("score", score, SCORES)
        if engine not in ENGINES:
            raise unknown_name("engine", engine, ENGINES)
        if most < 1:
            raise UsageError(f"most={most} was given; at least 1 is expected.")
        if not len(names):
            raise DataError(
                "Nothing is enrolled: there is nothing to compare with. `siamese enroll` adds images."
            )
        if embeddings.ndim != 2 or len(embeddings) != len(names):
            raise UsageError(f"{len(names)} names and embeddings of shape {embeddings.shape} do not fit.")
        # Entries of one name lie side by side: a name's score is then a reduction over a slice.
        unique, owner = np.unique(np.asarray(names, str), return_inverse=True)
        order = np.argsort(owner, kind="stable")
        self.names: tuple[str, ...] = tuple(unique.tolist())
        self.dimension = embeddings.shape[1]
        self._owner = owner[order]
        self._starts = np.flatnonzero(np.r_[True, np.diff(self._owner) > 0])
        entries = np.ascontiguousarray(embeddings[order], np.float32)
        require_finite(entries, "The enrolled embeddings")
        self._score, self._most = score, most
        self._comparison = comparison
        self._candidates = _index(entries, comparison, engine)
        # With cosine a second copy of the entries, in unit length, would lie beside the first.
        self._entries = entries if self._candidates is not None else None
        self._scores = comparison.against(entries)

    def __len__(self) -> int:
        return len(self._owner)

    @property
    def indexed(self) -> bool:
        """Whether an index proposes candidates."""
        return self._candidates is not None

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """The score of every name, exactly: float32 ``(n, names)`` for queries float32 ``(n, D)``."""
        found = self._scores(self._checked(queries))
        if len(self._starts) == found.shape[1]:
            return found
        if self._score == "best":
            return np.maximum.reduceat(found, self._starts, axis=1)
        return self._means(found, self._owner)

    def top(self, queries: np.ndarray, count: int = 1) -> list[list[Match]]:
        """The ``count`` most alike names of each query, best first; equal scores in the order of the names.

        Args:
            queries: float32 ``(n, D)``.
            count: at most so many; fewer where fewer are enrolled.

        Raises:
            UsageError: ``count`` below 1, or another ``D``.
            DataError: numbers that are not finite.
        """
        if count < 1:
            raise UsageError(f"top={count} was given; at least 1 is expected.")
        queries = self._checked(queries)
        found: list[list[Match]] = []
        step = max(1, CHUNK // len(self))
        for start in range(0, len(queries), step):
            chunk = queries[start : start + step]
            if self._candidates is not None:
                found += [self._among(query, count) for query in chunk]
                continue
            for row in self.scores(chunk):
                found.append([Match(self.names[place], float(row[place])) for place in largest(row, count)])
        return found

    def _checked(self, queries: np.ndarray) -> np.ndarray:
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise UsageError(
                f"Embeddings of shape {queries.shape} were given; (n, {self.dimension}) is expected, as those enrolled."
            )
        queries = np.asarray(queries, np.float32)
        require_finite(queries, "The embeddings that were asked about")
        return queries

    def _means(self, found: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """``(n, entries)`` to ``(n, names of owner)``: the mean of the best ``most`` of each name."""
        starts = np.flatnonzero(np.r_[True, np.diff(owner) > 0])
        counts = np.diff(np.r_[starts, len(owner)])
        means = np.empty((len(found), len(starts)), np.float32)
        for place, row in enumerate(found):
            ranked = row[np.lexsort((-row, owner))]
            kept = np.arange(len(row)) - np.repeat(starts, counts) < self._most
            means[place] = np.add.reduceat(np.where(kept, ranked, 0), starts) / np.minimum(counts, self._most)
        return means

    def _among(self, query: np.ndarray, count: int) -> list[Match]:
        """The best names among the index's candidates, compared exactly with all their entries."""
        assert self._candidates is not None and self._entries is not None
        owners = np.unique(self._owner[self._candidates(query, count)])
        ends = np.r_[self._starts[1:], len(self)]
        rows = np.concatenate([np.arange(self._starts[one], ends[one]) for one in owners])
        found = self._comparison.scores(query[None], self._entries[rows])
        owner = self._owner[rows]
        if self._score == "best":
            row = np.maximum.reduceat(found, np.flatnonzero(np.r_[True, np.diff(owner) > 0]), axis=1)[0]
        else:
            row = self._means(found, owner)[0]
        return [Match(self.names[owners[place]], float(row[place])) for place in largest(row, count)]


def _index(
    entries: np.ndarray, comparison: Comparison, engine: str
) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """What proposes rows of entries for a query, None where every one is compared."""
    if engine == "exact" or (engine == "auto" and len(entries) <= EXACT):
        return None
    from keras_transfer_siamese import index

    reason = index.missing(comparison)
    if reason is None:
        return index.candidates(entries, comparison)
    if engine == "index":
        raise UsageError(reason)
    return None


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the ``count`` largest of ``values (n,)``, largest first, equal ones in order, as a stable sort has."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    least = np.partition(values, len(values) - count)[len(values) - count]
    candidates = np.flatnonzero(values >= least)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise ``DataError`` for numbers that are not finite."""
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{what} hold numbers that are not finite ({len(wrong)} of {len(values)}). The model is damaged, or was "
            "trained with too large steps; train or export it again."
        )
