"""The cache on disk: where things are, how much there is, and what goes first when it is too much.

    <root>/features/<key>/   features (features/shards.py)
    <root>/activations/      activations below a training's boundary (features/activation_files.py)
    <root>/litert/           converted backbones (features/converted.py)
    <root>/images/           images of sources that are not files (data/checking.py)
    <root>/sources/<key>/    archives and shards, unpacked (data/unpacking.py)
    <root>/checked/          hashes of images known to decode (data/checking.py)

Everything in it can be computed again and nothing holds an absolute path: the folder may be deleted, copied
or moved at any time. The root is ``KERAS_TRANSFER_CACHE`` or the platform's cache directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import CacheError, UsageError
from keras_transfer.features.shards import KEY_FILE, Collection
from keras_transfer.hashing import sha256_of_json
from keras_transfer.paths import cache_dir

logger = logging.getLogger("keras_transfer")

KINDS = ("features", "activations", "litert", "images", "sources", "checked", "indexes")
_RECORDED = ("features", "activations", "litert")  # kinds whose items are a .json and what it speaks for
_READ_LATER = ("images", "sources")  # kinds that a run which is going on may still read
DEFAULT_SIZE = "10GB"
_HOUR = 3600.0
_DAY = 24 * _HOUR
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_TEMPORARY = re.compile(r"^\.")  # what paths.atomic_write and the blob store name unfinished files


@dataclass(frozen=True)
class Item:
    """What is evicted as one: files that mean nothing without each other, when they were last used."""

    kind: str
    files: tuple[Path, ...]
    bytes: int
    used: float


class FeatureCache:
    """The cache at ``root`` (default: :func:`keras_transfer.paths.cache_dir`). Creates nothing by itself."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_dir() if root is None else Path(root)

    def collection(self, key: Mapping[str, Any], about: Mapping[str, Any]) -> Collection:
        """The features stored under ``key``, JSON-able: everything they depend on. ``about`` is for people."""
        return Collection(self.root / "features" / cache_key(key), key, about)

    def entries(self) -> list[dict[str, Any]]:
        """What is there, as JSON-able rows.

        ``kind``, ``name`` (folder or file), ``summary`` (backbone, size, engine), ``images`` (how many, or
        None), ``bytes``, ``last_used`` (ISO 8601, UTC).
        """
        rows = []
        for kind in KINDS:
            groups: dict[str, list[Item]] = {}
            for item in self._items([kind]):
                relative = item.files[0].relative_to(self.root / kind)
                name = (
                    relative.parts[0] if kind == "features" else relative.stem if kind in _RECORDED else kind
                )
                groups.setdefault(name, []).append(item)
            rows += [self._entry(kind, name, items) for name, items in sorted(groups.items())]
        return rows

    def _entry(self, kind: str, name: str, items: list[Item]) -> dict[str, Any]:
        used = datetime.fromtimestamp(max(item.used for item in items), UTC)
        images: int | None = None
        summary = {
            "images": "images of TFDS and tf.data sources",
            "sources": "unpacked archives and shards",
            "checked": "hashes of sound images",
            "indexes": "search indexes of large galleries",
        }.get(kind, "")
        if kind == "features":
            collection = Collection(self.root / kind / name, {}, {})
            images = len({digest for shard in collection.shards() for digest in shard.digests})
            summary = _summary(collection.directory / KEY_FILE)
        elif kind in _RECORDED:
            summary, images = _summary(items[0].files[0]), _count(items[0].files[0])
        elif kind == "images":
            images = len(items)
        return {
            "kind": kind,
            "name": name,
            "summary": summary,
            "images": images,
            "bytes": sum(item.bytes for item in items),
            "last_used": used.isoformat(timespec="seconds"),
        }

    def total_bytes(self) -> int:
        """Bytes of all files, unfinished ones included."""
        return sum(_size(path) for kind in KINDS for path in _walk(self.root / kind))

    def prune(self, max_bytes: int | None = None, older_than_days: float | None = None) -> int:
        """Remove what crashed processes left, then what is old, then what was used least recently.

        Args:
            max_bytes: keep at most this much; default: ``KERAS_TRANSFER_CACHE_SIZE`` or 10 GB.
            older_than_days: also remove everything not used for so long.

        Returns:
            Bytes freed.

        Raises:
            UsageError: a negative limit.
            CacheError: a file cannot be removed.
        """
        limit = size_limit() if max_bytes is None else max_bytes
        if limit < 0 or (older_than_days or 0) < 0:
            raise UsageError("The cache's size and age limits must not be negative.")
        freed = self._remove_leftovers()
        items = sorted(self._items(KINDS), key=lambda item: item.used)
        total = self.total_bytes()
        oldest = -1.0 if older_than_days is None else time.time() - older_than_days * _DAY
        for item in items:
            if item.used > oldest and total <= limit:
                break
            total -= _remove(item.files)
            freed += item.bytes
        self._remove_empty(_HOUR)
        return freed

    def clear(self) -> int:
        """Remove everything. Returns the bytes freed. Raises ``CacheError`` when a file cannot be removed."""
        freed = 0
        for kind in KINDS:
            freed += _remove(_walk(self.root / kind))
        self._remove_empty(0)
        return freed

    def enforce_limit(self, keep: Iterable[Path] = ()) -> int:
        """Make room after writing: the least recently used goes first, never what is in ``keep``.

        Images of the last day stay as well: a run that is still going on reads them. Returns bytes freed.
        A file that cannot be removed is left for the next time.
        """
        limit, total = size_limit(), self.total_bytes()
        if total <= limit:
            return 0
        freed, kept, recent = self._remove_leftovers(), set(keep), time.time() - _DAY
        for item in sorted(self._items(KINDS), key=lambda item: item.used):
            if total - freed <= limit:
                break
            if kept.isdisjoint(item.files) and not (item.kind in _READ_LATER and item.used > recent):
                with contextlib.suppress(CacheError):
                    freed += _remove(item.files)
        if freed:
            logger.info("The cache was over %d bytes; the least recently used %d are gone.", limit, freed)
        return freed

    def _items(self, kinds: Iterable[str]) -> Iterator[Item]:
        for kind in kinds:
            if kind == "sources":
                yield from self._sources()
                continue
            for path in _walk(self.root / kind):
                if _TEMPORARY.match(path.name) or path.name == KEY_FILE:
                    continue
                files: tuple[Path, ...] = (path,)
                if kind in _RECORDED:
                    if path.suffix != ".json":
                        continue  # belongs to its .json
                    others = [path.with_suffix(".npy")]
                    if kind != "features":
                        others = list(path.parent.glob(f"{path.stem}-*"))
                    files = (path, *others)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                # Shards and models are touched when they are used. Images are not: most systems note reading.
                used = max(status.st_mtime, status.st_atime) if kind == "images" else status.st_mtime
                yield Item(kind, files, sum(_size(file) for file in files), used)

    def _sources(self) -> Iterator[Item]:
        """Unpacked folders; the record goes first, so that a folder without it is never believed."""
        for record in sorted((self.root / "sources").glob("[!.]*/source.json")):
            others = [path for path in _walk(record.parent) if path != record]
            with contextlib.suppress(FileNotFoundError):
                used = record.stat().st_mtime
                yield Item("sources", (record, *others), sum(map(_size, (record, *others))), used)

    def _remove_leftovers(self) -> int:
        """Unfinished files, and arrays or models whose ``.json`` never came, when older than an hour."""
        freed, before = 0, time.time() - _HOUR
        for kind in KINDS:
            for path in list(self._unfinished() if kind == "sources" else _walk(self.root / kind)):
                owner = path.with_name(f"{path.stem.partition('-')[0]}.json")
                orphan = kind in _RECORDED and path.suffix != ".json" and not owner.exists()
                with contextlib.suppress(OSError):
                    if (
                        orphan or kind == "sources" or _TEMPORARY.match(path.name)
                    ) and path.stat().st_mtime < before:
                        freed += _remove([path])
        return freed

    def _unfinished(self) -> Iterator[Path]:
        """The files of sources that are being unpacked, or were when a process died."""
        for folder in (self.root / "sources").glob("*"):
            if folder.is_dir() and not (folder / "source.json").exists():
                files = list(_walk(folder))
                if max(map(_written, files), default=0.0) < time.time() - _HOUR:
                    yield from files

    def _remove_empty(self, age: float) -> None:
        """Folders without anything (but a ``key.json``) go, unless a process may be about to fill them."""
        before = time.time() - age
        for kind in KINDS:
            folders = [path for path in (self.root / kind).rglob("*") if path.is_dir()]
            for folder in sorted(folders, reverse=True):
                with contextlib.suppress(OSError):
                    if folder.stat().st_mtime > before:
                        continue
                    if [path.name for path in folder.iterdir()] == [KEY_FILE]:
                        (folder / KEY_FILE).unlink()
                    folder.rmdir()  # refuses when something is in it


class Writer:
    """Commits features shard by shard; when the disk refuses, says so once and lets the work go on.

    Args:
        cache: its size limit is enforced after writing.
        collection: where the shards go; None: nowhere.
    """

    def __init__(self, cache: FeatureCache, collection: Collection | None) -> None:
        self._cache = cache
        self._collection = collection
        self._written: list[Path] = []
        self._room: int | None = None

    def write(self, digests: Sequence[str], values: np.ndarray) -> None:
        """Commit features (n, D) of these images."""
        if self._collection is None or not len(digests):
            return
        try:
            path = self._collection.write(digests, values)
        except OSError as error:
            logger.warning("%s The features are computed but not kept.", refusal(self._cache, error))
            self._collection = None
            return
        self._written += [path, path.with_suffix(".npy")]
        if self._room is None:
            self._room = size_limit() - self._cache.total_bytes()
        else:
            self._room -= sum(_size(file) for file in self._written[-2:])
        if self._room < 0:
            self._cache.enforce_limit(keep=self._written)
            self._room = None


def refusal(cache: FeatureCache, error: OSError) -> str:
    """What to say when the cache cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space, or run `keras-transfer cache prune`"
    else:
        why = f"{error.strerror or error}"
    return f"The cache {cache.root} cannot be written: {why} (KERAS_TRANSFER_CACHE chooses another place)."


def size_limit() -> int:
    """The cache's size limit in bytes: ``KERAS_TRANSFER_CACHE_SIZE`` (``500MB``, ``10 GB``), default 10 GB."""
    return parse_size(os.environ.get("KERAS_TRANSFER_CACHE_SIZE") or DEFAULT_SIZE)


def parse_size(text: str) -> int:
    """``"1.5GB"`` to bytes (decimal units). Raises ``UsageError``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if not match:
        raise UsageError(f"The cache size {text!r} is not understood; expected something like 500MB or 10GB.")
    return int(float(match[1]) * _UNITS[match[2]])


def _summary(path: Path) -> str:
    """One line on what a key file or a converted backbone's record is about: its values, in order."""
    try:
        about = json.loads(path.read_bytes())["about"]
        return " ".join(str(value) for value in about.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "unknown"


def _count(path: Path) -> int | None:
    """How many images a record says it is about; None where it says nothing."""
    try:
        return int(json.loads(path.read_bytes())["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent) / name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(files: Iterable[Path]) -> int:
    """Delete files; what another process deleted first is fine. Returns the bytes freed."""
    freed = 0
    for path in files:
        size = _size(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(
                f"{path} cannot be removed: {error.strerror}. Check the folder's owner."
            ) from error
        freed += size
    return freed


def cache_key(depends_on: Mapping[str, Any]) -> str:
    """The name, 32 hex digits, of what depends on all of this (JSON-able)."""
    return sha256_of_json(depends_on)[:32]


def entries() -> list[dict[str, Any]]:
    """:meth:`FeatureCache.entries` of the default cache."""
    return FeatureCache().entries()


def prune(max_bytes: int | None = None, older_than_days: float | None = None) -> int:
    """:meth:`FeatureCache.prune` of the default cache."""
    return FeatureCache().prune(max_bytes, older_than_days)


def clear() -> int:
    """:meth:`FeatureCache.clear` of the default cache."""
    return FeatureCache().clear()
