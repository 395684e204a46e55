"""What a match said, to look at: the images that were asked about, each under its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from keras_transfer.decoding import decode
from keras_transfer.evaluation.plots import ACCENT, SOFT, save_figure, shorten

COLUMNS, MOST = 6, 36
SIDE = 240
"""Pixels of the longer side of an image in the picture."""


def match_sheet(answers: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the first 36 images that were answered, six a row.

    Args:
        answers: of :func:`keras_transfer_siamese.recognising.match`.
        path: ends in ``.png``, ``.svg`` or ``.pdf``.
    """
    shown = [answer for answer in answers if "error" not in answer][:MOST]
    columns = max(1, min(COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(1.6 * columns + 0.2, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in grid:
        axis.set_axis_off()
    for axis, answer in zip(grid, shown, strict=False):
        picture = Image.fromarray(decode(Path(answer["path"])))
        picture.thumbnail((SIDE, SIDE))
        axis.imshow(np.asarray(picture))
        nearest = f"{shorten(answer['candidates'][0]['name'])} {answer['score']:.2f}"
        known = answer["name"] is not None
        axis.set_title(
            nearest if known else f"unknown\n({nearest})", fontsize=8, color=ACCENT if known else SOFT
        )
    save_figure(figure, path)
