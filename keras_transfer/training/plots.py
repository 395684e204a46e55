"""Pictures of what happens before and during training. Every function writes one PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, new_figure, save_figure

if TYPE_CHECKING:
    from keras_transfer.training.lr_finder import LearningRateFinding


def lr_finder_plot(finding: LearningRateFinding, path: Path) -> None:
    """Draw a learning-rate range test: the losses, their average, and the rates that can be read from it.

    Args:
        finding: what ``training.lr_finder.find_learning_rate`` gave.
        path: the PNG to write.
    """
    figure, axes = new_figure(6.4, 3.8)
    axes.semilogx(finding.rates, finding.losses, ".", markersize=4, color=SOFT, alpha=0.6, label="one batch")
    axes.semilogx(finding.rates, finding.smoothed, color=ACCENT, label="smoothed")
    axes.axvline(finding.suggestion, color=INK, linestyle=":", label=f"suggested: {finding.suggestion:.2g}")
    if finding.diverged_at is not None:
        axes.axvline(
            finding.diverged_at, color=SOFT, linestyle=":", label=f"stopped: {finding.diverged_at:.2g}"
        )
    # One wild batch at the end would press everything else flat.
    top, bottom = max(finding.smoothed), min(finding.smoothed)
    axes.set_ylim(bottom - 0.15 * (top - bottom), top + 0.15 * (top - bottom))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.set_title("Learning-rate range test", color=INK)
    axes.legend(frameon=False)
    save_figure(figure, path)
