"""The folder that results go to, on any filesystem that fsspec knows; a file in it is whole or absent."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from keras_transfer.errors import UsageError
from keras_transfer.paths import atomic_open


class Store:
    """A folder, by its path or address. Nothing is created before the first write.

    Attributes:
        address: as every process of every machine finds it.
        shown: as the user gave it, for messages.
        folder: the path, where it is on this machine's disks; else None.

    Raises:
        UsageError: an address that cannot be used, or whose package is missing.
    """

    def __init__(self, address: str) -> None:
        self.shown = address
        try:
            self._fs, base = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise UsageError(
                f"{address}: {error}. Install the package it names (for s3: pip install 'keras-transfer-ray[s3]')."
            ) from error
        except ValueError as error:
            raise UsageError(f"{address} is no address that can be written: {error}.") from error
        self._base = str(base).rstrip("/") or "/"
        protocol = self._fs.protocol if isinstance(self._fs.protocol, str) else self._fs.protocol[0]
        self.folder = Path(self._base) if protocol in ("file", "local") else None
        self.address = f"file://{self._base}" if self.folder else address
        if protocol == "memory":
            raise UsageError(
                f"{address} is the memory of one process, and workers are others. Give a folder or an address that "
                "every machine reaches, such as s3://BUCKET/FOLDER."
            )

    def write(self, name: str, content: bytes) -> None:
        """A file, under a temporary name first. Raises ``OSError``; nothing half-written has the name then."""
        with self.writing(name) as file:
            file.write(content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """The same for a file that the block writes."""
        if self.folder is not None:
            with atomic_open(self.folder / name) as file:
                yield file
            return
        parent, _, last = self._at(name).rpartition("/")
        temporary = f"{parent}/.{last}.{uuid.uuid4().hex}"
        self._fs.makedirs(parent, exist_ok=True)
        try:
            with self._fs.open(temporary, "wb") as file:
                yield file
            self._fs.mv(temporary, self._at(name))
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm(temporary)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """A file that nobody has made yet; whether it was made now. Raises ``OSError``."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with (self.folder / name).open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except FileExistsError:
                return False
            return True
        self._fs.makedirs(self._base, exist_ok=True)
        try:
            self._fs.pipe_file(self._at(name), content, mode="create")
        except FileExistsError:
            return False
        except (TypeError, ValueError, NotImplementedError):  # a filesystem that cannot promise it
            if self.exists(name):
                return False
            self._fs.pipe_file(self._at(name), content)
        return True

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises ``FileNotFoundError`` and ``OSError``."""
        content: Any = self._fs.cat_file(self._at(name))
        return bytes(content)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name now."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._at(name)))

    def names(self, folder: str = "") -> list[str]:
        """The names of what is in a folder, sorted; none where it is not there."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._at(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({str(one).rstrip("/").rpartition("/")[2] for one in found} - {""})

    def remove(self, name: str) -> None:
        """A file goes, if it is there. Raises ``OSError``."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base
