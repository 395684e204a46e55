"""Masks as the labels of the core's table: loaded with their image, never interpolated."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from keras_transfer.preprocessing import Preprocessing
from keras_transfer_segmentation.pairs import Pairs

_KEPT_BYTES = 256_000_000  # of masks at the model's size


@dataclass(frozen=True, eq=False)
class MaskColumn:
    """The masks of some rows of :class:`Pairs`; see :class:`keras_transfer.data.targets.Targets`."""

    pairs: Pairs
    rows: np.ndarray
    _kept: OrderedDict = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray) -> MaskColumn:
        return MaskColumn(self.pairs, self.rows[np.asarray(rows, np.int64)], self._kept)

    def text(self, i: int) -> str:
        """Stands for mask ``i`` in ``split.csv``: the hash of image and mask together."""
        return f"mask {self.pairs.sha256[self.rows[i]][:16]}"

    def own(self, i: int) -> np.ndarray:
        """Mask ``i`` (h, w), as it is."""
        return self.pairs.mask(int(self.rows[i]))

    def load(self, i: int, preprocessing: Preprocessing) -> np.ndarray:
        """Mask ``i`` int32 (H, W) at the model's size. A few hundred stay in memory: every epoch asks again."""
        row = int(self.rows[i])
        key = (row, preprocessing)
        if key not in self._kept:
            mask = self.pairs.mask(row, preprocessing).astype(self.pairs.classes.dtype)
            self._kept[key] = mask
            while len(self._kept) * mask.nbytes > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return self._kept[key].astype(np.int32)
