"""The reliability diagram: what a model says of itself, beside how often it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_transfer.evaluation.calibration import calibration_error
from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, save_figure


def reliability_plot(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Draw the bins before and after temperature scaling side by side, and below each how many images are in them.

    Args:
        before: what :func:`~keras_transfer.evaluation.calibration.reliability` gives for the model as trained.
        after: the same with the temperature folded in.
        path: the PNG to write.
    """
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", gridspec_kw={"height_ratios": (3, 1)})
    for column, (title, rows) in enumerate((("before", before), ("after temperature scaling", after))):
        _diagram(axes[0][column], title, rows)
        _histogram(axes[1][column], rows)
    axes[0][0].set_ylabel("accuracy")
    axes[0][0].legend(frameon=False, loc="upper left")
    axes[1][0].set_ylabel("images")
    save_figure(figure, path)


def _diagram(axis: Any, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    filled = [row for row in rows if row["images"]]
    width = [row["high"] - row["low"] for row in filled]
    left = [row["low"] for row in filled]
    accuracy = [row["accuracy"] for row in filled]
    over = [max(row["confidence"] - row["accuracy"], 0) for row in filled]
    under = [max(row["accuracy"] - row["confidence"], 0) for row in filled]
    low = [min(row["accuracy"], row["confidence"]) for row in filled]
    edge = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
    axis.bar(left, low, width, color=ACCENT, label="as right as it says", **edge)
    axis.bar(left, over, width, bottom=accuracy, color=SOFT, alpha=0.5, label="over-confident by", **edge)
    axis.bar(left, under, width, bottom=low, color=ACCENT, alpha=0.4, label="under-confident by", **edge)
    axis.plot([0, 1], [0, 1], ":", color=INK, linewidth=1.2, label="calibrated")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.set_title(f"{title}: ECE {100 * calibration_error(rows):.1f} %", color=INK)
    axis.spines[["top", "right"]].set_visible(False)


def _histogram(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    width = [row["high"] - row["low"] for row in rows]
    left, images = [row["low"] for row in rows], [row["images"] for row in rows]
    axis.bar(left, images, width, align="edge", color=INK, edgecolor="white", linewidth=0.8)
    axis.set_xlabel("confidence (probability of the predicted class)")
    axis.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    axis.spines[["top", "right"]].set_visible(False)
