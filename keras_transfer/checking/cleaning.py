"""What a table is without the images of some findings: as a CSV that ``load_data`` takes, and what was left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from keras_transfer.checking.issues import DROPS, Issue
from keras_transfer.data.table import ImageTable, PathImages
from keras_transfer.errors import UsageError, unknown_name

COLUMNS = ("path", "label", "split", "group", "weight", "sha256", "kind")
LEFT_OUT = ("path", "label", "issue", "score", "why")


def require_drops(kinds: Sequence[str]) -> None:
    """``UsageError`` for a kind of finding that names no image to leave out."""
    for kind in kinds:
        if kind not in DROPS:
            raise unknown_name("kind of finding to drop", kind, DROPS)


def left_out(issues: Sequence[Issue], kinds: Sequence[str]) -> dict[int, Issue]:
    """The rows to leave out, and the first finding that says so.

    Of a pair the image that the finding is about goes, unless the other one is gone already.
    """
    require_drops(kinds)
    found: dict[int, Issue] = {}
    for issue in issues:
        if issue.kind not in kinds or issue.row is None:
            continue
        if issue.kind != "conflicts" and issue.other_row is not None and issue.other_row in found:
            continue
        found.setdefault(issue.row, issue)
    return found


def cleaned_csv(
    table: ImageTable, without: dict[int, Issue], groups: dict[int, str], *, path: Path, splits: bool
) -> str:
    """The rest of a table as the text of a CSV.

    Args:
        without: rows that are left out.
        groups: of rows of near-duplicates that stay.
        path: where it is to lie: paths are relative to its folder where the images are below it, else to the images'
            own root.
        splits: whether the splits were given with the data, and stay.
    """
    if not isinstance(table.images, PathImages):
        raise UsageError(
            "A cleaned table names files; these images are in an array. Leave out the rows yourself."
        )
    prefix = _prefix(table.images.root, path)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = [name for name in COLUMNS if splits or name != "split"]
    writer.writerow(columns)
    for row in range(len(table)):
        if row in without:
            continue
        own = "" if table.groups is None else str(table.groups[row])
        values = {
            "path": prefix + table.images.name(row),
            "label": table.label_text(row),
            "split": str(table.splits[row]),
            "group": own if splits or table.groups is not None else groups.get(row, ""),
            "weight": repr(float(table.weights[row])),
            "sha256": table.sha256[row],
            "kind": table.label_mode,
        }
        writer.writerow([values[name] for name in columns])
    return text.getvalue()


def left_out_csv(table: ImageTable, without: dict[int, Issue]) -> str:
    """What was left out, and why, as the text of a CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LEFT_OUT)
    for row, issue in sorted(without.items()):
        values = (table.images.name(row), table.label_text(row), issue.kind, f"{issue.score:.4f}", issue.text)
        writer.writerow(values)
    return text.getvalue()


def needs_root(table: ImageTable, path: Path) -> bool:
    """Whether a CSV at ``path`` has to be told where the images are (``--image-root``)."""
    return isinstance(table.images, PathImages) and not _below(table.images.root, path)


def _below(root: Path, path: Path) -> bool:
    return path.absolute().parent in (root.absolute(), *root.absolute().parents)


def _prefix(root: Path, path: Path) -> str:
    if not _below(root, path):
        return ""
    inside = root.absolute().relative_to(path.absolute().parent).as_posix()
    return "" if inside == "." else f"{inside}/"
