"""Zip and tar files: what is inside becomes a folder (``unpacking``), and nothing is written outside it."""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keras_transfer.data.folder import is_hidden
from keras_transfer.data.split_names import split_of
from keras_transfer.data.unpacking import unpacked
from keras_transfer.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", *TAR_SUFFIXES)
_BLOCK = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name."""
    return name.lower().endswith(SUFFIXES)


def is_tar(name: str) -> bool:
    """Whether a file is a tar, compressed or not, by its name."""
    return name.lower().endswith(TAR_SUFFIXES)


def unpack_archive(path: Path) -> Path:
    """The folder with an archive's files; a folder around all of them is left out.

    Raises:
        DataError: damaged, cut off, encrypted, larger than the disk, or a member that would lie outside.
        CacheError: the cache cannot be written.
    """
    return _inner(unpacked([path], [path.name], "archive", lambda folder: extract(path, folder)))


def extract(path: Path, folder: Path) -> None:
    """Write an archive's files into a folder; hidden files, links and devices are passed over.

    Raises ``DataError`` as :func:`unpack_archive`, ``OSError`` where it cannot be written.
    """
    try:
        for name, file in _zip(path, folder) if path.suffix.lower() == ".zip" else _tar(path, folder):
            parts = _inside(name, path)
            if not parts or any(is_hidden(part) for part in parts):
                continue
            target = folder.joinpath(*parts)
            if target.exists():
                raise DataError(f"{path} holds {name} twice. Pack it again with each file once.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(file, out, _BLOCK)
    except (*_DAMAGE, FileExistsError, NotADirectoryError) as error:  # one member's name is another's folder
        raise DataError(_damaged(path, " ".join(str(error).split()) or type(error).__name__)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(_damaged(path, " ".join(str(error).split()))) from error  # gzip's and bz2's own


def _inside(name: str, path: Path) -> list[str]:
    """The parts of a member's name; ``DataError`` where it would lie outside the folder."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or _DRIVE.match(name) or "\0" in name:
        raise DataError(
            f"{path} holds the member {name!r}, which would be written outside its folder. Nothing was unpacked: do "
            "not trust this archive, or pack it again with relative paths."
        )
    return [part for part in parts if part not in ("", ".")]


def _zip(path: Path, folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            _inside(member.filename, path)
            if member.flag_bits & 1:
                raise DataError(f"{path} is encrypted ({member.filename}). Unpack it and give the folder.")
        _require_room(path, folder, sum(member.file_size for member in members))
        for member in members:
            with archive.open(member) as file:
                yield member.filename, file


def _require_room(path: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{path} holds {size} bytes, and {free} are free where it would be unpacked ({folder.parents[1]}). Make "
            "room, or choose another place (KERAS_TRANSFER_CACHE)."
        )


def _tar(path: Path, folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                _require_room(path, folder, member.size)
                yield member.name, file
            elif not member.isfile():
                _inside(member.name, path)
        _require_end(archive)


def _require_end(archive: tarfile.TarFile) -> None:
    """A tar that is cut off between two members reads like a shorter one, but for the empty block at its end."""
    file = archive.fileobj
    if file is None:
        return
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while file.read(_BLOCK):  # what compresses keeps its checksum at the very end
        pass


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged or cut off ({reason}). Copy or download it again."


def _inner(folder: Path) -> Path:
    """Below a single folder around everything, which is a habit of those who pack, no class."""
    while True:
        children = [child for child in folder.iterdir() if not is_hidden(child.name)]
        if len(children) != 1 or not children[0].is_dir() or split_of(children[0].name):
            return folder
        if not any(child.is_dir() for child in children[0].iterdir()) and not any(
            child.suffix.lower() in (".csv", ".json", ".jsonl", ".xml", ".parquet")
            for child in children[0].iterdir()
        ):
            return folder
        folder = children[0]
