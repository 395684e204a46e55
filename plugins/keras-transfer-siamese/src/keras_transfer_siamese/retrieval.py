"""Which one is it, or none of them? Nearest images, and the rejection of classes that are not enrolled."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

DRAWS = 20
"""How often the classes are halved into known and unknown ones."""
ALARMS = (0.1, 0.01)


def retrieval(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Every image asks all others: is the best answer of its class, one of the best five, and how early are all?

    Args:
        scores: ``(M, M)``, higher for more alike.
        labels: int ``(M,)``.

    Returns:
        ``recall_at_1``, ``recall_at_5``, ``mean_average_precision`` over the images that have another of their class;
        None without any.
    """
    names = ("recall_at_1", "recall_at_5", "mean_average_precision")
    same = labels[:, None] == labels[None]
    np.fill_diagonal(same, False)
    asking = np.flatnonzero(same.any(axis=1))
    if not len(asking):
        return dict.fromkeys(names)
    others = scores[asking].astype(np.float32)
    others[np.arange(len(asking)), asking] = -np.inf
    order = np.argsort(-others, axis=1, kind="stable")[:, :-1]
    right = np.take_along_axis(same[asking], order, axis=1)
    rank = np.arange(1, right.shape[1] + 1)
    precision = (np.cumsum(right, axis=1) / rank * right).sum(axis=1) / right.sum(axis=1)
    values = (right[:, 0].mean(), right[:, :5].any(axis=1).mean(), precision.mean())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def open_set(scores: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any] | None:
    """Half of the classes are enrolled with one image each; all other images ask, and the other half must be rejected.

    Args:
        scores: ``(M, M)``, higher for more alike.
        labels: int ``(M,)``.
        seed: of the :data:`DRAWS` halvings.

    Returns:
        ``auroc``: how often an enrolled class's image has a higher best score than a stranger's;
        ``identified_at_false_alarms``: ``{"0.1": share, ...}`` of images of enrolled classes that are found, by the
        right name, where that share of strangers is taken for somebody (Phillips et al. 2011: detection and
        identification rate); ``curve``: false alarms against identified, averaged. None with fewer than two classes,
        one of them with two images.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if len(classes) < 2 or not (sizes > 1).any():
        return None
    rng = np.random.default_rng((seed, len(labels)))
    grid = np.linspace(0, 1, 101)
    areas, curves = [], []
    at: dict[float, list[float]] = {alarm: [] for alarm in ALARMS}
    for _ in range(DRAWS):
        enrolled = rng.permutation(classes)[: max(1, len(classes) // 2)]
        gallery = np.array([rng.choice(np.flatnonzero(labels == label)) for label in enrolled])
        inside = np.isin(labels, enrolled)
        asking = np.setdiff1d(np.flatnonzero(inside), gallery)
        if not len(asking):
            continue
        best = scores[:, gallery].max(axis=1)
        right = labels[gallery][scores[:, gallery].argmax(axis=1)] == labels
        strangers = best[~inside]
        both = np.concatenate([best[asking], strangers])
        areas.append(roc_auc_score(np.arange(len(both)) < len(asking), both))
        limits = np.quantile(strangers, 1 - grid, method="higher")
        # A stranger is taken for somebody above the limit, not at it.
        curves.append([float(np.mean(right[asking] & (best[asking] > limit))) for limit in limits])
        for alarm in ALARMS:
            if len(strangers) * alarm >= 1:
                limit = np.quantile(strangers, 1 - alarm, method="higher")
                at[alarm].append(float(np.mean(right[asking] & (best[asking] > limit))))
    if not areas:
        return None
    return {
        "auroc": float(np.mean(areas)),
        "identified_at_false_alarms": {
            str(alarm): float(np.mean(found)) if found else None for alarm, found in at.items()
        },
        "curve": {"false_alarms": grid.tolist(), "identified": np.mean(curves, axis=0).tolist()},
    }
