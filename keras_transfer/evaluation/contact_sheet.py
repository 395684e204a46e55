"""A picture of what augmentation does to the training images, to see before training whether the class survives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_transfer.data.pipeline import batches, label_array
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.plots import INK, new_figure, save_figure, shorten
from keras_transfer.preprocessing import Preprocessing

if TYPE_CHECKING:
    from keras_transfer.data.augmentation import Augmenter

INCHES = 1.5
"""Of an image in the picture."""
GAP = 0.06
"""White between two images, as a share of an image's side."""


def draw_contact_sheet(
    table: ImageTable,
    preprocessing: Preprocessing,
    augmenter: Augmenter,
    path: Path,
    *,
    rows: int = 4,
    views: int = 6,
    labels: bool = True,
) -> None:
    """Draw training images as they are, and beside them as training will see them.

    The images are taken from all classes in turn. View ``v`` is what the key (v, v) gives; a policy that mixes
    images mixes those of the picture, and what is mixed into an image stands below it with its share.

    Args:
        table: its ``train`` split is drawn from.
        preprocessing: gives the size, the augmenter's.
        augmenter: what training will use.
        path: the PNG to write.
        rows: images, at least 1; fewer are drawn when there are fewer.
        views: augmented views of each, at least 1.
        labels: write the class names.

    Raises:
        UsageError: an impossible number of rows or views, or an augmenter of another size.
        DataError: no training image.
    """
    if rows < 1 or views < 1:
        raise UsageError(f"rows is {rows!r} and views is {views!r}; expected at least 1 each.")
    if preprocessing.size != augmenter.size:
        raise UsageError(f"The images are {preprocessing.size}, the augmenter is made for {augmenter.size}.")
    chosen = _spread(table, rows)
    originals = next(batches(table, preprocessing, len(chosen), indices=chosen))
    targets = None if table.label_mode == "regression" else label_array(table, one_hot=True)[chosen]
    names = [shorten(table.label_text(int(i))) for i in chosen]
    columns, notes = [originals], [[""] * len(chosen)]
    for view in range(views):
        pixels, mixed = augmenter.images(originals, (view, view)), targets
        if targets is not None and augmenter.mixes:
            pixels, mixed = augmenter.mix(pixels, targets, (view, view))
        columns.append(np.round(pixels).astype(np.uint8))
        notes.append(_mixed_in(table.classes, targets, mixed))
    _draw(
        columns,
        notes if labels else None,
        names if labels else None,
        f"Augmentation: {augmenter.policy}",
        path,
    )


def _spread(table: ImageTable, rows: int) -> np.ndarray:
    """Training rows from all classes in turn, the first of each first: int (n,), n at most ``rows``."""
    train = table.indices("train")
    if not len(train):
        raise DataError(f"{table.source}: no image is in the training split, so there is none to show.")
    keys = (
        [table.label_text(int(i)) for i in train] if table.label_mode != "regression" else [""] * len(train)
    )
    seen: dict[str, int] = {}
    turns = []
    for key in keys:
        turns.append(seen.get(key, 0))
        seen[key] = turns[-1] + 1
    return train[np.argsort(turns, kind="stable")[:rows]]


def _mixed_in(classes: tuple[str, ...], before: np.ndarray | None, after: np.ndarray | None) -> list[str]:
    """For each image the label it gained most of, with its share; "" where that is less than half a percent."""
    if before is None or after is None:
        return []
    gained = after - before
    return [
        f"{100 * row.max():.0f} % {shorten(classes[int(row.argmax())])}" if row.max() >= 0.005 else ""
        for row in gained
    ]


def _draw(
    columns: list[np.ndarray],
    notes: list[list[str]] | None,
    names: list[str] | None,
    title: str,
    path: Path,
) -> None:
    count, height, width = columns[0].shape[:3]
    gap = round(GAP * height)
    below = gap if notes is None or not any(map(any, notes)) else max(gap, round(0.16 * height))
    step_y, step_x = height + below, width + gap
    sheet = np.full((count * step_y, len(columns) * step_x - gap, 3), 255, np.uint8)
    figure, axes = new_figure(INCHES * sheet.shape[1] / height + 1.2, INCHES * sheet.shape[0] / height + 0.7)
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            top, left = row * step_y, column * step_x
            sheet[top : top + height, left : left + width] = image
            if notes and notes[column]:
                where = (left + width / 2, top + height + 0.02 * height)
                axes.text(*where, notes[column][row], ha="center", va="top", fontsize=8, color=INK)
    axes.imshow(sheet, interpolation="none")
    middles = [column * step_x + width / 2 for column in range(len(columns))]
    axes.set_xticks(middles, ["original", *(f"view {view + 1}" for view in range(len(columns) - 1))])
    axes.xaxis.tick_top()
    axes.set_yticks([row * step_y + height / 2 for row in range(count)], names or [""] * count)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=INK)
    save_figure(figure, path)
