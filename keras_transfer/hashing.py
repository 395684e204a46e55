"""SHA-256, in hexadecimal, of what this package writes, reads and compares. An array's is that of its ``tobytes()``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def sha256_of(content: bytes | memoryview) -> str:
    """64 hex digits over bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_parts(parts: Iterable[bytes | memoryview]) -> str:
    """64 hex digits over bytes that come one after another: what :func:`sha256_of` gives for all of them joined."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """64 hex digits over the JSON text of a value, keys sorted. Raises ``TypeError`` for what JSON does not know."""
    return sha256_of(json.dumps(value, sort_keys=True).encode())


def sha256_of_file(path: Path) -> str:
    """64 hex digits over a file's content, which is read in blocks. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file or a folder. Raises ``OSError``.

    A folder's is taken over the lines ``<sha256 of the file>  <relative POSIX path>\\n`` of its files, sorted by
    path: what ``sha256sum`` prints for them.
    """
    if path.is_file():
        return path.stat().st_size, sha256_of_file(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    lines = [f"{sha256_of_file(files[name])}  {name}\n" for name in sorted(files)]
    return sum(file.stat().st_size for file in files.values()), sha256_of("".join(lines).encode("utf-8"))
