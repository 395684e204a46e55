"""One threaded pass over the files: hash every one, decode those never seen before, note the unreadable.

Where pixels are wanted (``data/kept.py``), a file is decoded as the model will see it, and not again for the features.

That a file decodes depends on nothing but its bytes and Pillow, so the verdict is kept under its SHA-256
(``cache_dir()/checked``): a second run only hashes. Only good verdicts are kept; a bad file is looked at
again every time.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from keras_transfer.data.kept import KeptPixels
from keras_transfer.data.table import PathImages, Skipped
from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import HEIC_COMMAND, ImageError, read_image_bytes, verify
from keras_transfer.errors import DataError, UsageError
from keras_transfer.hashing import sha256_of
from keras_transfer.paths import atomic_write, cache_dir
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.progress import track

logger = logging.getLogger("keras_transfer")

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"),
        *(".tif", ".tiff", ".avif", ".heic", ".heif"),
    }
)
OTHER_PHOTOS = frozenset(
    {
        *(".arw", ".cr2", ".cr3", ".dng", ".j2k", ".jp2", ".jxl", ".nef", ".orf"),
        *(".pbm", ".pgm", ".pnm", ".ppm", ".raf", ".rw2", ".tga"),
    }
)
"""Suffixes of photos that are not read: such a file is left out, said, and counted."""
MAX_FILE_BYTES = 1 << 30
_PNG = b"\x89PNG\r\n\x1a\n"
_VERDICT_VERSION = 1  # raise it when `verify` changes its mind about any file
_SAVE_EVERY = 5_000
_TOGETHER = 8
"""Files that a thread checks at a time: of small ones, handing over takes as long as checking."""
_MAX_VERDICT_FILES = 16


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found: ``sha256`` of the bytes; the ``reason`` why it cannot be used (None: it can)."""

    sha256: str | None
    reason: str | None
    deep: bool = False
    """A PNG of 16 bits per value."""
    pixels: np.ndarray | None = field(default=None, compare=False, repr=False)
    """uint8 (H, W, 3), where they were wanted and the file had to be decoded."""


class Verdicts:
    """The hashes of images known to decode, on disk in files named by their own hash.

    A file is a concatenation of 32-byte digests and is believed only when its name matches its content, so
    damage makes the next check slower and never wrong; every process writes files of its own. An unwritable
    cache is as good as none.
    """

    def __init__(self, root: Path | None = None) -> None:
        version = f"v{_VERDICT_VERSION}-pillow-{PIL.__version__}{_heif()}"
        self.folder = (cache_dir() if root is None else root) / "checked" / version
        self._files: list[Path] = []
        self._known: set[bytes] = set()
        self._new: set[bytes] = set()
        try:
            paths = sorted(self.folder.glob("*.sha256"))
        except OSError:
            paths = []
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if sha256_of(content) == path.stem and len(content) % 32 == 0:
                self._files.append(path)
                self._known.update(content[at : at + 32] for at in range(0, len(content), 32))

    def __contains__(self, digest: object) -> bool:
        return digest in self._known

    def add(self, digest: bytes) -> None:
        """Note a good image; now and then what is new is written."""
        self._known.add(digest)
        self._new.add(digest)
        if len(self._new) >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what is new. Many small files are merged into one."""
        if not self._new:
            return
        merge = len(self._files) >= _MAX_VERDICT_FILES
        content = b"".join(sorted(self._known if merge else self._new))
        path = self.folder / f"{sha256_of(content)}.sha256"
        try:
            atomic_write(path, content)
            for old in self._files if merge else ():
                if old != path:
                    old.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("The checked images cannot be remembered in %s: %s", self.folder, error)
        self._files = [path] if merge else [*self._files, path]
        self._new.clear()


def _heif() -> str:
    """What reads HEIC, as a part of a folder's name; "" where nothing does."""
    try:
        return f"-heif-{metadata.version('pillow-heif')}"
    except metadata.PackageNotFoundError:
        return ""


def check_file(path: Path, verdicts: Container[bytes], wanted: Preprocessing | None = None) -> Checked:
    """Hash one file and make sure it decodes: as a model ``wanted`` it, or as cheaply as can be.

    ``verdicts``: SHA-256 of files that are known to decode; they are not decoded again.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Checked(None, "broken link" if path.is_symlink() else "file not found")
    except OSError as error:
        return Checked(
            None, "permission denied" if isinstance(error, PermissionError) else str(error.strerror)
        )
    if not stat.S_ISREG(status.st_mode):
        return Checked(None, "not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        return Checked(None, f"file too large ({status.st_size} bytes, the limit is {MAX_FILE_BYTES})")
    pixels = None
    try:
        content = read_image_bytes(path)
        sha256 = sha256_of(content)
        if bytes.fromhex(sha256) not in verdicts:
            if wanted is None:
                verify(content)
            else:
                pixels = wanted.load(content)
    except ImageError as error:
        return Checked(None, str(error))
    return Checked(sha256, None, content[:8] == _PNG and content[24:25] == b"\x10", pixels)


def check_images(
    images: PathImages, threads: int | None = None, keep: KeptPixels | None = None
) -> list[Checked]:
    """Check every file, in order, by a pool of threads; a few dozen files at most are in memory at once.

    ``keep`` takes the pixels of files that have to be decoded, as long as it has room.
    """
    verdicts = Verdicts()
    results: list[Checked] = []

    def some(start: int) -> list[Checked]:
        wanted = None if keep is None or keep.full else keep.preprocessing
        return [
            check_file(images.path(i), verdicts, wanted)
            for i in range(start, min(start + _TOGETHER, len(images)))
        ]

    try:
        blocks = ordered_map(some, range(0, len(images), _TOGETHER), threads=threads, ahead=8)
        for checked in track(itertools.chain.from_iterable(blocks), "Checking images", total=len(images)):
            if keep is not None and checked.sha256 is not None and checked.pixels is not None:
                keep.put(checked.sha256, checked.pixels)
            results.append(replace(checked, pixels=None))
            if checked.sha256 is not None and (digest := bytes.fromhex(checked.sha256)) not in verdicts:
                verdicts.add(digest)
    finally:
        verdicts.save()
    return results


Check = Callable[[PathImages, KeptPixels | None], list[Checked]]
"""What checks files, as :func:`check_images` does: one answer an image, in order."""

_elsewhere: ContextVar[Check | None] = ContextVar("keras_transfer_check", default=None)


@contextlib.contextmanager
def checked_by(check: Check) -> Iterator[None]:
    """The files of tables that are made meanwhile are checked by ``check``: by other machines, with other work."""
    token = _elsewhere.set(check)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def checked_images(images: PathImages, keep: KeptPixels | None = None) -> list[Checked]:
    """:func:`check_images`, or what :func:`checked_by` has put in its place."""
    check = _elsewhere.get()
    return check_images(images, keep=keep) if check is None else check(images, keep)


def tell_small_range(images: PathImages, checked: Sequence[Checked]) -> None:
    """A warning where images of 16 bits use so little of the range that they come out nearly black.

    Cameras of 10 or 12 bits are often saved like that. A sample of 24 images is looked at.
    """
    deep = [i for i, one in enumerate(checked) if one.deep]
    sample = deep[:: max(1, len(deep) // 24)][:24]
    largest = max((_largest(images.path(i)) for i in sample), default=0)
    if 0 < largest < 1 << 14:
        logger.warning(
            "%d images have 16 bits per value and use %.1f %% of that range (the largest value is %d of 65535): "
            "they come out nearly black. Multiply their values by %d, or save them with 8 bits.",
            len(deep),
            100 * largest / 65535,
            largest,
            65536 >> largest.bit_length(),
        )


def _largest(path: Path) -> int:
    """The largest value in a file of 16 bits per value; of colour Pillow keeps the high byte. 0 where it is gone."""
    try:
        with Image.open(path) as picture:
            bands = picture.getextrema()
    except OSError:
        return 0
    if isinstance(bands[0], tuple):
        return max(int(high) for _, high in bands) * 257
    return int(bands[1])


def require_max_skipped(value: float) -> float:
    """``max_skipped`` as a share from 0 to 1, or ``UsageError``."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(f"max_skipped is {value!r}; expected a share from 0 to 1, such as 0.05.")
    return float(value)


def enforce_limit(skipped: Sequence[Skipped], candidates: int, max_skipped: float, source: str) -> None:
    """Stop when too many images were unreadable.

    Args:
        skipped: everything left out; only the counted ones matter here.
        candidates: how many images there were, readable or not.
        max_skipped: the largest tolerated share, 0 to 1.
        source: for the message.

    Raises:
        DataError: over the limit; names the first reasons and how to raise the limit.
    """
    bad = [skip for skip in skipped if skip.counted]
    if not bad:
        return
    share = len(bad) / candidates
    examples = "; ".join(f"{skip.path}: {skip.reason}" for skip in bad[:3])
    unread = sum(HEIC_COMMAND in skip.reason for skip in bad)
    heic = f" {unread} of them are HEIC: {HEIC_COMMAND}." if unread else ""
    if share > max_skipped:
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise DataError(
            f"{len(bad)} of {candidates} images in {source} cannot be used ({share:.1%}, the limit is "
            f"{max_skipped:.1%}): {examples}{more}. Repair or remove them, or raise the limit with "
            f"--max-skipped.{heic}"
        )
    logger.warning("Skipped %d of %d images that cannot be used (%s)%s", len(bad), candidates, examples, heic)


def write_skipped(path: Path | str, skipped: Sequence[Skipped]) -> None:
    """Write ``skipped.csv``: ``path,reason,counted``, one row per file; with nothing skipped, the header alone."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason", "counted"))
    writer.writerows((skip.path, skip.reason, "yes" if skip.counted else "no") for skip in skipped)
    atomic_write(Path(path), text.getvalue().encode("utf-8", "surrogateescape"))


class BlobStore:
    """Encoded images under their SHA-256, for sources that are not files: ``images/ab/<sha256>.<suffix>``.

    Raises:
        OSError: disk full or not writable (the sources turn it into ``CacheError``).
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (cache_dir() if root is None else root) / "images"

    def store(self, content: bytes, suffix: str) -> str:
        """Keep ``content`` (written once, repaired when damaged); returns its name below ``root``."""
        digest = sha256_of(content)
        name = f"{digest[:2]}/{digest}.{suffix}"
        path = self.root / name
        try:
            if path.read_bytes() == content:
                return name
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return name
