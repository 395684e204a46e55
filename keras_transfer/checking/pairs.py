"""Copies, near-duplicates, and both across labels and splits; groups across splits."""

from __future__ import annotations

from collections import Counter, defaultdict

from keras_transfer.checking.issues import Issue
from keras_transfer.checking.near import Pair
from keras_transfer.data.table import SPLITS, ImageTable


def copy_issues(table: ImageTable) -> list[Issue]:
    """Images that are there twice, byte for byte; worse where the labels differ, or the splits."""
    same: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(table.sha256):
        same[digest].append(row)
    found = []
    for first, *others in same.values():
        rows = [first, *others]
        differ = len({table.label_text(row) for row in rows}) > 1
        for row in others:
            if not differ:
                text = f"It is the same file as {table.images.describe(first)}."
                found.append(_pair("copies", table, row, first, 1.0, text))
            if table.splits[row] != table.splits[first]:
                found.append(_leak(table, row, first, 1.0, "the same file"))
        if differ:
            for row in rows:
                other = next(one for one in rows if table.label_text(one) != table.label_text(row))
                text = (
                    f"It is labelled {table.label_text(row)!r}, and the same file {table.images.describe(other)} is "
                    f"labelled {table.label_text(other)!r}."
                )
                found.append(_pair("conflicts", table, row, other, 1.0, text))
    return found


def near_issues(table: ImageTable, pairs: list[Pair]) -> list[Issue]:
    """Near-duplicates, and those of them that are in two splits."""
    found = []
    for pair in pairs:
        one, other = pair.second, pair.first
        labels = ""
        if table.label_text(one) != table.label_text(other):
            labels = f"; the labels differ ({table.label_text(one)!r}, {table.label_text(other)!r})"
        text = f"It shows the same picture as {table.images.describe(other)} (likeness {pair.likeness:.2f}){labels}."
        found.append(_pair("near-duplicates", table, one, other, pair.likeness, text))
        if table.splits[one] != table.splits[other]:
            found.append(_leak(table, one, other, pair.likeness, "nearly the same picture"))
    return found


def group_issues(table: ImageTable) -> list[Issue]:
    """Groups of images (one person, one module, one day) that are in more than one split."""
    if table.groups is None:
        return []
    by_group: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(table.groups.tolist()):
        by_group[group].append(row)
    found = []
    for group, rows in by_group.items():
        first = {split: row for row in reversed(rows) for split in [table.splits[row]]}
        there = [split for split in SPLITS if split in first]
        if len(there) < 2:
            continue
        counts = Counter(table.splits[rows].tolist())
        text = (
            f"Its {len(rows)} images are in {' and '.join(f'{split} ({counts[split]})' for split in there)}: what is "
            "measured there is flattered."
        )
        row, other = first[there[-1]], first[there[0]]
        found.append(Issue("torn-groups", group, 1.0, text, table.images.describe(row), row, other))
    return found


def _leak(table: ImageTable, one: int, other: int, score: float, what: str) -> Issue:
    """The image that is to be left out, of training where one of them is there, comes first."""
    if table.splits[other] == "train" or table.splits[one] == "test":
        one, other = other, one
    text = (
        f"It is in {table.splits[one]}, and {what} {table.images.describe(other)} is in {table.splits[other]}: what is "
        "measured there is flattered."
    )
    return _pair("leaks", table, one, other, score, text)


def _pair(kind: str, table: ImageTable, one: int, other: int, score: float, text: str) -> Issue:
    describe = table.images.describe
    return Issue(kind, describe(one), score, text, describe(other), one, other)
