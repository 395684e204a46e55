"""The linear probe for several labels per image: one logistic regression per label, folded into the model's Dense.

One-vs-rest ("binary relevance"): every label is its own yes-or-no question on the same standardised features, with one
regularisation strength for all, the one with the lowest validation log loss. Then each label gets the threshold that
maximises its F1 on validation. Zhang & Zhou 2014 (A Review on Multi-Label Learning Algorithms, IEEE TKDE 26(8)) cover
both; Lipton et al. 2014 (arXiv:1402.1892) show why the threshold that is best for F1 is rarely 0.5. The probabilities
stay what they were: thresholds are returned, never folded in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from scipy.special import expit

from keras_transfer.errors import DataError
from keras_transfer.heads import LOGITS
from keras_transfer.training.choosing import choose_strength, folds_for_targets
from keras_transfer.training.hidden import has_hidden, train_hidden
from keras_transfer.training.logistic import Linear, LogisticPath, working
from keras_transfer.training.probe import STRENGTHS
from keras_transfer.training.standardising import folded, standardisation, standardised

log = logging.getLogger("keras_transfer")

EVEN = 0.5
"""The threshold of a label for which nothing better is known."""


@dataclass(frozen=True)
class MultilabelProbeResult:
    """What the probe tried and chose.

    Attributes:
        c: the inverse regularisation strength chosen (None for a head with hidden layers).
        chosen_on: ``"validation"``, ``"cross-validation"`` or (hidden layers only) ``"training loss"``.
        thresholds: float ``(C,)`` in (0, 1): label ``i`` is given from this probability on.
        constant: indices of the labels that all training images have, or none has.
        trials: one dictionary a strength (``C``, ``train_loss``, ``val_loss``) or an epoch (``epoch`` instead of
            ``C``); losses are nats a label.
    """

    c: float | None
    chosen_on: str
    thresholds: np.ndarray
    constant: tuple[int, ...]
    trials: list[dict[str, Any]] = field(default_factory=list)


def fit_multilabel_probe(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    train: np.ndarray,
    val: np.ndarray,
    names: Sequence[str] | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
) -> MultilabelProbeResult:
    """Fit the head of a multi-label model on its backbone's features, and write it into the model.

    A label that all training images have, or none has, gets a constant logit from its smoothed share
    ``(positives + 1) / (images + 2)`` and a warning.

    Args:
        model: made by ``heads.add_head(..., activation="sigmoid")``; only its head changes.
        features: float ``(N, D)``, what the model's pooling layer gives.
        labels: ``(N, C)`` of 0 and 1.
        train: indices of the images that are learned from.
        val: indices of the images that regularisation and thresholds are chosen on; when fewer than
            ``choosing.ENOUGH``, cross-validation on ``train`` is used.
        names: the ``C`` names, for warnings.
        sample_weight: float ``(N,)``, default 1; for learning, not for choosing.
        seed: for the folds and the training of hidden layers.

    Raises:
        DataError: no training image with a weight, or one only and no validation image.
    """
    names = [str(i) for i in range(labels.shape[1])] if names is None else names
    weight, train = counted_images(sample_weight, len(labels), train)
    priors = _constant_logits(labels[train], weight[train])
    for i in priors:
        log.warning(
            "%s training image has the label %r: its probability will be the same for every image.",
            "Every" if labels[train, i].any() else "No",
            names[i],
        )
    dense = model.get_layer(LOGITS)
    if has_hidden(model):
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        head, trials = train_hidden(
            model, features, labels, train=train, val=val, weight=weight, loss=loss, seed=seed
        )
        kernel, bias = dense.get_weights()
        for i, logit in priors.items():
            kernel[:, i], bias[i] = 0.0, logit
        dense.set_weights([kernel, bias])
        thresholds = np.full(labels.shape[1], EVEN)
        if len(val):
            logits = head.predict(np.asarray(features[val], np.float32), verbose=0)
            thresholds = tuned_thresholds(expit(logits), labels[val], labels[train], calibrated=False)
        on = "validation" if len(val) else "training loss"
        return MultilabelProbeResult(None, on, thresholds, tuple(priors), trials)
    x = working(standardised(features, train, weight), len(train), labels.shape[1])
    cuts, chosen_on = folds_for_targets(train, val, seed)
    folds = [_Fold(x, labels, weight, *cut) for cut in cuts]
    c, trials = choose_strength("C", STRENGTHS, folds)
    refit_multilabel_probe(model, features, labels, rows=train, c=c, sample_weight=weight)
    if chosen_on == "validation":
        kernel, bias = dense.get_weights()
        held_out = np.asarray(features[val], np.float64) @ kernel + bias
    else:
        held_out = np.concatenate([fold.logits[c] for fold in folds])
    truth = np.concatenate([labels[fold.val] for fold in folds])
    thresholds = tuned_thresholds(expit(held_out), truth, labels[train])
    return MultilabelProbeResult(c, chosen_on, thresholds, tuple(priors), trials)


def refit_multilabel_probe(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    rows: np.ndarray,
    c: float,
    sample_weight: np.ndarray | None = None,
) -> None:
    """Fit the head once more, at a strength that was chosen before, and write it into the model.

    What was measured on images among ``rows`` before does not hold for this head; thresholds chosen before remain.

    Args:
        model, features, labels, sample_weight: as in :func:`fit_multilabel_probe`; a head without hidden layers.
        rows: indices of the images that are learned from, training and validation images.
        c: the inverse regularisation strength, ``MultilabelProbeResult.c``.
    """
    weight, rows = counted_images(sample_weight, len(labels), rows)
    x = np.asarray(features, np.float64)[rows]
    mean, deviation = standardisation(x, weight[rows])
    x, dense = (x - mean) / deviation, model.get_layer(LOGITS)
    kernel, bias = dense.get_weights()
    parts = _OneVsRest(working(x, *labels[rows].shape), labels[rows], weight[rows])
    final = parts.deliver(c, Linear(kernel * deviation[:, np.newaxis], bias + mean @ kernel))
    dense.set_weights(folded(final.w, final.b, mean, deviation))


def best_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The threshold ``t`` for which ``probabilities >= t`` has the highest F1; of equals the nearest to 0.5.

    Args:
        probabilities: float ``(N,)`` in [0, 1].
        truth: ``(N,)`` of 0 and 1.

    Returns:
        In (0, 1); 0.5 when no image has the label.
    """
    truth = np.asarray(truth, bool)
    if not truth.any():
        return EVEN
    # Half-way between two neighbours: a rounding of either (float32, another runtime) changes no decision.
    found = np.concatenate([[0.0], np.unique(np.asarray(probabilities, np.float32)).astype(np.float64)])
    candidates = np.concatenate([[EVEN], (found[1:] + found[:-1]) / 2])
    candidates = candidates[candidates > 0]
    given = len(truth) - np.searchsorted(np.sort(probabilities), candidates)
    right = truth.sum() - np.searchsorted(np.sort(probabilities[truth]), candidates)
    f1 = 2 * right / (given + truth.sum())
    best = candidates[f1 >= f1.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - EVEN))])


def tuned_thresholds(
    probabilities: np.ndarray, truth: np.ndarray, learned: np.ndarray, *, calibrated: bool = True
) -> np.ndarray:
    """A threshold for each label: the best for F1 on these images, within what more images could call for.

    With calibrated probabilities the best threshold is half the best F1 (Lipton et al. 2014), and giving a label of the
    share ``s`` to every image has an F1 of ``2 s / (1 + s)``: the threshold lies between ``s / (1 + s)`` and one half.
    What few images call for beyond that is chance.

    Args:
        probabilities: float ``(N, C)`` in [0, 1], of images that were not learned from.
        truth: ``(N, C)`` of 0 and 1.
        learned: ``(M, C)`` of 0 and 1, the labels of the training images, which give the shares.
        calibrated: False for a network that was trained by gradients, which is often too sure: up to
            ``1 - s / (1 + s)``, but one half at least.

    Returns:
        float64 ``(C,)`` in (0, 1); one half for a label that none of ``truth`` has, and for one that all training
        images have, or none.
    """
    share = learned.mean(axis=0)
    low = share / (1 + share)
    high = np.full(len(share), EVEN) if calibrated else np.maximum(EVEN, 1 - low)
    best = [best_threshold(probabilities[:, i], truth[:, i]) for i in range(len(share))]
    return np.where((share > 0) & (share < 1), np.clip(best, low, high), EVEN)


def counted_images(
    sample_weight: np.ndarray | None, count: int, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weights, float64 ``(N,)`` and 1 by default, and ``train`` without the images of weight 0.

    Raises ``DataError`` when none is left.
    """
    weight = np.ones(count) if sample_weight is None else np.asarray(sample_weight, np.float64)
    train = train[weight[train] > 0]
    if not len(train):
        raise DataError(
            "No training image has a weight above 0: there is nothing to learn from. Check the split and the weights."
        )
    return weight, train


class _OneVsRest:
    """Binary logistic regressions side by side; of a label that all rows have, or none has, the constant logit.

    Args: as of :class:`~keras_transfer.training.logistic.LogisticPath`; ``y`` ``(n, C)`` of 0 and 1.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
        self._priors = _constant_logits(y, weight)
        self._asked = np.setdiff1d(np.arange(y.shape[1]), list(self._priors))
        self._path = LogisticPath(x, y[:, self._asked], weight, softmax=False)
        self._shape = (x.shape[1], y.shape[1])

    def fit(self, c: float) -> Linear:
        """The next strength of a path."""
        return self._with_constants(self._path.fit(c)) if len(self._asked) else self._constants()

    def deliver(self, c: float, start: Linear) -> Linear:
        """The regressions at one strength, to the last; ``start`` may be near."""
        if not len(self._asked):
            return self._constants()
        near = self._path.near(c, Linear(start.w[:, self._asked], start.b[self._asked]))
        path = [strength for strength in STRENGTHS if strength < c] + [c]
        return self._with_constants(self._path.deliver(c, path) if near is None else near)

    def _constants(self) -> Linear:
        b = np.zeros(self._shape[1])
        b[list(self._priors)] = list(self._priors.values())
        return Linear(np.zeros(self._shape), b)

    def _with_constants(self, found: Linear) -> Linear:
        whole = self._constants()
        whole.w[:, self._asked], whole.b[self._asked] = found
        return whole


def _constant_logits(y: np.ndarray, weight: np.ndarray) -> dict[int, float]:
    """The logits of the labels that all images have, or none has, by index."""
    positive = weight @ y
    negative = weight.sum() - positive
    alike = np.flatnonzero((y == y[:1]).all(axis=0))
    return {int(i): float(np.log((positive[i] + 1) / (negative[i] + 1))) for i in alike}


class _Fold:
    """One fold's regressions at one strength after the other; ``logits`` of its judged images at each."""

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, weight: np.ndarray, train: np.ndarray, val: np.ndarray
    ) -> None:
        self.logits: dict[float, np.ndarray] = {}
        self.val = val
        self._learned, self._judged = x[train], x[val]
        self._truth, self._truth_judged = labels[train], labels[val]
        self._parts = _OneVsRest(self._learned, labels[train], weight[train])

    def __call__(self, c: float) -> dict[str, float]:
        found = self._parts.fit(c)
        self.logits[c] = self._judged @ found.w + found.b
        return {
            "train_loss": _log_loss(self._learned @ found.w + found.b, self._truth),
            "val_loss": _log_loss(self.logits[c], self._truth_judged),
        }


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))
