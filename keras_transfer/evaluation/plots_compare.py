"""The picture of a comparison: which network is worth its milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, save_figure

LARGEST = 900.0
"""Area of the largest bubble in square points; the others are in proportion to their size in bytes."""


def comparison_chart(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over latency, one bubble a backbone, its area the size of the file.

    Args:
        rows: of :func:`keras_transfer.workflow.compare.compare`: ``backbone``, ``milliseconds``, ``test_accuracy``,
            ``test_interval``, ``bytes``, ``front``; rows with an ``error`` are left out.
        path: the PNG to write.
    """
    shown = sorted((row for row in rows if not row.get("error")), key=lambda row: row["milliseconds"])
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    times = [row["milliseconds"] for row in shown]
    accuracy = [100 * row["test_accuracy"] for row in shown]
    colours = [ACCENT if row["front"] else SOFT for row in shown]
    below = [value - 100 * row["test_interval"][0] for value, row in zip(accuracy, shown, strict=True)]
    above = [100 * row["test_interval"][1] - value for value, row in zip(accuracy, shown, strict=True)]
    front = [(x, y) for x, y, row in zip(times, accuracy, shown, strict=True) if row["front"]]
    axis.errorbar(
        times, accuracy, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.9, capsize=3, alpha=0.6
    )
    axis.step(*zip(*front, strict=True), where="post", color=ACCENT, linestyle="--", linewidth=1.2, zorder=1)
    largest = max(row["bytes"] for row in shown)
    areas = [max(LARGEST * row["bytes"] / largest, 12.0) for row in shown]
    axis.scatter(times, accuracy, s=areas, c=colours, alpha=0.75, edgecolors="white", zorder=3)
    _scale(axis, times)
    axis.set_xlabel("latency of one image, float32 .tflite (ms, logarithmic)")
    axis.set_ylabel("test accuracy (%), 95 % interval")
    axis.set_title("Backbones compared: area is file size", color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=_legend(), frameon=False, loc="outside lower center", ncols=2)
    names = [f"{row['backbone']}\n{row['bytes'] / 1e6:.3g} MB" for row in shown]
    _name(axis, list(zip(times, accuracy, strict=True)), areas, names)
    save_figure(figure, path)


def _scale(axis: Any, times: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.set_xlim(min(times) / 2, max(times) * 2)  # room for the names
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(y=0.15)


def _name(
    axis: Any, points: Sequence[tuple[float, float]], areas: Sequence[float], names: Sequence[str]
) -> None:
    """Put every name at that corner of its bubble where it covers the least of the bubbles and other names."""
    axis.figure.draw_without_rendering()
    axis.figure.set_layout_engine("none")  # what is measured from here on stays
    pixel = axis.figure.dpi / 72
    taken = []
    for point, area in zip(points, areas, strict=True):
        x, y = axis.transData.transform(point)
        radius = math.sqrt(area / math.pi) * pixel
        taken.append(Bbox([[x - radius, y - radius], [x + radius, y + radius]]))
    for point, area, name in zip(points, areas, names, strict=True):
        away = 0.8 * math.sqrt(area / math.pi) + 3
        best = None
        for right, up in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            text = axis.annotate(
                name,
                point,
                xytext=(right * away, up * away),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                fontsize=9,
                color=INK,
                zorder=4,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )
            box = text.get_window_extent()
            inside = Bbox.intersection(box, axis.bbox)
            outside = box.width * box.height - (inside.width * inside.height if inside else 0.0)
            cost = 3 * outside + sum(_shared(box, other) for other in taken)
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


def _shared(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0


def _legend() -> list[Line2D]:
    plain: dict[str, Any] = {"marker": "o", "markersize": 8, "markeredgecolor": "white"}
    front = "Pareto front: no other is as fast and as accurate"
    return [
        Line2D([], [], color=ACCENT, linestyle="--", label=front, **plain),
        Line2D([], [], color=SOFT, linestyle="none", label="another is as fast and as accurate", **plain),
    ]
