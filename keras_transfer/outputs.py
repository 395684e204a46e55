"""What a command writes for its user, and the one rule that nothing of the user's is lost to it.

A file that is there already is replaced only where this tool wrote it and nobody has changed it since, or where the
user asks for it (``overwrite``). A file that the command reads is never replaced.

What was written is remembered in the cache by its path and SHA-256, so the rule holds for files of every format; where
nothing is remembered (another machine, another cache), the user is asked. Folders that appear whole (runs, bundles)
have rules of their own: :func:`keras_transfer.run.new_run`, :mod:`keras_transfer.export.folder`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_transfer.errors import UsageError
from keras_transfer.hashing import sha256_of, sha256_of_file
from keras_transfer.paths import atomic_write, cache_dir


class Outputs:
    """The files that one command writes.

    Args:
        inputs: what the command reads: files, and folders whose files it reads. Anything else (arrays, models) is
            passed over.
        overwrite: whether the user asked to replace what is there.
        option: how the user named the place, for messages.
    """

    def __init__(
        self, inputs: Iterable[Any] = (), *, overwrite: bool = False, option: str = "--output"
    ) -> None:
        paths = [Path(one).expanduser() for one in inputs if isinstance(one, (str, os.PathLike))]
        self._read = {_identity(path) for path in paths if path.is_file()}
        self._folders = [path.resolve() for path in paths if path.is_dir()]
        self._overwrite = overwrite
        self._option = option
        self._remembered: dict[Path, dict[str, str]] = {}

    def check(self, *paths: str | Path) -> None:
        """Whether these files may be written, before any work is done.

        Raises:
            UsageError: one is a folder, or a file that the command reads, or one that this tool did not write (or that
                was changed since) and ``overwrite`` was not given.
        """
        for path in map(Path, paths):
            if path.is_dir():
                raise UsageError(f"{path} is a folder; a file is expected. Choose another {self._option}.")
            if not path.exists():
                above = next(one for one in path.absolute().parents if one.exists())
                if not above.is_dir():
                    raise UsageError(
                        f"{above} is a file; a folder is expected. Choose another {self._option}."
                    )
                continue
            if _identity(path) in self._read:
                raise UsageError(
                    f"{path} is read by this command and is never replaced. Choose another {self._option}; "
                    "nothing was touched."
                )
            if self.is_ours(path):
                continue
            if any(folder in path.resolve().parents for folder in self._folders):
                raise UsageError(
                    f"{path} is among the files that this command reads and is never replaced. Choose another "
                    f"{self._option}; nothing was touched."
                )
            if not self._overwrite:
                raise UsageError(
                    f"{path} exists, and this tool did not write it, or it was changed since. Choose another "
                    f"{self._option}, or pass --overwrite; nothing was touched."
                )

    @contextlib.contextmanager
    def writing(self, path: str | Path) -> Iterator[Path]:
        """Check, let the block write the file, and remember it. Raises as :meth:`check` does."""
        path = Path(path)
        self.check(path)
        yield path
        self.remember(path)

    def write(self, path: str | Path, content: bytes | str) -> None:
        """Write a file whole or not at all, if it may be written. Raises as :meth:`check` does, and ``OSError``.

        Where the same content is there already, it stays.
        """
        content = content.encode("utf-8") if isinstance(content, str) else content
        path = Path(path)
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
        with self.writing(path):
            atomic_write(path, content)

    def has_written_in(self, folder: Path) -> bool:
        """Whether this tool has written anything directly in a folder, as far as the cache remembers."""
        return bool(self._memory(folder.resolve()))

    def is_ours(self, path: Path) -> bool:
        """Whether this tool wrote a file, and nobody has changed it since."""
        place = path.resolve()
        wanted = self._memory(place.parent).get(place.name)
        return wanted is not None and wanted == sha256_of_file(place)

    def _memory(self, folder: Path) -> dict[str, str]:
        if folder not in self._remembered:
            found: dict[str, str] = {}
            with contextlib.suppress(OSError):
                for line in _record(folder).read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):  # a line that was cut off: the file is not ours
                        name, sha256 = json.loads(line)
                        found[name] = sha256
            self._remembered[folder] = found
        return self._remembered[folder]

    def remember(self, path: Path) -> None:
        """Note that this tool wrote a file: what :meth:`writing` does by itself."""
        place = path.resolve()
        sha256 = sha256_of_file(place)
        if self._memory(place.parent).get(place.name) == sha256:
            return
        self._memory(place.parent)[place.name] = sha256
        record = _record(place.parent)
        with contextlib.suppress(OSError):  # without a cache the user is asked the next time
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps([place.name, sha256]) + "\n")


def _record(folder: Path) -> Path:
    name = sha256_of(os.fsencode(folder))[:32]
    return cache_dir() / "written" / f"{name}.jsonl"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
