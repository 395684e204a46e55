"""The contact sheet of a search by similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transfer.evaluation.plots import ACCENT, INK, new_figure, save_figure, shorten
from keras_transfer.preprocessing import Preprocessing

INCHES = 1.5


def similar_sheet(queries: Sequence[Mapping[str, Any]], preprocessing: Preprocessing, path: Path) -> None:
    """Draw each query, and beside it the images most like it, as the network sees them.

    Args:
        queries: ``path`` and ``nearest`` (``path``, ``similarity``), see
            :class:`keras_transfer.workflow.similar.Similar`.
        preprocessing: brings the images to one size.
        path: the picture to write.
    """
    columns = 1 + max(len(query["nearest"]) for query in queries)
    figure, grid = new_figure(
        INCHES * columns, (INCHES + 0.35) * len(queries), columns=columns, rows=len(queries)
    )
    rows = [grid] if len(queries) == 1 else grid
    for query, axes in zip(queries, rows, strict=True):
        for axis in axes:
            axis.set_axis_off()
        axes[0].imshow(preprocessing.load(Path(query["path"])))
        axes[0].set_title(shorten(Path(query["path"]).name), fontsize=7, color=ACCENT)
        for axis, found in zip(axes[1:], query["nearest"], strict=False):
            axis.imshow(preprocessing.load(Path(found["path"])))
            axis.set_title(
                f"{found['similarity']:.3f}\n{shorten(Path(found['path']).name)}", fontsize=7, color=INK
            )
    save_figure(figure, path)
