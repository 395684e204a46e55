"""How many images each class has, and where."""

from __future__ import annotations

import numpy as np

from keras_transfer.checking.issues import Issue
from keras_transfer.data.table import SPLITS, ImageTable

FEW = 10
"""Images of a class, below which a probe has little to go by."""
UNEQUAL = 10.0
"""The largest class has so many times the images of the smallest."""


def balance_issues(table: ImageTable) -> list[Issue]:
    """Classes with few images, without images in a split that others have, and of very unequal size."""
    if table.label_mode not in ("classes", "multilabel"):
        return []
    counts = {split: _counts(table, table.indices(split)) for split in SPLITS}
    total = np.sum(list(counts.values()), axis=0)
    found = []
    for place, name in enumerate(table.classes):
        if total[place] < FEW:
            images = "image" if total[place] == 1 else "images"
            found.append(
                Issue("few", name, 1 - total[place] / FEW, f"The class has {total[place]} {images}.")
            )
        for split in SPLITS:
            if len(table.indices(split)) and not counts[split][place] and total[place]:
                found.append(Issue("absent", name, 1.0, f"The class has no image in the {split} split."))
    if len(total) > 1 and total.max() > UNEQUAL * max(int(total.min()), 1):
        most, least = (table.classes[at] for at in (int(total.argmax()), int(total.argmin())))
        text = f"{most!r} has {total.max()} images, {least!r} has {total.min()}."
        found.append(Issue("imbalance", least, 1 - float(total.min() / total.max()), text, other=most))
    return found


def _counts(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    if table.label_mode == "classes":
        return np.bincount(table.labels[rows], minlength=len(table.classes))
    return table.labels[rows].sum(axis=0, dtype=np.int64)
