"""Clusters of near-duplicates as the groups of a split: ``path,group``."""

from __future__ import annotations

import csv
import io

from keras_transfer.data.table import ImageTable


def group_names(clusters: list[list[int]]) -> dict[int, str]:
    """The group of each row that is in a cluster, in the order of the clusters."""
    width = len(str(len(clusters)))
    return {row: f"near-{number:0{width}d}" for number, rows in enumerate(clusters, 1) for row in rows}


def groups_csv(table: ImageTable, clusters: list[list[int]]) -> str:
    """What ``train --groups`` takes; an image that is in no cluster is not in it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "group"))
    for row, group in group_names(clusters).items():
        writer.writerow((table.images.name(row), group))
    return text.getvalue()
