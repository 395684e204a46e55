"""All checks of a table, in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_transfer.checking.balance import balance_issues
from keras_transfer.checking.issues import Issue, in_order
from keras_transfer.checking.label_errors import (
    Doubt,
    doubts_of_classes,
    doubts_of_labels,
    doubts_of_numbers,
)
from keras_transfer.checking.looks import file_issues, look_issues
from keras_transfer.checking.near import clusters, directions_of, near_pairs, nearest
from keras_transfer.checking.outliers import NEIGHBOURS, outliers
from keras_transfer.checking.pairs import copy_issues, group_issues, near_issues
from keras_transfer.checking.pictures import Closer, Pictures
from keras_transfer.checking.shortcuts import shortcut_issues
from keras_transfer.data.table import ImageTable


@dataclass(frozen=True, eq=False)
class Found:
    """Everything that was found: issues in order, and clusters of near-duplicates as lists of rows."""

    issues: list[Issue]
    clusters: list[list[int]]


def check_table(table: ImageTable, features: np.ndarray, pictures: Pictures, seed: int = 0) -> Found:
    """Check images, labels and splits.

    Args:
        table: of classes, several labels or numbers.
        features: float ``(N, D)``, a pretrained network's.
        pictures: of the same images.
        seed: of the folds.
    """
    directions = directions_of(features)
    pairs = near_pairs(directions, pictures.small, table.sha256, Closer(table))
    cosines, _ = nearest(directions, directions, NEIGHBOURS)
    issues = [
        *file_issues(table),
        *look_issues(table, pictures),
        *copy_issues(table),
        *near_issues(table, pairs),
        *group_issues(table),
        *(_label_issue(table, doubt) for doubt in _doubts(table, features, seed)),
        *shortcut_issues(table, pictures, seed),
        *balance_issues(table),
    ]
    for row, score in outliers(cosines):
        text = f"Its nearest neighbours are far: cosine {cosines[row].mean():.2f}, usually {np.median(cosines):.2f}."
        issues.append(Issue("outliers", table.images.describe(row), score, text, row=row))
    return Found(in_order(issues), clusters(pairs))


def _doubts(table: ImageTable, features: np.ndarray, seed: int) -> list[Doubt]:
    if table.label_mode == "classes":
        return doubts_of_classes(features, table.labels.astype(np.int64), table.classes, seed)
    if table.label_mode == "multilabel":
        return doubts_of_labels(features, table.labels, table.classes, seed)
    return doubts_of_numbers(features, np.asarray(table.labels, np.float64), seed)


def _label_issue(table: ImageTable, doubt: Doubt) -> Issue:
    text = (
        f"It is labelled {doubt.given!r}; what was learned from the other images expects {doubt.expected!r}."
    )
    return Issue(
        "label-errors",
        table.images.describe(doubt.row),
        doubt.score,
        text,
        other=doubt.expected,
        row=doubt.row,
    )
