"""What people would rather look at than read. Every function writes one picture (PNG, SVG or PDF by its suffix)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_transfer.paths import atomic_write

INK, ACCENT, SOFT = "#222831", "#0b7a75", "#d1495b"
MOST_NUMBERED = 20
"""Confusion matrices with more classes are drawn without a number in every cell."""


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: counts as numbers, each row's shares as colour.

    Args:
        counts: ``(C, C)``, rows truth, columns prediction.
        classes: the ``C`` names.
        path: the PNG to write.
    """
    matrix = np.asarray(counts, float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.45 * len(classes), 24)
    names_width = 0.09 * max(len(shorten(name)) for name in classes)
    figure, axes = new_figure(size + 1.4 + names_width, size)
    image = axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1)
    small = len(classes) <= MOST_NUMBERED
    if small:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=colour)
    step = max(1, len(classes) // 60)
    ticks = range(0, len(classes), step)
    names = [shorten(classes[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90 if len(classes) > 4 else 0)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Confusion matrix, {int(matrix.sum())} images", color=INK)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    save_figure(figure, path)


def learning_curves(rows: Sequence[Mapping[str, Any]], path: Path, metric: str = "accuracy") -> None:
    """Draw loss and a metric of training and validation over the epochs.

    Args:
        rows: one dictionary per epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.
        path: the PNG to write.
        metric: what is drawn beside the loss.
    """
    figure, axes = new_figure(9, 3.6, columns=2)
    for axis, name in zip(axes, ("loss", metric), strict=True):
        for key, label, colour in ((name, "training", SOFT), (f"val_{name}", "validation", ACCENT)):
            points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", markersize=4, label=label, color=colour)
        axis.set_xlabel("epoch (0: the probe)" if rows and rows[0].get("epoch") == 0 else "epoch")
        axis.set_ylabel(name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
    save_figure(figure, path)


def regularisation_curve(trials: Sequence[Mapping[str, Any]], chosen: float, path: Path) -> None:
    """Draw the probe's training and validation loss over the regularisation strengths that were tried.

    Args:
        trials: dictionaries with ``C``, ``train_loss``, ``val_loss``.
        chosen: the strength that won.
        path: the PNG to write.
    """
    figure, axes = new_figure(5.6, 3.6)
    strengths = [trial["C"] for trial in trials]
    axes.semilogx(strengths, [trial["train_loss"] for trial in trials], "o-", label="training", color=SOFT)
    axes.semilogx(strengths, [trial["val_loss"] for trial in trials], "o-", label="validation", color=ACCENT)
    axes.axvline(chosen, color=INK, linestyle=":", label=f"chosen: {chosen:.2g}")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")  # 0.01, not ten to the minus two: typeset mathematics is slow
    axes.set_xlabel("C (inverse regularisation strength)")
    axes.set_ylabel("log loss")
    axes.set_title("The linear probe", color=INK)
    axes.legend(frameon=False)
    save_figure(figure, path)


def artefact_chart(artefacts: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Compare exported artefacts: accuracy beside the Keras model's, size, latency.

    Args:
        artefacts: the ``artefacts`` of an export report: ``file``, ``accuracy``, ``keras_accuracy``, ``bytes``,
            ``milliseconds``.
        path: the PNG to write.
    """
    names = [artefact["file"].rstrip("/") for artefact in artefacts]
    figure, axes = new_figure(10.5, 1.2 + 0.45 * len(names), columns=3)
    panels = (
        ("accuracy (%)", [100 * (artefact["accuracy"] or 0) for artefact in artefacts], "{:.1f}"),
        ("size (MB)", [artefact["bytes"] / 1e6 for artefact in artefacts], "{:.1f}"),
        ("latency, one image (ms)", [artefact["milliseconds"] for artefact in artefacts], "{:.0f}"),
    )
    for axis, (title, values, form) in zip(axes, panels, strict=True):
        bars = axis.barh(names, values, color=ACCENT, height=0.6)
        axis.bar_label(bars, [form.format(value) for value in values], padding=3, color=INK)
        axis.set_title(title, color=INK, fontsize=10)
        axis.set_xlim(0, max([*values, 1e-9]) * 1.22)
        axis.invert_yaxis()
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        if axis is not axes[0]:
            axis.set_yticklabels([])
    reference = artefacts[0].get("keras_accuracy") if artefacts else None
    if reference is not None:
        axes[0].axvline(100 * reference, color=SOFT, linestyle=":")
        axes[0].set_title(f"accuracy (%); dotted: Keras, {100 * reference:.1f}", color=INK, fontsize=10)
    save_figure(figure, path)


def latency_chart(timings: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Compare the latencies of artefacts: the median as a bar, up to the slowest percent as a line.

    Args:
        timings: rows with ``file``, ``threads``, ``p50``, ``p99`` (milliseconds), ``ratio`` (to Keras, or None).
        path: the picture to write.
    """
    figure, axis = new_figure(8.0, 1.2 + 0.4 * len(timings))
    names = [f"{row['file'].rstrip('/')}, {row['threads']} thr." for row in timings]
    medians = [row["p50"] for row in timings]
    slowest = [max(row["p99"] - row["p50"], 0.0) for row in timings]
    counts = sorted({row["threads"] for row in timings})
    colours = [ACCENT if row["threads"] == counts[-1] else SOFT for row in timings]
    bars = axis.barh(
        names, medians, xerr=[[0.0] * len(timings), slowest], color=colours, height=0.6, ecolor=INK
    )
    texts = [
        f"{row['p50']:.1f}" + ("" if row["ratio"] is None else f" ({row['ratio']:.1f}x Keras)")
        for row in timings
    ]
    axis.bar_label(bars, texts, padding=3, color=INK)
    axis.set_xlim(0, max(row["p99"] for row in timings) * 1.35)
    axis.set_xlabel("milliseconds per image, median; the line ends at the 99th percentile")
    axis.invert_yaxis()
    save_figure(figure, path)


def doctor_chart(
    layers: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """What eight bits cost: the layers with the largest errors, and the accuracy with the worst ones in float.

    Args:
        layers: ``layer`` and ``error`` (in steps of the scale), the worst first; 20 are shown.
        trials: ``keep`` and ``accuracy``; ``keep`` None is the Keras model.
        path: the picture to write.
    """
    shown = layers[:20]
    figure, (left, right) = new_figure(12.0, 1.5 + 0.28 * len(shown), columns=2)
    names = [f"{place + 1}  {shorten(row['layer'])}" for place, row in enumerate(shown)]
    left.barh(names, [row["error"] or 0.0 for row in shown], color=ACCENT, height=0.6)
    left.axvline(12**-0.5, color=SOFT, linestyle=":")
    left.set_xlabel("error added by an operator, in steps of its scale; dotted: rounding alone")
    left.invert_yaxis()
    kept = [row for row in trials if row["keep"] is not None]
    right.plot(
        [row["keep"] for row in kept], [100 * row["accuracy"] for row in kept], color=ACCENT, marker="o"
    )
    for row in trials:
        if row["keep"] is None:
            right.axhline(100 * row["accuracy"], color=SOFT, linestyle=":", label="Keras")
            right.legend(frameon=False)
    right.set_xticks([row["keep"] for row in kept])
    right.set_xlabel("worst layers kept in float")
    right.set_ylabel("accuracy (%)")
    save_figure(figure, path)


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure of so many inches that no display is needed for, and its axes (one, or an array of rows and columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def shorten(name: str) -> str:
    """A name of at most 24 characters, without signs that Matplotlib takes for mathematics."""
    shown = name if len(name) <= 24 else name[:23] + "…"
    return shown.replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write it in the format that the suffix names, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format=path.suffix[1:].lower())
    atomic_write(path, buffer.getvalue())
