"""Images without labels, as a table: for what only looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transfer.data.assemble import Options, Rows, build_table
from keras_transfer.data.labels import Labels
from keras_transfer.data.table import ImageTable, PathImages


def unlabelled_table(paths: Sequence[Path], source: str, *, max_skipped: float = 0.05) -> ImageTable:
    """A table of image files in the order given, all of one class and in the training split.

    Unreadable files are set aside as in every table (``skipped``).

    Args:
        paths: the files.
        source: what they are called in messages.
        max_skipped: the largest share of unreadable images that is tolerated.

    Raises:
        DataError: too many unreadable images, or none that can be used.
    """
    labels = Labels("classes", ("image",), np.zeros(len(paths), np.int32), fixed=True)
    rows = Rows(
        source=source,
        images=PathImages(Path(), tuple(path.as_posix() for path in paths)),
        labels=labels,
        splits=np.full(len(paths), "train"),
    )
    options = Options(
        val_fraction=0.0, test_fraction=0.0, seed=0, max_skipped=max_skipped, min_per_class=0, split_from=None
    )
    return build_table(rows, options)
