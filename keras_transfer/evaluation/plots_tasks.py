"""Pictures of the multi-label and the regression task. Every function writes one PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, new_figure, save_figure, shorten

MOST_CURVES = 10
"""With more labels, only the most frequent get a curve of their own."""


def precision_recall_curves(
    probabilities: np.ndarray, labels: np.ndarray, per_class: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    """Draw precision against recall for every label that occurs, with a dot at its threshold.

    Args:
        probabilities: float ``(N, C)`` in [0, 1].
        labels: ``(N, C)`` of 0 and 1.
        per_class: of ``multilabel_metrics``, for the names in the order of the columns, and the dots.
        path: the PNG to write.
    """
    rows = [(i, name, row) for i, (name, row) in enumerate(per_class.items()) if row["images"]]
    shown = sorted(rows, key=lambda item: -item[2]["images"])[:MOST_CURVES]
    figure, axes = new_figure(7.2, 4.4)
    for i, name, row in shown:
        precision, recall, _ = precision_recall_curve(labels[:, i] > 0, probabilities[:, i])
        label = f"{shorten(name)} ({row['average_precision']:.2f})"
        (line,) = axes.plot(recall, precision, drawstyle="steps-post", label=label)
        if row["precision"] is not None:
            axes.plot(row["recall"], row["precision"], "o", color=line.get_color())
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    left_out = f", the {len(shown)} most frequent of {len(rows)} labels" if len(rows) > len(shown) else ""
    axes.set_title(f"{len(labels)} images{left_out}; dots: at the threshold", color=INK, fontsize=10)
    if shown:
        axes.legend(
            frameon=False, title="label (average precision)", loc="center left", bbox_to_anchor=(1, 0.5)
        )
    save_figure(figure, path)


def predicted_against_true(
    values: np.ndarray, targets: np.ndarray, per_target: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    """Draw what the model says against what is true, one panel a target; on the dotted line both are equal.

    Args:
        values: float ``(N, T)``, what the model says.
        targets: float ``(N, T)``, what is true.
        per_target: of ``regression_metrics``, for the names in the order of the columns and the errors.
        path: the PNG to write.
    """
    figure, panels = new_figure(4.4 * len(per_target), 4.2, columns=len(per_target))
    for i, (axes, (name, row)) in enumerate(zip(np.atleast_1d(panels), per_target.items(), strict=True)):
        both = np.concatenate([values[:, i], targets[:, i]])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, linestyle=":", color=INK)
        axes.scatter(targets[:, i], values[:, i], s=16, alpha=0.6, color=ACCENT, linewidths=0)
        axes.set_xlabel(f"true {shorten(name)}")
        axes.set_ylabel(f"predicted {shorten(name)}")
        axes.set_title(f"{len(values)} images, mean absolute error {row['mae']:.3g}", color=INK, fontsize=10)
    save_figure(figure, path)


def loss_curves(
    trials: Sequence[Mapping[str, Any]], over: str, path: Path, *, loss: str, chosen: float | None = None
) -> None:
    """Draw the training and the validation loss of a probe over what was tried.

    Args:
        trials: dictionaries with ``train_loss``, ``val_loss`` and the key ``over``.
        over: ``"epoch"``, or the name of a regularisation strength, which is drawn on a logarithmic axis.
        path: the PNG to write.
        loss: what the loss is called.
        chosen: the strength that won.
    """
    figure, axes = new_figure(5.6, 3.6)
    for key, label, colour in (("train_loss", "training", SOFT), ("val_loss", "validation", ACCENT)):
        axes.plot(
            [trial[over] for trial in trials],
            [trial[key] for trial in trials],
            "o-",
            markersize=4,
            label=label,
            color=colour,
        )
    if chosen is not None:
        axes.set_xscale("log")
        axes.axvline(chosen, color=INK, linestyle=":", label=f"chosen: {chosen:.2g}")
    axes.set_xlabel(over)
    axes.set_ylabel(loss)
    axes.set_title("The probe", color=INK)
    axes.legend(frameon=False)
    save_figure(figure, path)
