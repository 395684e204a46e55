"""The contact sheet of images that are to be labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transfer.evaluation.plots import INK, new_figure, save_figure, shorten
from keras_transfer.preprocessing import Preprocessing

INCHES = 1.5
COLUMNS, MOST = 8, 64
"""Images in a row, and on the sheet."""


def picks_sheet(
    paths: Sequence[str], captions: Sequence[str], preprocessing: Preprocessing, path: Path
) -> None:
    """Draw images as the network sees them, in rows, the first :data:`MOST` of them.

    Args:
        paths: of the images, at least one.
        captions: what stands above each.
        preprocessing: brings the images to one size.
        path: the picture to write.
    """
    shown = list(zip(paths, captions, strict=True))[:MOST]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = new_figure(max(INCHES * columns, 3.2), (INCHES + 0.25) * rows + 0.3, columns, rows)
    axes = np.ravel(grid)
    for axis in axes:
        axis.set_axis_off()
    for axis, (one, caption) in zip(axes, shown, strict=False):
        axis.imshow(preprocessing.load(Path(one)))
        axis.set_title(shorten(caption), fontsize=7, color=INK)
    more = f", the first {len(shown)} of {len(paths)}" if len(paths) > len(shown) else ""
    figure.suptitle(f"To be labelled{more}", color=INK, fontsize=10)
    save_figure(figure, path)
