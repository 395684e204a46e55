"""What is packed in files (archives, shards) is unpacked once, into a folder of the cache named by their content.

    <cache>/sources/<digest>/files/...      what was inside
    <cache>/sources/<digest>/source.json    what it was, and how many files: written last

From there on it is a folder like any other. A folder without ``source.json``, or with fewer files than it says, is made
again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_transfer.errors import CacheError, DataError
from keras_transfer.hashing import sha256_of_file, sha256_of_json
from keras_transfer.paths import atomic_write, cache_dir, new_folder_beside, replace_folder
from keras_transfer.progress import track

FILES, RECORD = "files", "source.json"
_VERSION = 2  # raise it when a reader writes other files for the same content


def unpacked(files: Sequence[Path], names: Sequence[str], form: str, fill: Callable[[Path], None]) -> Path:
    """The folder with what these files hold; filled where it is not there yet, whole or not at all.

    Args:
        files: what is packed.
        names: what the files are called inside the source: they are part of the key, as they may name splits.
        form: ``archive`` or ``parquet``.
        fill: writes everything into an empty folder.

    Raises:
        DataError: a file cannot be read, or what ``fill`` raises. CacheError: the cache cannot be written.
    """
    try:
        digests = [sha256_of_file(path) for path in track(files, "Reading", total=len(files))]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}. Make it readable.") from error
    return unpacked_as(
        sha256_of_json([_VERSION, form, list(zip(names, digests, strict=True))]), names[0], fill
    )


def unpacked_as(digest: str, about: str, fill: Callable[[Path], None]) -> Path:
    """The same under a digest (64 hex digits) that the caller knows; ``about`` is for people."""
    folder = cache_dir() / "sources" / digest
    if _is_whole(folder):
        os.utime(folder / RECORD)
        return folder / FILES
    try:
        with new_folder_beside(folder) as partial:
            inside = partial / FILES
            inside.mkdir()
            fill(inside)
            count, size = _measure(inside)
            atomic_write(partial / RECORD, json.dumps({"about": about, "files": count, "bytes": size}))
            if not _is_whole(folder):  # another process may have been quicker
                replace_folder(partial, folder)
    except OSError as error:
        if _is_whole(folder):
            return folder / FILES
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or str(error)
        raise CacheError(
            f"{about} cannot be unpacked into {folder.parent}: {why}. Make room there, or choose another place "
            "(KERAS_TRANSFER_CACHE)."
        ) from error
    return folder / FILES


def _is_whole(folder: Path) -> bool:
    try:
        record = json.loads((folder / RECORD).read_bytes())
        return (record["files"], record["bytes"]) == _measure(folder / FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _measure(folder: Path) -> tuple[int, int]:
    """How many files are below a folder, and their bytes."""
    count = size = 0
    for above, _, names in os.walk(folder):
        for name in names:
            count += 1
            size += (Path(above) / name).stat().st_size
    return count, size
