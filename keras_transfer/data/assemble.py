"""The last step every source shares: check the images, refuse hopeless data, make or keep the splits."""

from __future__ import annotations

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_transfer.data.checking import checked_images, enforce_limit, tell_small_range
from keras_transfer.data.class_splits import class_splits
from keras_transfer.data.kept import new_kept
from keras_transfer.data.labels import Labels, check_counts
from keras_transfer.data.splits import complete_splits, make_splits
from keras_transfer.data.table import SPLITS, ArrayImages, ImageTable, PathImages, Skipped
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")


@dataclass(frozen=True)
class Options:
    """The arguments of ``load_data`` that every source obeys; checked there."""

    val_fraction: float
    test_fraction: float
    seed: int
    max_skipped: float
    min_per_class: int
    split_from: Path | None
    by_class: bool = False
    min_classes: int = 2
    torn_groups: bool = False


@dataclass(frozen=True, eq=False)
class Rows:
    """What a source hands over, unchecked: row ``i`` of every field belongs to image ``i``."""

    source: str
    images: PathImages | ArrayImages
    labels: Labels
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    skipped: tuple[Skipped, ...] = ()


def build_table(rows: Rows, options: Options) -> ImageTable:
    """Check the images and make the table.

    Raises:
        DataError: too many unreadable images, no image left, too few of a class, torn groups,
            images that ``split_from`` does not know.
    """
    images, sha256, keep, bad = _checked(rows.images)
    skipped = (*rows.skipped, *bad)
    candidates = len(rows.images) + sum(skip.counted for skip in rows.skipped)
    enforce_limit(skipped, candidates, options.max_skipped, rows.source)
    if not len(keep):
        raise DataError(f"There is no usable image in {rows.source}. Nothing can be done with it.")
    labels = rows.labels.take(keep)
    given = None if rows.splits is None else rows.splits[keep]
    groups = None if rows.groups is None else rows.groups[keep]
    recorded = options.split_from is not None
    # Split by class, those of val and test are not in train: that is the point.
    checked = None if recorded or options.by_class else given
    make = class_splits if options.by_class else make_splits
    least = (options.min_per_class, options.min_classes)
    check_counts(labels, checked, *least, rows.source)
    shares = {
        "val_fraction": options.val_fraction,
        "test_fraction": options.test_fraction,
        "seed": options.seed,
    }
    if given is None or recorded:
        splits = make(labels, sha256, groups, **shares)  # type: ignore[arg-type]
    else:
        torn = options.torn_groups
        splits = complete_splits(given, labels, sha256, groups, make=make, torn_groups=torn, **shares)  # type: ignore[arg-type]
    weights = (
        np.ones(len(keep), np.float32) if rows.weights is None else rows.weights[keep].astype(np.float32)
    )
    table = ImageTable(
        source=rows.source,
        images=images,
        label_mode=labels.label_mode,
        classes=labels.classes,
        labels=labels.values,
        splits=splits,
        groups=groups,
        weights=weights,
        sha256=tuple(sha256),
        skipped=skipped,
        given_splits=recorded or given is not None,
    )
    tell_conflicts(table)
    if options.split_from is None:
        return table
    table = apply_recorded_split(table, options.split_from)
    if not options.by_class:
        check_counts(labels, table.splits, *least, rows.source)
    return table


def _checked(
    images: PathImages | ArrayImages,
) -> tuple[PathImages | ArrayImages, list[str], np.ndarray, list[Skipped]]:
    """The usable images with their hashes, their rows, and the others with the reasons."""
    if isinstance(images, ArrayImages):
        sha256 = [images.digest(i) for i in range(len(images))]
        return replace(images, digests=tuple(sha256)), sha256, np.arange(len(images)), []
    kept = new_kept()
    checked = checked_images(images, kept)
    tell_small_range(images, checked)
    keep = np.array([i for i, one in enumerate(checked) if one.reason is None], np.int64)
    bad = [Skipped(images.describe(i), one.reason) for i, one in enumerate(checked) if one.reason is not None]
    sha256 = [one.sha256 for one in checked if one.sha256 is not None]
    return replace(images.take(keep), digests=tuple(sha256), kept=kept), sha256, keep, bad


def tell_conflicts(table: ImageTable) -> None:
    """A warning where one image, byte for byte, has two different labels: one of them is wrong."""
    conflicts = table.conflicts()
    if not conflicts:
        return
    shown = "; ".join(
        " and ".join(f"{table.images.describe(i)} ({table.label_text(i)})" for i in rows[:2])
        for rows in conflicts[:3]
    )
    more = f"; and {len(conflicts) - 3} more (run.json lists all)" if len(conflicts) > 3 else ""
    logger.warning(
        "%d images have contradicting labels (identical files): %s%s. Remove the copies with the wrong label.",
        len(conflicts),
        shown,
        more,
    )


def apply_recorded_split(table: ImageTable, recorded: Path) -> ImageTable:
    """Give every image the split it has in a ``split.csv`` (or in the run folder that holds one).

    Images are matched by SHA-256; where one image is in several recorded splits, by its label too.

    Raises:
        UsageError: the file is missing. DataError: it is no recorded split, or does not know an image.
    """
    path = recorded / "split.csv" if recorded.is_dir() else recorded
    by_digest: dict[str, set[str]] = defaultdict(set)
    by_label: dict[tuple[str, str], set[str]] = defaultdict(set)
    for digest, label, split in _recorded_rows(path):
        by_digest[digest].add(split)
        by_label[digest, label].add(split)
    splits = table.splits.copy()
    unknown: list[str] = []
    unclear: list[str] = []
    for i, digest in enumerate(table.sha256):
        choices = by_digest.get(digest, set())
        if len(choices) > 1:
            choices = by_label.get((digest, table.label_text(i)), choices)
        if len(choices) == 1:
            splits[i] = next(iter(choices))
        else:
            (unclear if choices else unknown).append(table.images.describe(i))
    _refuse(
        unknown, path, "are not in it", "Load the same images, or leave split_from out to make a new split."
    )
    _refuse(unclear, path, "are in several of its splits", "Remove the duplicates.")
    gone = len(by_digest.keys() - set(table.sha256))
    if gone:
        logger.warning("%d images of the recorded split %s are not in %s", gone, path, table.source)
    return replace(table, splits=splits)


def _recorded_rows(path: Path) -> Iterable[tuple[str, str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError as error:
        raise UsageError(f"There is no recorded split {path}. Give a run folder or its split.csv.") from error
    except OSError as error:
        raise DataError(f"The recorded split {path} cannot be read: {error.strerror}.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"sha256", "label", "split"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(
            f"{path} is not a recorded split: the column(s) {', '.join(sorted(missing))} are missing. "
            "Expected the split.csv of a run."
        )
    for row in reader:
        if row["split"] not in SPLITS:
            raise DataError(
                f"{path}, line {reader.line_num}: split {row['split']!r}; expected {', '.join(SPLITS)}."
            )
        yield row["sha256"], row["label"], row["split"]


def _refuse(names: Sequence[str], path: Path, what: str, advice: str) -> None:
    if names:
        raise DataError(
            f"The recorded split {path}: {len(names)} images {what}, such as {names[0]}. {advice}"
        )
