"""Activations on disk: one array a key, written in order, whole or absent, read memory-mapped.

    <root>/activations/<key>.json             checksum of the file, what it belongs to
    <root>/activations/<key>-<checksum>.npy   float16 or float32 (V, M, ...)

The ``.json`` is written last and names a file by its content, so that two processes writing at once cannot mix
their files. Neither writing nor checking holds more than a block of the array in memory.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_transfer.errors import CacheError, DataError
from keras_transfer.features.cache import FeatureCache, refusal, size_limit
from keras_transfer.features.shards import seal, unseal
from keras_transfer.hashing import sha256_of_file, sha256_of_parts
from keras_transfer.paths import atomic_write

logger = logging.getLogger("keras_transfer")

OFF = "use --cache-boundary off"


class _Overflow(Exception):
    """A number that float16 cannot hold."""


class ActivationFiles:
    """The activations of a cache. Creates nothing before the first :meth:`save`."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def load(self, key: str, shape: tuple[int, ...]) -> np.memmap | None:
        """The array under ``key``, read-only and verified. A damaged one is removed with a warning: None."""
        record = self._record(key)
        try:
            body = unseal(record.read_bytes())
            path = self._array(key, body["checksum"])
            if sha256_of_file(path) != body["checksum"]:
                raise ValueError("its checksum does not match")
            values = _open(path)
            if values.shape != shape:
                raise ValueError(f"its shape is {values.shape} where {shape} was expected")
        except FileNotFoundError:
            if not record.exists():
                return None
            self._discard(key, "its array is missing")
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._discard(key, str(error))
            return None
        with contextlib.suppress(OSError):
            os.utime(record)  # last used: now
        return values

    def save(
        self,
        key: str,
        shape: tuple[int, ...],
        chunks: Callable[[], Generator[np.ndarray, None, None]],
        about: Mapping[str, Any],
    ) -> np.memmap:
        """Write an array as its parts are computed.

        Args:
            key: its name.
            shape: ``(V, M, ...)``.
            chunks: gives float32 ``(b, ...)``, together ``V * M`` rows in order; called again when the numbers do
                not fit into float16 (65504), to be kept in float32 with a warning.
            about: for people.

        Raises:
            CacheError: too little space, or the cache cannot be written. Nothing half-written stays.
            DataError: an activation is not a finite number.
        """
        try:
            return self._save(key, shape, chunks(), np.dtype(np.float16), about)
        except _Overflow as error:
            logger.warning("%s They are kept in float32, which takes twice the space.", error)
            return self._save(key, shape, chunks(), np.dtype(np.float32), about)

    def _save(
        self,
        key: str,
        shape: tuple[int, ...],
        chunks: Generator[np.ndarray, None, None],
        dtype: np.dtype,
        about: Mapping[str, Any],
    ) -> np.memmap:
        self._require_space(shape, dtype)
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(
            header, {"descr": description, "fortran_order": False, "shape": shape}
        )
        folder = self._record(key).parent
        temporary = folder / f".{key}.{uuid.uuid4().hex}.npy"  # the dot marks it as unfinished for the cache
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                checksum = sha256_of_parts(_written(file, header.getvalue(), chunks, dtype))
                file.flush()
                os.fsync(file.fileno())
            path = self._array(key, checksum)
            temporary.replace(path)
            values = _open(path)
            body = {"checksum": checksum, "images": shape[1], "about": dict(about)}
            atomic_write(self._record(key), seal(body))
        except OSError as error:
            raise CacheError(f"{refusal(self._cache, error)} Or {OFF}.") from error
        finally:
            chunks.close()  # no thread outlives a failure
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._cache.enforce_limit(keep=[self._record(key), path])
        return values

    def _require_space(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        place = next(p for p in (self._cache.root, *self._cache.root.absolute().parents) if p.exists())
        free, limit = shutil.disk_usage(place).free, size_limit()
        what = f"The activations of {shape[1]} images ({shape[0]} view each) need {_mb(needed)}"
        if needed > free:
            raise CacheError(
                f"{what}; {_mb(free)} are free at {self._cache.root}. Free some space, choose another place "
                f"with KERAS_TRANSFER_CACHE, or {OFF}."
            )
        if needed > limit:
            raise CacheError(
                f"{what}; the cache may hold {_mb(limit)}. Raise KERAS_TRANSFER_CACHE_SIZE, or {OFF}."
            )

    def _discard(self, key: str, why: str) -> None:
        record = self._record(key)
        logger.warning("Cached activations are damaged and will be computed again: %s (%s)", record, why)
        for path in (record, *record.parent.glob(f"{key}-*.npy")):
            with contextlib.suppress(OSError):
                path.unlink()

    def _record(self, key: str) -> Path:
        return self._cache.root / "activations" / f"{key}.json"

    def _array(self, key: str, checksum: str) -> Path:
        return self._record(key).with_name(f"{key}-{checksum[:16]}.npy")


def _open(path: Path) -> np.memmap:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype not in (np.float16, np.float32):
        raise ValueError(f"it holds {values.dtype}")
    return values


def _written(file: BinaryIO, header: bytes, chunks: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[bytes]:
    """The parts of an array's file, each when it is written."""
    file.write(header)
    yield header
    for chunk in chunks:
        content = _stored(chunk, dtype).tobytes()
        file.write(content)
        yield content


def _stored(chunk: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # looked at below
        stored = chunk.astype(dtype)
    if np.isfinite(stored).all():
        return stored
    if not np.isfinite(chunk).all():
        raise DataError(
            f"The frozen layers give a number that is not finite. Their weights are damaged; load others, or {OFF}."
        )
    raise _Overflow(f"Activations go up to {np.abs(chunk).max():.3g}, more than float16 can hold (65504).")


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
