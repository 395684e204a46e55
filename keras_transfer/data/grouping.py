"""A file that says which images belong together: ``path,group``. What belongs together is in one split."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_transfer.data.assemble import Rows
from keras_transfer.data.splits import units_of
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")


def with_groups(rows: Rows, path: Path) -> Rows:
    """Rows with the groups of a file, joined with those that they have; an image that is not in it is alone.

    Args:
        rows: of a source.
        path: a CSV with the columns ``path`` (as in a recorded split: relative to the folder of the images) and
            ``group``; ``check --output`` writes one.

    Raises:
        UsageError: there is no such file. DataError: it has other columns, or names none of these images.
    """
    named = _read(path)
    names = [rows.images.name(i) for i in range(len(rows.images))]
    known = sum(name in named for name in names)
    if named and not known:
        raise DataError(
            f"{path} names none of the images in {rows.source}, but such as {next(iter(named))}. Paths relative to the "
            "folder of the images are expected, as in the groups.csv of `keras-transfer check`."
        )
    if len(named) > known:
        logger.warning("%d images of %s are not in %s", len(named) - known, path, rows.source)
    given = np.array([named.get(name, f"alone: {name}") for name in names])
    if rows.groups is None:
        return replace(rows, groups=given)
    joined = units_of(names, [rows.groups, given], 0)
    return replace(rows, groups=np.array([f"group {one}" for one in joined]))


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(
            f"There is no file of groups {path}. `keras-transfer check DATA --output FOLDER` writes one."
        ) from None
    except OSError as error:
        raise UsageError(f"The file of groups {path} cannot be read: {error.strerror}.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"path", "group"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(map(repr, sorted(missing)))}. Expected path,group."
        )
    found: dict[str, str] = {}
    for row in reader:
        name, group = row["path"], (row["group"] or "").strip()
        if not group:
            continue
        if found.setdefault(name, group) != group:
            raise DataError(
                f"{path}, line {reader.line_num}: {name!r} is in the groups {found[name]!r} and {group!r}. "
                "Keep one row."
            )
    return found
