"""Sources that lie elsewhere: ``https://.../photos.zip``, ``s3://bucket/photos``, ``gs://...``, through ``fsspec``.

They are copied once into the cache, under what the store says of their content (sizes, tags, times), whole or not at
all. From there on they are files and folders like any other.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from keras_transfer.data.folder import is_hidden
from keras_transfer.data.threads import ordered_map
from keras_transfer.data.unpacking import FILES, unpacked_as
from keras_transfer.errors import DataError, OfflineError, UsageError
from keras_transfer.hashing import sha256_of, sha256_of_json
from keras_transfer.paths import atomic_write, cache_dir, offline
from keras_transfer.progress import track

logger = logging.getLogger("keras_transfer")

T = TypeVar("T")
TRIES = 4
WAIT = 1.0
"""Seconds before the second try; twice as long before each one after it."""
_THREADS = 8
_BLOCK = 1 << 20
_TIMEOUT = 60.0
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_HERE = ("memory://", "file://", "local://")
"""What is on this machine: ``KERAS_TRANSFER_OFFLINE`` does not forbid it."""
_WITH_IMAGES = (".csv", ".tsv", ".json", ".jsonl", ".xml")
"""Files that speak of images beside them: the whole folder is copied."""


class _Lost(Exception):
    """A connection was lost, or a store asks to come back later."""


def is_remote(source: str) -> bool:
    """Whether a source is an address (``SCHEME://...``) and no path."""
    return bool(_ADDRESS.match(source))


def local_copy(source: str | os.PathLike[str]) -> Path:
    """The path itself; of an address, the path of its copy in the cache, which is made or brought up to date.

    Raises:
        UsageError: nothing is there, or a package for this kind of address is missing.
        OfflineError: ``KERAS_TRANSFER_OFFLINE`` forbids it, and there is no copy.
        DataError: refused, or the connection was lost several times. CacheError: the cache cannot be written.
    """
    address = os.fspath(source)
    if not is_remote(address):
        return Path(address)
    note = cache_dir() / "sources" / f"{sha256_of(address.encode())}.json"
    if offline() and not address.startswith(_HERE):
        return _known_copy(note, address)
    web = address.startswith(("https://", "http://"))
    folder, inside = _from_web(address) if web else _from_store(address)
    with contextlib.suppress(OSError):
        atomic_write(note, json.dumps({"folder": folder.parent.name, "inside": inside}))
    return folder / inside if inside else folder


def _known_copy(note: Path, address: str) -> Path:
    try:
        told = json.loads(note.read_bytes())
        path = note.parent / told["folder"] / FILES / told["inside"]
        if path.exists():
            return path
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise OfflineError(
        f"{address} has not been copied to this machine, and downloads are forbidden (KERAS_TRANSFER_OFFLINE). Copy it "
        "by hand and give the path, or allow the download once."
    )


def _tried(what: str, attempt: Callable[[], T]) -> T:
    """What ``attempt`` gives, after a few tries where the connection is lost; then a ``DataError``."""
    for number in range(TRIES):
        try:
            return attempt()
        except _Lost as error:
            reason = str(error)
            logger.info("%s: %s (try %d of %d)", what, reason, number + 1, TRIES)
            if number + 1 < TRIES:
                time.sleep(WAIT * 2**number)
    raise DataError(
        f"{what} could not be copied: in {TRIES} tries the connection was lost, at last with {reason!r}. Nothing was "
        "kept. Try again later, or copy it by hand and give the path."
    )


# --- a file from a web server ---


@dataclass(frozen=True)
class _Answer:
    """What a server says of a file before it sends it."""

    size: int | None
    tag: str | None


def _from_web(address: str) -> tuple[Path, str]:
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name
    if not name or PurePosixPath(name).suffix.lower() in ("", *_WITH_IMAGES):
        raise UsageError(
            f"{address} names no archive. Of a web server one file is read: .zip, .tar (or .tar.gz, ...), or .parquet."
        )
    answer = _tried(address, lambda: _head(address))

    def fill(folder: Path) -> None:
        _download(address, folder / name, answer)

    # A server that tells nothing of the content is asked again each time.
    key = ["web", address, answer.size, answer.tag or time.time_ns()]
    return unpacked_as(sha256_of_json(key), address, fill), name


def _head(address: str) -> _Answer:
    with _asked(address, {}) as response:
        size, headers = response.headers.get("Content-Length"), response.headers
        return _Answer(int(size) if size else None, headers.get("ETag") or headers.get("Last-Modified"))


def _download(address: str, path: Path, answer: _Answer) -> None:
    """Write a file; after a loss it goes on where it stopped, as far as the server can."""

    def attempt() -> None:
        have = path.stat().st_size if path.exists() else 0
        wanted = {"Range": f"bytes={have}-", "If-Range": answer.tag} if have and answer.tag else {}
        with _asked(address, wanted) as response, path.open("ab" if response.status == 206 else "wb") as file:
            while block := _read(response):
                file.write(block)
        got = path.stat().st_size
        if answer.size is not None and got != answer.size:
            raise _Lost(f"{got} of {answer.size} bytes")

    _tried(address, attempt)


def _read(response: Any) -> bytes:
    """The next part of an answer. What goes wrong here is the connection, never the disk."""
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(_short(error)) from error


@contextlib.contextmanager
def _asked(address: str, headers: dict[str, str]) -> Iterator[Any]:
    request = urllib.request.Request(address, headers={"User-Agent": "keras-transfer", **headers})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code in (408, 429) or error.code >= 500:
            raise _Lost(f"{error.code} {error.reason}") from error
        raise DataError(
            f"{address} is refused by its server: {error.code} {error.reason}. Check the address."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(_short(error)) from error
    except ValueError as error:
        raise UsageError(f"{address} is no address: {error}.") from error
    with response:
        yield response


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__


# --- a file or a tree from any store that fsspec knows ---


def _from_store(address: str) -> tuple[Path, str]:
    store, base = _store(address)
    info = _tried(address, lambda: _of_store(address, lambda: store.info(base)))
    alone = PurePosixPath(str(info["name"])).name if info["type"] == "file" else ""
    if alone.lower().endswith(_WITH_IMAGES):
        folder, _ = _from_store(address.rpartition("/")[0])
        return folder, alone
    infos = {alone: info} if alone else _tree(address, store, base)

    def one(name: str, folder: Path) -> None:
        path = folder.joinpath(*name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        what = f"{address}/{name}" if name != alone else address

        def attempt() -> None:
            _of_store(what, lambda: store.get_file(infos[name]["name"], str(path)))
            got, size = path.stat().st_size, infos[name].get("size")
            if size is not None and got != size:
                raise _Lost(f"{got} of {size} bytes")

        _tried(what, attempt)

    def fill(folder: Path) -> None:
        copied = ordered_map(
            lambda name: one(name, folder), sorted(infos), threads=_THREADS, ahead=2 * _THREADS
        )
        with contextlib.closing(copied):
            for _ in track(copied, f"Copying {address}", total=len(infos)):
                pass

    told = [(name, sorted((key, str(value)) for key, value in infos[name].items())) for name in sorted(infos)]
    return unpacked_as(sha256_of_json(["store", address, told]), address, fill), alone


def _store(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{address} needs fsspec: pip install 'keras-transfer[remote]'.") from error
    try:
        store, base = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{address}: {_short(error)}. pip install 'keras-transfer[remote]'.") from error
    except ValueError as error:
        raise UsageError(f"{address} is no address that can be read: {_short(error)}.") from error
    return store, base


def _tree(address: str, store: Any, base: str) -> dict[str, dict[str, Any]]:
    """{name relative to the address: what the store says of it} of all visible files."""
    found = _tried(address, lambda: _of_store(address, lambda: store.find(base, detail=True)))
    start = str(base).strip("/")
    infos = {}
    for full, info in found.items():
        name = str(full).strip("/").removeprefix(start).strip("/")
        parts = name.split("/")
        if ".." in parts or any(is_hidden(part) for part in parts) or info.get("type") != "file":
            continue
        infos[name] = info
    if not infos:
        raise UsageError(f"There are no files below {address}. Check the address.")
    return infos


def _of_store(what: str, ask: Callable[[], T]) -> T:
    """What a store answers, its errors in our words."""
    try:
        return ask()
    except FileNotFoundError as error:
        raise UsageError(f"There is nothing at {what}. Check the address.") from error
    except PermissionError as error:
        raise DataError(
            f"{what} may not be read ({_short(error)}). Check the credentials of this machine."
        ) from error
    except (OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the disk here, and no connection
        raise _Lost(_short(error)) from error
    except Exception as error:
        raise _Lost(f"{type(error).__name__}: {_short(error)}") from error
