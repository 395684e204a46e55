"""Labels that are too large to be held in an array: loaded with their image, moved with it by augmentation."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from keras_transfer.preprocessing import Preprocessing


class Targets(Protocol):
    """The ``labels`` of an :class:`ImageTable` of label mode ``targets``: one target per image, such as a mask.

    Row ``i`` belongs to image ``i``; ``len`` and indexing by an array of rows are those of an array.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> Targets:
        """The targets of some rows, in the order given."""

    def text(self, i: int) -> str:
        """What stands for target ``i`` in ``split.csv``; it changes when the target's content does."""

    def load(self, i: int, preprocessing: Preprocessing) -> np.ndarray:
        """Target ``i`` at the model's size, int32; of one shape for all. ``DataError`` when it is gone or damaged."""
