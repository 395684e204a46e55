"""Train, validation and test with classes of their own: what one-shot and metric learning are measured on.

The unit that is dealt out is a class, together with every other class of its group (an alphabet, say) and every class
that shares a byte-identical image with it. Units come in the order of a hash of the seed and of their own content, so
neither the order of the rows nor where the images lie matters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from keras_transfer.data.labels import Labels
from keras_transfer.data.splits import units_of
from keras_transfer.data.table import SPLITS
from keras_transfer.errors import DataError, UsageError

logger = logging.getLogger("keras_transfer")

LEAST = 2
"""Classes a split has at least: with one nothing can be told apart."""


def class_splits(
    labels: Labels,
    sha256: Sequence[str],
    groups: np.ndarray | None,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> np.ndarray:
    """Deal all classes out; the fractions are shares of the classes.

    Every split that is asked for gets at least two classes where there are enough; with too few there is no validation
    split, and a warning.

    Returns:
        str (N,) of ``train``, ``val``, ``test``.

    Raises:
        UsageError: labels that are no single classes. DataError: too few classes.
    """
    if labels.label_mode != "classes":
        raise UsageError(f"Only single classes can be kept apart; these labels are {labels.label_mode}.")
    columns = [labels.values, *([] if groups is None else [groups])]
    unit_of_row = units_of(sha256, columns, seed)
    pairs = np.unique(np.stack([unit_of_row, labels.values]), axis=1)
    sizes = np.bincount(pairs[0])
    wanted = _wanted(int(sizes.sum()), val_fraction, test_fraction)
    left = {split: float(count) for split, count in wanted.items() if count}
    placed = []
    for size in sizes.tolist():
        # Of equals train comes first, and validation last.
        chosen = max(left, key=lambda split: left[split] / wanted[split])
        left[chosen] -= size
        placed.append(chosen)
    empty = [split for split in left if split not in placed]
    if empty:
        logger.warning(
            "The classes come in %d groups that cannot be divided: there is no %s split.",
            len(sizes),
            " and no ".join(empty),
        )
    return np.array(placed, dtype=f"<U{max(map(len, SPLITS))}")[unit_of_row]


def _wanted(count: int, val_fraction: float, test_fraction: float) -> dict[str, int]:
    """Classes of each split, in the order in which equals are served."""

    def share(fraction: float) -> int:
        return max(LEAST, round(count * fraction)) if fraction > 1e-9 else 0

    test, val = share(test_fraction), share(val_fraction)
    learning = val_fraction + test_fraction < 1 - 1e-9
    least = LEAST if learning else 0
    if count - test - val < least and val and count - test >= least:
        logger.warning(
            "%d classes are too few to keep some for validation: there is no val split. From %d on there is.",
            count,
            3 * LEAST,
        )
        val = 0
    if count - test - val < least:
        raise DataError(
            f"There are {count} classes; split by class, train and test need at least {LEAST} each, and validation as "
            "many. Add classes, or pass --test-fraction 0 and give classes to be measured on separately."
        )
    return {
        "train": count - test - val if learning else 0,
        "test": test if learning else count - val,
        "val": val,
    }
