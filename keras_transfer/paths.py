"""Where things live on disk, how a file is written so that it is whole or absent, and whether we may download."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """The cache's root: ``KERAS_TRANSFER_CACHE``, or the platform's user cache directory. Not created here."""
    given = os.environ.get("KERAS_TRANSFER_CACHE")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("keras_transfer", appauthor=False))


def offline() -> bool:
    """Whether ``KERAS_TRANSFER_OFFLINE`` forbids downloads (any value but empty, ``0``, ``false``, ``no``)."""
    return os.environ.get("KERAS_TRANSFER_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside ``path`` and rename it: readers see the old or the new file.

    Raises ``OSError`` (disk full, permission); the temporary file is gone then.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
