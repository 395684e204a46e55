"""Features on disk: immutable shards of a few hundred images, written so that a crash costs at most one.

A collection is a folder of shards made by one network with one preprocessing and one engine::

    <collection>/key.json        what the features belong to, for people and for `cache ls`
    <collection>/<id>.npy        float32 (n, D), read memory-mapped
    <collection>/<id>.json       the images' SHA-256, and the checksum of the array's bytes

A shard exists when its ``.json`` does: that file is written last, each file under a temporary name that is
renamed. Names are unique, so processes need no lock; the same image in two shards is harmless, because equal
content under an equal key has equal features. A damaged shard is removed with a warning.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data.threads import ordered_map
from keras_transfer.hashing import sha256_of, sha256_of_json
from keras_transfer.paths import atomic_write

logger = logging.getLogger("keras_transfer")

FORMAT = 1
KEY_FILE = "key.json"


@dataclass(frozen=True)
class Shard:
    """The verified ``.json`` of a shard: ``digests[i]`` is the image whose features are row ``i``."""

    path: Path
    digests: tuple[str, ...]
    checksum: str

    @property
    def array_path(self) -> Path:
        """The ``.npy`` beside it."""
        return self.path.with_suffix(".npy")


class Collection:
    """The features of one key. ``directory`` need not exist; nothing is created before the first write."""

    def __init__(self, directory: Path, key: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.directory = directory
        self._key = {"key": dict(key), "about": dict(about)}
        self._shards: list[Shard] | None = None

    def shards(self) -> list[Shard]:
        """All shards whose ``.json`` is whole. Damaged ones are removed, with a warning."""
        if self._shards is None:
            self._shards = list(_read_shards(self.directory))
        return self._shards

    def read(self, rows: Mapping[str, int], values: np.ndarray) -> set[str]:
        """Copy what is known into ``values``.

        Args:
            rows: SHA-256 of an image to its row of ``values``.
            values: float32 (N, D), filled in place.

        Returns:
            The images found. Every array was checked against its checksum; a damaged one is removed with a
            warning, and its images are not among the found.
        """
        found: set[str] = set()
        shards = (shard for shard in self.shards() if any(digest in rows for digest in shard.digests))
        opened = ordered_map(lambda shard: (shard, _open_array(shard, values.shape[1])), shards, ahead=4)
        for shard, array in opened:
            wanted = [i for i, digest in enumerate(shard.digests) if digest in rows and digest not in found]
            if array is None or not wanted:
                continue
            values[[rows[shard.digests[i]] for i in wanted]] = array[wanted]
            found.update(shard.digests[i] for i in wanted)
            with contextlib.suppress(OSError):
                os.utime(shard.path)  # last used: now
        return found

    def write(self, digests: Sequence[str], values: np.ndarray) -> Path:
        """Commit one shard.

        Args:
            digests: the images' SHA-256.
            values: float32 (n, D), their features.

        Returns:
            The path of the shard's ``.json``.

        Raises:
            OSError: disk full, or not writable. Nothing half-written stays.
        """
        if not (self.directory / KEY_FILE).exists():
            atomic_write(self.directory / KEY_FILE, json.dumps(self._key, indent=1, sort_keys=True))
        array = np.ascontiguousarray(values, dtype=np.float32)
        content = io.BytesIO()
        np.save(content, array)
        path = self.directory / f"{uuid.uuid4().hex}.json"
        shard = Shard(path, tuple(digests), sha256_of(array.data))
        atomic_write(shard.array_path, content.getvalue())
        try:
            atomic_write(path, seal({"checksum": shard.checksum, "images": list(digests)}))
        except OSError:
            shard.array_path.unlink(missing_ok=True)
            raise
        return path


def seal(body: Mapping[str, Any]) -> str:
    """JSON that carries its own checksum and the format's number."""
    body = {**body, "format": FORMAT}
    return json.dumps({**body, "seal": sha256_of_json(body)})


def unseal(content: bytes) -> dict[str, Any]:
    """The inverse of :func:`seal`. Raises ``ValueError`` for anything damaged or of another format."""
    body = json.loads(content)
    sealed = isinstance(body, dict) and body.pop("seal", None) == sha256_of_json(body)
    if not sealed or body["format"] != FORMAT:
        raise ValueError("its checksum does not match")
    return body


def _read_shards(directory: Path) -> Iterator[Shard]:
    try:
        paths = sorted(path for path in directory.glob("*.json") if path.name != KEY_FILE)
    except OSError as error:
        logger.warning("The cached features in %s cannot be read: %s", directory, error)
        return
    for path in paths:
        try:
            body = unseal(path.read_bytes())
            yield Shard(path, tuple(body["images"]), body["checksum"])
        except FileNotFoundError:
            continue  # another process pruned it
        except OSError as error:
            logger.warning("The cached features in %s cannot be read: %s", path, error)
        except (ValueError, KeyError, TypeError) as error:
            _discard(path, f"damaged list of images: {error}")


def _open_array(shard: Shard, dim: int) -> np.ndarray | None:
    """The shard's array, memory-mapped and verified; None when it is gone or damaged."""
    try:
        array = np.load(shard.array_path, mmap_mode="r", allow_pickle=False)
        if array.shape != (len(shard.digests), dim) or array.dtype != np.float32:
            raise ValueError(f"{array.dtype} {array.shape} where ({len(shard.digests)}, {dim}) was expected")
        if sha256_of(np.ascontiguousarray(array).data) != shard.checksum:
            raise ValueError("its checksum does not match")
    except FileNotFoundError:
        if shard.path.exists():  # otherwise another process pruned the whole shard
            _discard(shard.path, "its array is missing")
        return None
    except (ValueError, OSError, EOFError) as error:
        _discard(shard.path, str(error))
        return None
    return array


def _discard(path: Path, why: str) -> None:
    logger.warning("Cached features are damaged and will be computed again: %s (%s)", path, why)
    for part in (path, path.with_suffix(".npy")):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
