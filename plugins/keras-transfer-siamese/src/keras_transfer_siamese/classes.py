"""Images by class: read, looked through, and split so that what is measured on was never learned from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import SPLITS, ImageTable, Skipped, load_data
from keras_transfer.data.assemble import apply_recorded_split
from keras_transfer.data.checking import enforce_limit
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import DataError, UsageError
from keras_transfer.hashing import sha256_of
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import DataSettings

log = logging.getLogger("keras_transfer")
LOOK = Preprocessing(size=(32, 32))
EVEN = 2
"""An image whose values span no more than this (of 255) in any channel shows nothing."""


def read_classes(
    source: Any, settings: DataSettings, seed: int, *, levels: int = 1, by_image: bool = False
) -> ImageTable:
    """Images of a folder, CSV, TFDS or arrays, whole classes dealt out to train, val and test.

    Args:
        source, settings: as for ``keras_transfer.load_data``. Classes of a single image are taken, too (unless
            ``min_per_class`` is above 2): they can still be told from others.
        seed: of the split.
        levels: folders that name a class, 1 or 2 (``alphabet/character``).
        by_image: split images, not classes.

    Raises:
        UsageError: labels that are no classes. DataError: the data cannot be used, or splits that came with them share
            classes.
    """
    values = dict(vars(settings))
    recorded = values.pop("split_from")
    if settings.min_per_class <= DataSettings().min_per_class:
        values["min_per_class"] = 1
    split_by = "image" if by_image else "class"
    table = load_data(source, seed=seed, split_by=split_by, levels=levels, **values)
    if table.label_mode != "classes":
        raise UsageError(
            f"The labels of {table.source} are read as {table.label_mode}; siamese needs one class per image. Pass "
            "--labels classes if they are class names."
        )
    table = without_uniform(table, settings.max_skipped)
    if recorded is not None:
        table = apply_recorded_split(table, Path(recorded))
    if not by_image:
        require_apart(table)
    _warn_of_copies(table)
    return table


def without_uniform(table: ImageTable, max_skipped: float) -> ImageTable:
    """The table without images of one even colour, which are noted as skipped.

    Raises ``DataError`` when they, with the unreadable ones, are more than the share ``max_skipped``.
    """
    found = ordered_map(lambda i: _is_uniform(table, i), range(len(table)), ahead=32)
    uniform = np.fromiter(found, bool, len(table))
    if not uniform.any():
        return table
    bad = [
        Skipped(table.images.describe(i), "one even colour, nothing is on it")
        for i in np.flatnonzero(uniform).tolist()
    ]
    skipped = (*table.skipped, *bad)
    counted = sum(skip.counted for skip in table.skipped)
    enforce_limit(skipped, len(table) + counted, max_skipped, table.source)
    return replace(table.take(np.flatnonzero(~uniform)), skipped=skipped)


def _is_uniform(table: ImageTable, i: int) -> bool:
    return shows_nothing(table.images.load(i, LOOK))


def shows_nothing(pixels: np.ndarray) -> bool:
    """Whether an image, uint8 (H, W, 3), is of one even colour."""
    return bool((np.ptp(pixels.reshape(-1, 3), axis=0) <= EVEN).all())


def _warn_of_copies(table: ImageTable) -> None:
    """Say when one image, byte for byte, is in two classes."""
    found: dict[str, set[int]] = {}
    for digest, label in zip(table.sha256, table.labels.tolist(), strict=True):
        found.setdefault(digest, set()).add(label)
    twice = [sorted(labels) for labels in found.values() if len(labels) > 1]
    if twice:
        names = " and ".join(table.classes[label] for label in twice[0])
        log.warning(
            "%d images are in more than one class, such as one in %s: one of the two is wrong.",
            len(twice),
            names,
        )


def require_apart(table: ImageTable) -> None:
    """Raise ``DataError`` when a class is in more than one split."""
    inside = {split: set(table.labels[table.indices(split)].tolist()) for split in SPLITS}
    shared = sorted(
        {
            table.classes[label]
            for first in SPLITS
            for second in SPLITS
            if first < second
            for label in inside[first] & inside[second]
        }
    )
    if shared:
        raise DataError(
            f"{table.source}: {len(shared)} classes are in more than one split ({_few(shared)}). What was learned is "
            "measured on classes never seen: give each class to one split, leave the splits out to have them made, or "
            "pass --allow-seen-classes."
        )


def fingerprints(names: Iterable[str]) -> list[str]:
    """What a model remembers of the classes it was trained on: hashes, since names of people need not travel."""
    return sorted(sha256_of(name.encode("utf-8", "surrogateescape"))[:16] for name in names)


def require_unseen(table: ImageTable, trained: Sequence[str]) -> None:
    """Raise ``DataError`` when the table holds images of classes whose :func:`fingerprints` are in ``trained``."""
    known = set(trained)
    names = [table.classes[label] for label in np.unique(table.labels).tolist()]
    seen = [name for name in names if fingerprints([name])[0] in known]
    if seen:
        raise DataError(
            f"{len(seen)} of the {len(names)} classes were trained on ({_few(seen)}), and one-shot recognition is "
            "measured on classes never seen. Take --split test, or other classes; or measure on them all the same: "
            "--set allow_seen_classes."
        )


def alphabets_of(table: ImageTable) -> np.ndarray:
    """The alphabet of every image, of classes called ``alphabet/character``; ``""`` of other classes."""
    names = np.array([name.rpartition("/")[0] for name in table.classes])
    return names[table.labels]


def in_split(table: ImageTable, split: str) -> list[str]:
    """Names of the classes a split has images of."""
    return [table.classes[label] for label in np.unique(table.labels[table.indices(split)]).tolist()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
