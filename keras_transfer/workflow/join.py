"""Labelled images of several sources as one table for ``train``: what a run knew, and what was labelled since."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_transfer.data import ImageTable, load_data
from keras_transfer.data.table import CSV_COLUMNS, PathImages
from keras_transfer.errors import DataError, UsageError
from keras_transfer.outputs import Outputs
from keras_transfer.run import is_run, open_run
from keras_transfer.workflow.evaluate import run_table

log = logging.getLogger("keras_transfer")


@dataclass(frozen=True)
class Joined:
    """What :func:`join` has written.

    Attributes:
        path: the CSV.
        image_root: what ``train`` has to be given as ``--image-root``; None: nothing.
        images: how many images of each source are in it, by the source.
        known: how many images of later sources are left out because an earlier one has them, with the same label.
    """

    path: Path
    image_root: Path | None
    images: dict[str, int]
    known: int

    def to_dict(self) -> dict[str, object]:
        """JSON-able."""
        root = None if self.image_root is None else str(self.image_root)
        return {"path": str(self.path), "image_root": root, "images": self.images, "known": self.known}


@dataclass(frozen=True)
class _Image:
    """A row: where the image is, the table it is from, and its row there."""

    path: Path
    table: ImageTable
    row: int


def join(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    image_root: str | Path | None = None,
    overwrite: bool = False,
) -> Joined:
    """Write the labelled images of several sources as one CSV that ``train`` takes.

    A run stands for the data it was trained on, with their splits. Images of other sources are training images, unless
    their source says otherwise, so what is measured on stays the same. Of an image in several sources there is one row.

    Args:
        sources: at least two: run folders, and what ``load_data`` takes, such as class folders, CSV, or exports of
            labelling tools.
        output: a ``.csv``.
        image_root: the folder that paths in annotations and CSV files are relative to; default: their own.
        overwrite: replace a file that is there.

    Raises:
        UsageError: one source, a file in the way, or images that are no files.
        DataError: labels of different kinds, or one image with two labels.
    """
    path = Path(output)
    if len(sources) < 2:
        raise UsageError(f"{len(sources)} source was given; at least 2 are expected to be joined.")
    if path.suffix.lower() != ".csv":
        raise UsageError(f"--output {path}: a file that ends in .csv is expected.")
    places = Outputs(sources, overwrite=overwrite)
    places.check(path)
    rows: dict[str, _Image] = {}
    counts: dict[str, int] = {}
    known, mode = 0, "auto"
    for source in sources:
        table = _table(source, image_root, mode)
        if mode not in ("auto", table.label_mode):
            raise DataError(
                f"The labels of {table.source} are read as {table.label_mode}, those of {sources[0]} are {mode}. Join "
                "sources of one kind."
            )
        mode, before = table.label_mode, len(rows)
        for row in range(len(table)):
            image = _Image(_path(table, row), table, row)
            first = rows.setdefault(table.sha256[row], image)
            known += first is not image
            _require_equal(first, image)
        counts[str(source)] = len(rows) - before
    root = Path(os.path.commonpath([image.path.parent for image in rows.values()]))
    folder = path.absolute().parent
    below = folder in (root, *root.parents)
    text = _csv_text(list(rows.values()), folder if below else root)
    places.write(path, text.encode("utf-8", "surrogateescape"))
    return Joined(path, None if below else root, counts, known)


def _table(source: str | Path, image_root: str | Path | None, mode: str) -> ImageTable:
    place = Path(source)
    if place.is_dir() and is_run(place):
        return run_table(open_run(place))
    return load_data(
        source,
        image_root=image_root if place.is_file() else None,
        label_mode=mode if place.is_file() else "auto",
        val_fraction=0.0,
        test_fraction=0.0,
        min_per_class=0,
        min_classes=1,
    )


def _path(table: ImageTable, row: int) -> Path:
    if not isinstance(table.images, PathImages):
        raise UsageError(f"The images of {table.source} are in an array; a table names files.")
    return table.images.path(row).absolute()


def _require_equal(first: _Image, second: _Image) -> None:
    labels = [one.table.label_text(one.row) for one in (first, second)]
    if labels[0] != labels[1]:
        raise DataError(
            f"{first.path} of {first.table.source} is labelled {labels[0]!r}, and the same image in "
            f"{second.table.source} ({second.path}) is labelled {labels[1]!r}. Correct one of them."
        )


def _csv_text(rows: Sequence[_Image], root: Path) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for image in rows:
        table, row = image.table, image.row
        name = os.path.relpath(image.path, root).replace(os.sep, "/")
        group = "" if table.groups is None else str(table.groups[row])
        values = (table.label_text(row), str(table.splits[row]), group, repr(float(table.weights[row])))
        writer.writerow((name, *values, table.sha256[row], table.label_mode))
    return text.getvalue()
