"""The picture of a network's cost: where its multiplications, its weights and its memory are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_transfer.backbones.description_text import count, size, times
from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, new_figure, save_figure, shorten

if TYPE_CHECKING:
    from keras_transfer.backbones.description import Description

PANELS = (
    ("multiply_adds", "multiply-adds", ACCENT, count),
    ("parameters", "parameters", SOFT, count),
    ("activation_bytes", "memory of activations", "#8a8f98", size),
)


def cost_chart(descriptions: Sequence[Description], path: Path) -> None:
    """Draw what each block costs as bars, the first block on top: multiply-adds, parameters, activations.

    Args:
        descriptions: one network, or several below one another with the same scale for each kind of cost.
        path: the picture to write.
    """
    tallest = sum(len(one.blocks) for one in descriptions)
    figure, grid = new_figure(
        11, 1.0 + 0.24 * tallest + 0.5 * len(descriptions), columns=len(PANELS), rows=len(descriptions)
    )
    for one, axes in zip(descriptions, [grid] if len(descriptions) == 1 else grid, strict=True):
        names = [shorten(block.name) for block in one.blocks]
        for column, (axis, (key, title, colour, text)) in enumerate(zip(axes, PANELS, strict=True)):
            values = [getattr(block, key) or 0 for block in one.blocks]
            most = max(getattr(block, key) or 0 for each in descriptions for block in each.blocks)
            bars = axis.barh(range(len(names)), values, color=colour, height=0.7)
            axis.bar_label(
                bars, [text(value) if value else "" for value in values], padding=3, fontsize=7, color=INK
            )
            axis.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=8)
            axis.set_xlim(0, max(most, 1) * 1.3)
            axis.set_xticks([])
            axis.invert_yaxis()
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            total = getattr(one.totals, key)
            axis.set_title(f"{title}: {text(total)}", color=INK, fontsize=9)
        axes[0].set_ylabel(f"{one.name}\n{times(one.input_shape)}", color=INK)
    save_figure(figure, path)
