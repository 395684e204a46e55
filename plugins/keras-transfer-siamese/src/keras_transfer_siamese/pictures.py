"""What is better looked at than read: ROC, scores of pairs, a map of embeddings, wrong matches. One PNG each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from keras_transfer.data import ImageTable
from keras_transfer.evaluation.plots import ACCENT, INK, SOFT, new_figure, save_figure, shorten
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.metrics import Compared
from keras_transfer_siamese.verification import pairs

MOST_NAMED = 20
"""Classes that get a colour and a name of their own in the map."""
ENOUGH_FOR_TSNE = 30
SHOWN = 8


def roc_curves(compared: Compared, metrics: Mapping[str, Any], comparison: Comparison, path: Path) -> None:
    """Draw true against false accepts of pairs, and beside it how many enrolled are found at what false alarms."""
    roc, strangers = compared.roc, metrics["open_set"]
    assert roc is not None
    figure, axes = new_figure(9.6, 4.2, columns=2)
    left, right = axes
    left.plot(roc.false_accepts, roc.true_accepts, color=ACCENT)
    left.set_xscale("symlog", linthresh=1e-3)
    left.set_xlim(0, 1)
    if comparison.threshold is not None:
        left.plot(*roc.at_threshold(comparison.threshold), "o", color=SOFT, label="the chosen threshold")
        left.legend(frameon=False, loc="lower right")
    left.set_xlabel("false accept rate")
    left.set_ylabel("true accept rate")
    error = metrics["equal_error_rate"]
    left.set_title(f"Is it the same? AUC {roc.auc:.3f}, equal error rate {error:.1%}", color=INK, fontsize=10)
    if strangers is not None:
        curve = strangers["curve"]
        right.plot(curve["false_alarms"], curve["identified"], color=ACCENT)
        right.set_title(f"Who is it, or nobody? AUROC {strangers['auroc']:.3f}", color=INK, fontsize=10)
    right.set_xlabel("strangers taken for somebody")
    right.set_ylabel("enrolled ones found")
    right.set_ylim(-0.02, 1.02)
    save_figure(figure, path)


def score_histograms(compared: Compared, comparison: Comparison, path: Path) -> None:
    """Draw how alike pairs of one class are, and pairs of two."""
    scores, same = pairs(compared.scores, compared.labels)
    edges = np.linspace(float(scores.min()), float(scores.max()) or 1.0, 60)
    figure, axes = new_figure(6.4, 3.6)
    for chosen, label, colour in ((~same, "different", SOFT), (same, "same", ACCENT)):
        axes.hist(scores[chosen], edges, density=True, alpha=0.6, color=colour, label=label)
    if comparison.threshold is not None:
        axes.axvline(comparison.threshold, color=INK, linestyle=":", label="threshold")
    axes.set_xlabel(f"{comparison.kind.replace('_', ' ')} of a pair")
    axes.set_ylabel("density")
    axes.legend(frameon=False, loc="upper left")
    save_figure(figure, path)


def embedding_map(compared: Compared, table: ImageTable, path: Path) -> None:
    """Draw the embeddings in two dimensions, a colour a class: t-SNE (van der Maaten & Hinton 2008) from PCA."""
    points = flattened(compared.embeddings)
    names = np.unique(compared.labels)
    figure, axes = new_figure(7.6, 5.2)
    for place, label in enumerate(names[:MOST_NAMED].tolist()):
        chosen = points[compared.labels == label]
        marker = "o" if place < 10 else "^"
        axes.scatter(
            *chosen.T, s=18, marker=marker, label=shorten(table.classes[label]), color=f"C{place % 10}"
        )
    rest = points[~np.isin(compared.labels, names[:MOST_NAMED])]
    if len(rest):
        axes.scatter(*rest.T, s=8, color="#bbbbbb", label=f"{len(names) - MOST_NAMED} more", zorder=0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{len(points)} embeddings of {len(names)} classes", color=INK, fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def flattened(embeddings: np.ndarray) -> np.ndarray:
    """float ``(M, 2)``, the same for the same embeddings: t-SNE, or for a few images their principal components."""
    count = min(embeddings.shape[1], len(embeddings), 50)
    main = PCA(count, svd_solver="full").fit_transform(embeddings)
    if len(main) < ENOUGH_FOR_TSNE:
        return np.pad(main, ((0, 0), (0, max(0, 2 - main.shape[1]))))[:, :2]
    perplexity = min(30.0, (len(main) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(main)


def wrong_matches(compared: Compared, table: ImageTable, path: Path) -> None:
    """Show images whose most alike other image is of another class, the surest first, above what they are taken for."""
    scores = compared.scores.copy()
    np.fill_diagonal(scores, -np.inf)
    nearest = scores.argmax(axis=1)
    wrong = np.flatnonzero(compared.labels[nearest] != compared.labels)
    if not len(wrong):
        return
    order = wrong[np.argsort(-scores[wrong, nearest[wrong]], kind="stable")][:SHOWN]
    figure = Figure(figsize=(1.5 * len(order) + 0.2, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(order), squeeze=False)
    for column, place in enumerate(order.tolist()):
        for row, shown in ((0, place), (1, int(nearest[place]))):
            axis = grid[row, column]
            axis.imshow(table.images.load(int(compared.rows[shown])))
            axis.set_axis_off()
            axis.set_title(shorten(table.classes[compared.labels[shown]]), fontsize=8, color=INK)
    figure.suptitle(
        f"{len(wrong)} of {len(scores)} images are most similar to one of another class", fontsize=10
    )
    save_figure(figure, path)


def learning_curve(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the loss and what is watched over the epochs, of the head and of the network."""
    figure, axes = new_figure(9, 3.6, columns=2)
    names = (("loss", "val_loss"), ("nearest_accuracy", "val_nearest_accuracy", "val_score"))
    for axis, keys in zip(axes, names, strict=True):
        for key, colour in zip(keys, (SOFT, ACCENT, INK), strict=False):
            points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
            if points:
                axis.plot(
                    *zip(*points, strict=True), "o-", markersize=3, color=colour, label=key.replace("_", " ")
                )
        axis.set_xlabel("epoch")
        if axis.lines:
            axis.legend(frameon=False)
    save_figure(figure, path)
