"""The one table all data sources turn into: images (by path or in an array), labels, splits, hashes.

Pixels are never held here: :class:`PathImages` reads a file when it is asked for,
:class:`ArrayImages` refers to the caller's array without copying or changing it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from keras_transfer.data.kept import KeptPixels
from keras_transfer.decoding import ImageError, decode, read_image_bytes
from keras_transfer.errors import DataError, UsageError
from keras_transfer.hashing import sha256_of
from keras_transfer.paths import atomic_open
from keras_transfer.preprocessing import Preprocessing

SPLITS = ("train", "val", "test")
LABEL_MODES = ("classes", "multilabel", "regression", "targets")
CSV_COLUMNS = ("path", "label", "split", "group", "weight", "sha256", "kind")


@dataclass(frozen=True)
class Skipped:
    """A file that is not in the table, and why. ``counted``: whether it counts against ``max_skipped``
    (an image that cannot be read does, a file that is no image by its name does not)."""

    path: str
    reason: str
    counted: bool = True


@dataclass(frozen=True)
class PathImages:
    """Images in files, decoded when asked for.

    Attributes:
        root: the folder the names are relative to.
        names: POSIX paths relative to ``root``.
        digests: the files' SHA-256 when they were checked; a file that has changed since is an error.
            Empty before the check.
        kept: pixels of some of them, decoded at the check; None: of none.
        shown: what ``root`` is called in messages, where it is a folder of the cache; "": by its own name.
    """

    root: Path
    names: tuple[str, ...]
    digests: tuple[str, ...] = ()
    kept: KeptPixels | None = field(default=None, compare=False, repr=False)
    shown: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """The file of image ``i``."""
        return self.root / self.names[i]

    def name(self, i: int) -> str:
        """What identifies image ``i`` in a recorded split: the path relative to ``root``."""
        return self.names[i]

    def describe(self, i: int) -> str:
        """What to call image ``i`` in a message: the path, below the folder (or archive) the user gave."""
        inside = self.shown and not self.names[i].startswith(
            "/"
        )  # a file that is only named lies where it lay
        return f"{self.shown}/{self.names[i]}" if inside else str(self.path(i))

    def size(self, i: int) -> int:
        """Bytes of the file."""
        return self.path(i).stat().st_size

    def digest(self, i: int) -> str:
        """SHA-256 (hex) of the file's bytes as they are now."""
        return sha256_of(self._read(i))

    def load(self, i: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
        """Image ``i``: uint8 (h, w, 3), upright RGB; what a model sees of it when ``preprocessing`` is given.

        Pixels that were kept at the check are given without the file, whatever has become of it.

        Raises:
            DataError: the file is gone, damaged, or not the one that was checked.
        """
        if self.kept is not None and preprocessing is not None and self.digests:
            pixels = self.kept.get(self.digests[i], preprocessing)
            if pixels is not None:
                return pixels
        content = self._read(i)
        if self.digests and sha256_of(content) != self.digests[i]:
            raise DataError(
                f"{self.describe(i)} has changed since the data was loaded. Load the data again: features "
                "and splits belong to the old file."
            )
        try:
            return decode(content) if preprocessing is None else preprocessing.load(content)
        except ImageError as error:
            raise DataError(f"{self.describe(i)} cannot be decoded: {error}.") from error

    def _read(self, i: int) -> bytes:
        try:
            return read_image_bytes(self.path(i))
        except ImageError as error:
            raise DataError(
                f"{self.describe(i)} could be read when the data was loaded, and not any more: {error}. "
                "Restore the file or load the data again."
            ) from error

    def take(self, indices: np.ndarray) -> PathImages:
        """The images at ``indices``."""
        names = tuple(self.names[i] for i in indices)
        return replace(self, names=names, digests=tuple(self.digests[i] for i in indices if self.digests))


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in one array, held by reference: never copied, never changed.

    Attributes:
        array: (N, H, W), (N, H, W, 1) or (N, H, W, 3), whole numbers in [0, 255] of any dtype
            (checked by ``data.arrays``).
        rows: int64 (n,), which images of the array these are.
        digests: as in :class:`PathImages`.
    """

    array: np.ndarray
    rows: np.ndarray
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        """The image's place in the array, as text."""
        return f"[{int(self.rows[i])}]"

    def describe(self, i: int) -> str:
        """What to call image ``i`` in a message."""
        return f"image {self.name(i)} of the array"

    def size(self, i: int) -> int:
        """Bytes the image takes in the array."""
        return int(self.array[self.rows[i]].nbytes)

    def digest(self, i: int) -> str:
        """SHA-256 (hex) over dtype, shape and bytes, as they are now."""
        pixels = self.array[self.rows[i]]
        head = f"{pixels.dtype.str} {pixels.shape}".encode()
        return sha256_of(head + pixels.tobytes())

    def load(self, i: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
        """Image ``i``: a new uint8 array (H, W, 3); at the size of ``preprocessing`` when that is given.

        Raises ``DataError`` when the array was changed meanwhile.
        """
        if self.digests and self.digest(i) != self.digests[i]:
            raise DataError(f"{self.describe(i)} has changed since the data was loaded. Load the data again.")
        pixels = np.asarray(self.array[self.rows[i]]).astype(np.uint8)
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        return colour if preprocessing is None else preprocessing.apply(colour)

    def take(self, indices: np.ndarray) -> ArrayImages:
        """The images at ``indices``."""
        digests = tuple(self.digests[i] for i in indices if self.digests)
        return replace(self, rows=self.rows[np.asarray(indices, np.int64)], digests=digests)


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images with their labels and splits. Row ``i`` of every field belongs to image ``i``.

    Attributes:
        source: what the user gave (``photos/``, ``tfds:...``, ``arrays``).
        images: where the pixels come from.
        label_mode: ``classes``, ``multilabel``, ``regression``, or ``targets`` (such as masks; what a
            plugin's task loads).
        classes: the class names in the order of the model's outputs; () for regression.
        labels: int32 (N,) class indices; or uint8 (N, C) of 0/1; or float32 (N, T); or a
            :class:`keras_transfer.data.targets.Targets` column.
        splits: str (N,), each ``train``, ``val`` or ``test``.
        groups: str (N,) or None; a group never spans two splits.
        weights: float32 (N,), sample weights >= 0.
        sha256: hex, of the file's bytes, or of dtype + shape + bytes of an array's image.
        skipped: what was left out.
        given_splits: whether the splits came with the data, one of them at least; else they were made.
    """

    source: str
    images: PathImages | ArrayImages
    label_mode: str
    classes: tuple[str, ...]
    labels: Any
    splits: np.ndarray
    groups: np.ndarray | None
    weights: np.ndarray
    sha256: tuple[str, ...]
    skipped: tuple[Skipped, ...] = field(default=())
    given_splits: bool = False

    def __post_init__(self) -> None:
        columns = (self.images, self.labels, self.splits, self.groups, self.weights, self.sha256)
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) > 1:
            raise UsageError(f"The columns of an ImageTable have different lengths: {sorted(lengths)}.")
        if self.label_mode not in LABEL_MODES:
            raise UsageError(
                f"The label mode is {self.label_mode!r}; expected one of {', '.join(LABEL_MODES)}."
            )
        unknown = set(np.unique(self.splits).tolist()) - set(SPLITS)
        if unknown:
            raise UsageError(f"Unknown splits {sorted(unknown)}; expected {', '.join(SPLITS)}.")

    def __len__(self) -> int:
        return len(self.images)

    def indices(self, split: str) -> np.ndarray:
        """int64 (n,): the rows of a split, ascending."""
        if split not in SPLITS:
            raise UsageError(f"There is no split {split!r}; expected one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.splits == split)

    def take(self, indices: Sequence[int] | np.ndarray) -> ImageTable:
        """A table of some rows, in the order given; classes and what was skipped stay."""
        rows = np.asarray(indices, np.int64)
        return replace(
            self,
            images=self.images.take(rows),
            labels=self.labels[rows],
            splits=self.splits[rows],
            groups=None if self.groups is None else self.groups[rows],
            weights=self.weights[rows],
            sha256=tuple(self.sha256[i] for i in rows),
        )

    def label_text(self, i: int) -> str:
        """The label as a CSV source would hold it: a name, names or numbers joined by ``;``."""
        if self.label_mode == "classes":
            return self.classes[int(self.labels[i])]
        if self.label_mode == "targets":
            return self.labels.text(i)
        if self.label_mode == "multilabel":
            return ";".join(name for name, on in zip(self.classes, self.labels[i], strict=True) if on)
        return ";".join(repr(float(value)) for value in self.labels[i])

    def fingerprint(self) -> str:
        """64 hex digits over the images' hashes, the labels and the class names: the same wherever the
        images lie and however the rows are ordered. Splits, groups and weights are not part of it."""
        found = hashlib.sha256(repr((self.label_mode, self.classes)).encode("utf-8", "surrogateescape"))
        ordered = sorted(range(len(self)), key=self.sha256.__getitem__)
        for digest, rows in itertools.groupby(ordered, key=self.sha256.__getitem__):
            for label in sorted(self.label_text(i) for i in rows):
                found.update(f"{digest} {label}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def summary(self) -> dict[str, Any]:
        """JSON-able counts: images per split and class, skipped files, the fingerprint."""
        splits: dict[str, Any] = {}
        for split in SPLITS:
            rows = self.indices(split)
            splits[split] = {"images": len(rows)}
            if self.label_mode == "classes":
                counts = np.bincount(self.labels[rows], minlength=len(self.classes))
            elif self.label_mode == "multilabel":
                counts = self.labels[rows].sum(axis=0, dtype=np.int64)
            else:
                continue
            splits[split]["per_class"] = dict(zip(self.classes, counts.tolist(), strict=True))
        return {
            "source": self.source,
            "label_mode": self.label_mode,
            "images": len(self),
            "classes": list(self.classes),
            "splits": splits,
            "groups": None if self.groups is None else len(set(self.groups.tolist())),
            "skipped": sum(skipped.counted for skipped in self.skipped),
            "ignored": sum(not skipped.counted for skipped in self.skipped),
            "skipped_reasons": dict(Counter(s.reason for s in self.skipped if s.counted).most_common(10)),
            "conflicts": [[self.images.name(i) for i in rows] for rows in self.conflicts()],
            "fingerprint": self.fingerprint(),
        }

    def conflicts(self) -> list[list[int]]:
        """Rows of images that are equal byte for byte and have different labels, one list per image."""
        first: dict[str, int] = {}
        same: dict[int, list[int]] = {}  # of images that are there more than once, by the first
        for i, digest in enumerate(self.sha256):
            if (known := first.setdefault(digest, i)) != i:
                same.setdefault(known, [known]).append(i)
        return [same[known] for known in sorted(same) if len({self.label_text(i) for i in same[known]}) > 1]

    def write_csv(self, path: Path | str) -> None:
        """Record the split: ``path,label,split,group,weight,sha256,kind``, one row per image, in UTF-8.

        Paths are relative to the folder the images came from. The file is itself a CSV source (give that
        folder as ``image_root``), and it serves as ``split_from``.
        """
        with atomic_open(Path(path)) as file:
            text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
            self._write_rows(text)
            text.detach()

    def csv_text(self) -> str:
        """What :meth:`write_csv` writes."""
        text = io.StringIO(newline="")
        self._write_rows(text)
        return text.getvalue()

    def _write_rows(self, text: TextIO) -> None:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for i in range(len(self)):
            group = "" if self.groups is None else self.groups[i]
            row = (
                self.images.name(i),
                self.label_text(i),
                self.splits[i],
                group,
                repr(float(self.weights[i])),
            )
            writer.writerow((*row, self.sha256[i], self.label_mode))
