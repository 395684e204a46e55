"""Where features are put: in memory, or, when they are more than that should hold, in a file that nobody else sees."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from keras_transfer.errors import CacheError

IN_MEMORY = 1 << 30
"""Bytes of a table of features that are held in memory; a larger one is a memory map of a file."""


def room_for(shape: tuple[int, int], folder: Path | None) -> np.ndarray:
    """float32 of this shape, to be filled.

    Args:
        shape: ``(N, D)``.
        folder: where a large table lies, on a disk with room for it; None: where temporary files do. The file has no
            name, and is gone with the array.

    Raises:
        CacheError: the disk is full, or cannot be written.
    """
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        why = (
            "is full"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else f"cannot be written: {error.strerror}"
        )
        raise CacheError(
            f"The features of {shape[0]} images take {size / 1e9:.1f} GB, and the disk of "
            f"{folder or tempfile.gettempdir()} {why}. Make room, or set KERAS_TRANSFER_CACHE to another disk."
        ) from error


def _reserve(descriptor: int, size: int) -> None:
    """Take the room now: a disk that fills up later would end the process when a page is written."""
    if not hasattr(os, "posix_fallocate"):
        os.ftruncate(descriptor, size)
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot promise room
            raise
        os.ftruncate(descriptor, size)
