"""Where things live on disk, how a file or folder is written so that it is whole or absent, and may we download."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
    with atomic_open(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """The same for a file that the block writes: it appears when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


@contextlib.contextmanager
def new_folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target``, to be filled and given to :func:`replace_folder`.

    Whatever is still there when the block ends, with or without an error, is removed. Raises ``OSError``.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        partial.chmod(0o777 & ~_umask())
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Give a finished folder its name. What is there is removed once the new folder stands, and not before.

    After an error or an interruption the earlier folder has its place again. Raises ``OSError``.

    Args:
        new: on the same disk as ``target``.
        target: a folder, or nothing yet.
    """
    if not target.exists():
        new.rename(target)
        return
    attic = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    old = attic / target.name
    try:
        target.rename(old)
        try:
            new.rename(target)
        except BaseException:  # an interruption too: the earlier folder keeps its place
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # never with anything in it
            attic.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
