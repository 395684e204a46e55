"""A graph index (Malkov and Yashunin 2018, arXiv:1603.09320) by the library faiss, for galleries of many entries.

Building one takes minutes, so it is kept in the cache under the hash of the embeddings; a gallery that changed builds
its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.hashing import sha256_of_parts
from keras_transfer.paths import atomic_write, cache_dir
from keras_transfer_siamese.comparison import Comparison, unit

log = logging.getLogger("keras_transfer")

NEIGHBOURS, BUILDING, SEARCHING = 32, 128, 256
"""Edges of an entry, and how many candidates building and searching look at."""
LEAST = 64
"""Candidates for a query, or eight times the names that are asked for where that is more."""


def missing(comparison: Comparison) -> str | None:
    """Why there can be no index for this comparison, None where there can."""
    if comparison.kind == "weighted_l1":
        return "An index knows the comparisons cosine and euclidean, not weighted_l1. Use --engine exact."
    if find_spec("faiss") is None:
        return "An index needs faiss: pip install 'keras-transfer-siamese[index]'. Or use --engine exact."
    return None


def candidates(entries: np.ndarray, comparison: Comparison) -> Callable[[np.ndarray, int], np.ndarray]:
    """Prepare entries float32 ``(n, D)``: a function from a query ``(D,)`` and how many names to rows of entries."""
    vectors = unit(entries) if comparison.kind == "cosine" else entries
    graph = _graph(vectors)
    graph.hnsw.efSearch = SEARCHING

    def nearest(query: np.ndarray, count: int) -> np.ndarray:
        asked = unit(query[None]) if comparison.kind == "cosine" else query[None]
        graph.hnsw.efSearch = max(SEARCHING, 8 * count)
        _, rows = graph.search(np.ascontiguousarray(asked), min(len(entries), max(LEAST, 8 * count)))
        return rows[0][rows[0] >= 0]

    return nearest


def _graph(vectors: np.ndarray) -> Any:
    """Of unit vectors by distance, too: it orders them as the cosine does."""
    import faiss

    built = f"{faiss.__version__} {NEIGHBOURS} {BUILDING} {vectors.shape}".encode()
    key = sha256_of_parts([built, np.ascontiguousarray(vectors).data])
    path = cache_dir() / "indexes" / f"{key}.faiss"
    kept = _kept(path)
    if kept is not None and kept.ntotal == len(vectors):
        return kept
    log.info("Building the index of %d entries; it is kept in the cache", len(vectors))
    graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS)
    graph.hnsw.efConstruction = BUILDING
    graph.add(vectors)
    try:
        atomic_write(path, faiss.serialize_index(graph).tobytes())
    except OSError as error:
        log.warning("The index cannot be kept in %s (%s); it is built again next time.", path.parent, error)
    return graph


def _kept(path: Path) -> Any | None:
    import faiss

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        os.utime(path)  # the cache drops what was used least recently
        return faiss.deserialize_index(content)
    except OSError:
        return None
    except RuntimeError as error:  # faiss's own, for whatever is wrong with the content
        log.warning("The index %s is damaged (%s) and is built again.", path, str(error)[:100])
        return None
