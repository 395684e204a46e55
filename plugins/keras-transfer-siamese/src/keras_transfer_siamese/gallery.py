"""The gallery: embeddings of named images in one SQLite file, bound to the model they are from.

Enrolling adds rows and trains nothing. Several processes may read and write at once: writing is a transaction that
waits for others, and one that is killed leaves the file as it was before. Every row has a checksum.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import sqlite3
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from keras_transfer.data.labels import same_name_key
from keras_transfer.errors import DataError, UsageError, require_utf8
from keras_transfer.preprocessing import Preprocessing
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.identity import Identity, mixing

log = logging.getLogger("keras_transfer")

SCHEMA = 1
APPLICATION = 0x4B545347
"""``KTSG``, in the file's header: what tells a gallery from other SQLite files."""
PATIENCE = 30.0
"""Seconds to wait for another process that writes."""
LONGEST_NAME = 200

_TABLES = (
    "CREATE TABLE gallery (binding TEXT NOT NULL, checksum INTEGER NOT NULL, created TEXT NOT NULL, model_path TEXT)",
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, name TEXT NOT NULL, key TEXT NOT NULL, file TEXT NOT NULL, "
    "sha256 TEXT NOT NULL, embedding BLOB NOT NULL, checksum INTEGER NOT NULL, created TEXT NOT NULL, "
    "UNIQUE (name, sha256))",
    "CREATE INDEX by_key ON entries (key)",
    "CREATE INDEX by_image ON entries (sha256)",
)


@dataclass(frozen=True, eq=False)
class Binding:
    """What all embeddings of a gallery have in common.

    Attributes:
        identity: of the model.
        preprocessing: from a file to its pixels.
        comparison: how embeddings are compared, with the threshold.
        dimension: numbers in an embedding.
    """

    identity: Identity
    preprocessing: Preprocessing
    comparison: Comparison
    dimension: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "identity": self.identity.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "comparison": self.comparison.to_dict(),
            "dimension": self.dimension,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Binding:
        """What :meth:`to_dict` gave. Raises ``DataError`` where it is no such dictionary."""
        try:
            return cls(
                Identity.from_dict(values["identity"]),
                Preprocessing.from_dict(values["preprocessing"]),
                Comparison.from_dict(values["comparison"]),
                int(values["dimension"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise DataError(f"This binds no gallery: {problem}.") from problem


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that is enrolled: its file's name without folders, its SHA-256, its embedding float32 ``(D,)``."""

    file: str
    sha256: str
    embedding: np.ndarray


@dataclass(frozen=True, eq=False)
class Entries:
    """All that is enrolled, in the order it was: names, files, hashes, times, and embeddings float32 ``(n, D)``."""

    names: tuple[str, ...]
    files: tuple[str, ...]
    sha256: tuple[str, ...]
    created: tuple[str, ...]
    embeddings: np.ndarray


class Gallery:
    """An open gallery; a context manager that closes it. Made by :func:`create_gallery` and :func:`open_gallery`.

    Attributes:
        path: the file.
        binding: model, preprocessing and comparison.
        model_path: where the model was when the gallery was made, None where it is not told.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection
        with told(path):
            self.binding, self.model_path = _read_binding(path, connection)

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def names(self) -> dict[str, int]:
        """How many images each name has, sorted by name."""
        with told(self.path):
            rows = self._connection.execute("SELECT name, COUNT(*) FROM entries GROUP BY name ORDER BY name")
            return dict(rows.fetchall())

    def images_of(self, name: str) -> set[str]:
        """SHA-256 of the images of a name."""
        with told(self.path):
            rows = self._connection.execute("SELECT sha256 FROM entries WHERE name = ?", (proper_name(name),))
            return {sha256 for (sha256,) in rows}

    def check_new(self, name: str, add: bool) -> str:
        """Whether images may be enrolled under ``name``; returns it in the form that is kept.

        Raises:
            UsageError: the name cannot be kept.
            DataError: it is enrolled and ``add`` was not given, or one that differs in case or Unicode form alone is.
        """
        name = proper_name(name)
        with told(self.path):
            rows = self._connection.execute(
                "SELECT name, COUNT(*) FROM entries WHERE key = ? GROUP BY name", (same_name_key(name),)
            )
            known = dict(rows.fetchall())
        others = [other for other in known if other != name]
        if others:
            raise DataError(
                f"{name!a} differs from the enrolled {others[0]!a} in upper and lower case or Unicode form alone. "
                "Use that name, or a clearly different one."
            )
        if name in known and not add:
            raise DataError(
                f"{name!r} is already enrolled with {known[name]} images. Add to them with --add, or `siamese gallery "
                "remove` the name first."
            )
        return name

    def enroll(self, name: str, pictures: Sequence[Picture], *, add: bool = False) -> int:
        """Enrol images under a name: all of them, or none when anything is wrong.

        An image that the name has already is passed over; one that another name has is enrolled, with a warning.

        Args:
            name: of the person or thing; kept in Unicode form NFC.
            pictures: at least one.
            add: the name may be enrolled already.

        Returns:
            How many were new.

        Raises:
            UsageError: no picture, or a name that cannot be kept (empty, too long, with control characters).
            DataError: see :meth:`check_new`; embeddings that are not finite, or of another size; the disk refuses.
        """
        if not pictures:
            raise UsageError(f"No image was given for {name!r}; one at least is expected.")
        for picture in pictures:
            _check_embedding(picture, self.binding)
        created = _now()
        with self._writing():
            name = self.check_new(name, add)
            added = 0
            for picture in pictures:
                values = np.ascontiguousarray(picture.embedding, "<f4").tobytes()
                file = _storable(Path(picture.file).name)
                checksum = _checksum(name, file, picture.sha256, created, values)
                row = self._connection.execute(
                    "INSERT INTO entries (name, key, file, sha256, embedding, checksum, created) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name, sha256) DO NOTHING",
                    (name, same_name_key(name), file, picture.sha256, values, checksum, created),
                )
                added += row.rowcount
                self._warn_of_others(name, picture)
        return added

    def remove(self, *names: str) -> dict[str, int]:
        """Remove names, all or none; their embeddings are overwritten in the file, too.

        Returns:
            How many images each had.

        Raises:
            UsageError: a name is not enrolled; those nearby are told.
        """
        proper = dict.fromkeys(proper_name(name) for name in names)
        with self._writing():
            known = self.names()
            for name in proper:
                if name not in known:
                    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
                    raise UsageError(
                        f"{name!r} is not enrolled.{hint} `siamese gallery list` shows the names; nothing was removed."
                    )
                self._connection.execute("DELETE FROM entries WHERE name = ?", (name,))
        return {name: known[name] for name in proper}

    def note_model(self, path: Path | None) -> None:
        """Remember where the model is now, when it is no longer where it was."""
        if path is None or (self.model_path is not None and self.model_path.exists()):
            return
        self.model_path = path.absolute()
        with self._writing():
            self._connection.execute("UPDATE gallery SET model_path = ?", (_storable(str(self.model_path)),))

    def entries(self) -> Entries:
        """Everything, each row checked. Raises ``DataError`` that names the first that is damaged."""
        size = self.binding.dimension
        names, files, digests, created = [], [], [], []
        with told(self.path), self._reading():
            (count,) = self._connection.execute("SELECT COUNT(*) FROM entries").fetchone()
            embeddings = np.empty((count, size), np.float32)
            rows = self._connection.execute(
                "SELECT name, file, sha256, created, embedding, checksum FROM entries ORDER BY id"
            )
            for place, (name, file, sha256, when, values, checksum) in enumerate(rows):
                whole = isinstance(values, bytes) and len(values) == 4 * size
                if not whole or _checksum(name, file, sha256, when, values) != checksum:
                    raise damaged(self.path, f"an embedding of {name!r} is not what was written")
                embeddings[place] = np.frombuffer(values, "<f4")
                names.append(name)
                files.append(file)
                digests.append(sha256)
                created.append(when)
        return Entries(tuple(names), tuple(files), tuple(digests), tuple(created), embeddings)

    def copy(self, target: Path) -> None:
        """Write the gallery as it is now to a new file, without the place of the model on this machine."""
        with told(self.path):
            self._connection.execute("VACUUM INTO ?", (str(target),))
        with contextlib.closing(_connect(target, "rw")) as copied, told(target):
            copied.execute("UPDATE gallery SET model_path = NULL")
            copied.execute("VACUUM")  # nothing of the path stays in what is free

    def _warn_of_others(self, name: str, picture: Picture) -> None:
        rows = self._connection.execute(
            "SELECT DISTINCT name FROM entries WHERE sha256 = ? AND name <> ? ORDER BY name",
            (picture.sha256, name),
        )
        others = [other for (other,) in rows]
        if others:
            log.warning(
                "%s is enrolled as %s, and now as %s, too: it will match both alike.",
                picture.file,
                ", ".join(map(repr, others)),
                repr(name),
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that waits for those of others; all of it happens, or nothing."""
        with told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """What is read in here is of one moment."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")


def create_gallery(path: str | os.PathLike[str], binding: Binding, model_path: Path | None = None) -> Gallery:
    """Make an empty gallery. Another process that makes the same one at the same moment is no error.

    Args:
        path: of the file; its folder is made.
        binding: what its embeddings have in common.
        model_path: where the model is, so that it need not be given again.

    Raises:
        UsageError: something else is there.
        DataError: the disk refuses, or a gallery bound to another model was made meanwhile.
    """
    path = Path(path)
    _refuse_folder(path)
    text = json.dumps(binding.to_dict(), ensure_ascii=False, allow_nan=False)
    place = None if model_path is None else _storable(str(model_path.absolute()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made: {error.strerror or error}.") from error
    connection = _connect(path, "rwc")
    try:
        with told(path):
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,):
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO gallery VALUES (?, ?, ?, ?)",
                    (text, zlib.crc32(text.encode()), _now(), place),
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        gallery = Gallery(path, connection)
        mixing(gallery.binding.identity, binding.identity)
        return gallery
    except BaseException:
        connection.close()
        raise


def open_gallery(path: str | os.PathLike[str]) -> Gallery:
    """Open a gallery.

    Raises:
        UsageError: there is none at that path.
        DataError: it is damaged, of another schema, or not a gallery.
    """
    path = Path(path)
    _refuse_folder(path)
    if not path.is_file():
        raise UsageError(f"There is no gallery {path}. `siamese enroll` with --model makes one.")
    connection = _connect(path, "rw" if os.access(path, os.W_OK) else "ro")
    try:
        with told(path):
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise damaged(path, str(found).replace("\n", " "))
        return Gallery(path, connection)
    except BaseException:
        connection.close()
        raise


def proper_name(name: str) -> str:
    """A name in the form that is kept: Unicode NFC, without spaces around it. ``UsageError`` where it is none."""
    require_utf8("name", name)
    clean = unicodedata.normalize("NFC", name).strip()
    control = any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in clean)
    if not clean or len(clean) > LONGEST_NAME or control:
        raise UsageError(
            f"The name {name!a} cannot be kept; 1 to {LONGEST_NAME} characters without line breaks and control "
            "characters are expected."
        )
    return clean


def damaged(path: Path, why: str) -> DataError:
    """The error for a gallery that is not whole."""
    return DataError(f"The gallery {path} is damaged: {why}. Restore a copy, or enrol the images again.")


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise DataError(
                f"Another process has been writing to {path} for {PATIENCE:.0f} s. Wait for it and repeat the command."
            ) from error
        if "readonly" in text:
            raise DataError(f"{path} may not be written. Allow it, or copy the gallery.") from error
        if "unable to open" in text or "full" in text or "disk" in text:
            raise DataError(f"{path}: {text}. Make room or allow it, and repeat the command.") from error
        raise damaged(path, text) from error
    except (
        sqlite3.DatabaseError,
        UnicodeDecodeError,
    ) as error:  # a text in it, or SQLite's own words about it
        raise damaged(path, str(error)) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Transactions are begun by hand; what is deleted is overwritten."""
    with told(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE, isolation_level=None
        )
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def _read_binding(path: Path, connection: sqlite3.Connection) -> tuple[Binding, Path | None]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise UsageError(f"{path} is not a gallery. `siamese enroll` with --model makes one in a new file.")
    if schema != SCHEMA:
        raise DataError(
            f"The gallery {path} has schema {schema}; this keras-transfer-siamese knows {SCHEMA}. Update it, or enrol "
            "the images again."
        )
    rows = connection.execute("SELECT binding, checksum, model_path FROM gallery").fetchall()
    if len(rows) != 1:
        raise damaged(path, "what it is bound to is missing")
    text, checksum, model_path = rows[0]
    place_known = model_path is None or isinstance(model_path, str)
    if (
        not place_known
        or not isinstance(text, str)
        or zlib.crc32(text.encode("utf-8", "surrogateescape")) != checksum
    ):
        raise damaged(path, "what it is bound to is not what was written")
    try:
        binding = Binding.from_dict(json.loads(text))
    except (DataError, ValueError) as error:
        raise damaged(path, str(error).rstrip(".")) from error
    return binding, None if model_path is None else Path(model_path)


def _check_embedding(picture: Picture, binding: Binding) -> None:
    shape = picture.embedding.shape
    if shape != (binding.dimension,):
        raise DataError(f"{picture.file}: an embedding of shape {shape}; ({binding.dimension},) is expected.")
    if not np.isfinite(picture.embedding).all():
        raise DataError(
            f"{picture.file}: its embedding holds numbers that are not finite and was not enrolled."
        )


def _checksum(name: str, file: str, sha256: str, created: str, values: bytes) -> int:
    return zlib.crc32(values, zlib.crc32(f"{name}\0{file}\0{sha256}\0{created}\0".encode()))


def _storable(text: str) -> str:
    """A file's name or path for SQLite, whose texts are UTF-8: other bytes become question marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is expected, such as {path / 'gallery.sqlite'}.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
