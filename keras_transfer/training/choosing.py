"""How a head's setting is chosen: on validation images that can tell settings apart, else on training folds.

One validation image that is answered right calls for the weakest regularisation that is tried, and one that is answered
wrong for the strongest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from keras_transfer import progress
from keras_transfer.errors import DataError

log = logging.getLogger("keras_transfer")

ENOUGH = 50
"""Validation images from which on settings are chosen by them. ``benchmarks/few.py`` prints what fewer do."""
FOLDS = 5
Folds = list[tuple[np.ndarray, np.ndarray]]
"""Pairs (rows to fit on, rows to judge by)."""
PATIENCE = 3
"""Weaker regularisation is not tried further after this many steps without a lower validation loss."""
FitFold = Callable[[float], dict[str, float]]
"""Fits on one fold at a strength, and tells ``train_loss``, ``val_loss`` and what else is worth recording."""


def enough(count: int, what: str = "setting") -> bool:
    """Whether so many validation images choose a setting; says so where there are some and too few."""
    if 0 < count < ENOUGH:
        log.info(
            "%d validation image%s cannot tell settings apart (%d could): the %s is chosen by cross-validation on the "
            "training images.",
            count,
            "" if count == 1 else "s",
            ENOUGH,
            what,
        )
    return count >= ENOUGH


def stratified(train: np.ndarray, labels: np.ndarray, seed: int) -> Folds | None:
    """Up to five folds of the training images, in each of which every class is learned from.

    Images that are alone in their class are learned from in every fold and judge nothing. None where fewer than two
    classes have two images: there is nothing to judge by.

    Args:
        train: int ``(n,)``, rows.
        labels: int ``(N,)``, class indices of all rows.
    """
    classes, counts = np.unique(labels[train], return_counts=True)
    several = np.isin(labels[train], classes[counts > 1])
    if (counts > 1).sum() < 2:
        return None
    alone, shared = train[~several], train[several]
    cut = StratifiedKFold(int(min(FOLDS, counts[counts > 1].min())), shuffle=True, random_state=seed)
    return [
        (np.concatenate([shared[fit], alone]), shared[judge])
        for fit, judge in cut.split(shared, labels[shared])
    ]


def folds_for_classes(train: np.ndarray, val: np.ndarray, labels: np.ndarray, seed: int) -> tuple[Folds, str]:
    """What to fit on and what to judge by, for classes; and ``"validation"`` or ``"cross-validation"``.

    Validation images of one class, too, leave the choice to folds: they say nothing of what tells classes apart.

    Args:
        train: rows that are learned from.
        val: rows that may judge: of classes that are learned.

    Raises:
        DataError: no validation image, and fewer than two classes of two training images.
    """
    if len(np.unique(labels[val])) > 1 and enough(len(val), "strength"):
        return [(train, val)], "validation"
    folds = stratified(train, labels, seed)
    if folds is not None:
        return folds, "cross-validation"
    if len(val):
        return [(train, val)], "validation"
    raise DataError(
        "There is no validation image, and fewer than two classes have a second training image: nothing tells how "
        "strongly to regularise. Add images, or lower --test-fraction."
    )


def folds_for_targets(train: np.ndarray, val: np.ndarray, seed: int) -> tuple[Folds, str]:
    """The same for labels and numbers: folds are not stratified.

    Raises:
        DataError: one training image, and no validation image.
    """
    if enough(len(val), "strength") or (len(val) and len(train) < 2):
        return [(train, val)], "validation"
    if len(train) < 2:
        raise DataError(
            "There is one training image and no validation image: nothing to choose the regularisation by. "
            "Add images, or lower the test fraction."
        )
    cut = KFold(min(FOLDS, len(train)), shuffle=True, random_state=seed)
    return [(train[a], train[b]) for a, b in cut.split(train)], "cross-validation"


def choose_strength(
    name: str, strengths: Sequence[float], folds: Sequence[FitFold]
) -> tuple[float, list[dict[str, Any]]]:
    """The strength of the lowest validation loss.

    Args:
        name: of the strength, in the trials: ``C`` or ``alpha``.
        strengths: the strongest regularisation first; each fold is asked for them in this order.
        folds: one function a fold.

    Returns:
        The strength, and one dictionary for each that was tried: itself under ``name``, and the means over the folds.
    """
    trials: list[dict[str, Any]] = []
    for strength in progress.track(strengths, "Fitting the probe", len(strengths)):
        told = [fit(strength) for fit in folds]
        means = np.mean([list(one.values()) for one in told], axis=0)
        trials.append({name: strength, **dict(zip(told[0], means.tolist(), strict=True))})
        best = min(trials, key=lambda trial: trial["val_loss"])
        if len(trials) - 1 - trials.index(best) >= PATIENCE:
            break
    return best[name], trials
