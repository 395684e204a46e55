"""What every head on embeddings starts from: checked arrays, and the splits its hyper-parameters are chosen on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import StratifiedKFold

from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import LOGITS
from keras_transfer.training.choosing import ENOUGH, FOLDS, Folds, enough
from keras_transfer.training.probe import ABSENT


@dataclass(frozen=True)
class Problem:
    """Training and validation rows only, and only the classes that have training rows.

    Attributes:
        x: float64 ``(n, D)``.
        y: int ``(n,)``, positions in ``found``.
        weight: float64 ``(n,)``, positive on training rows.
        judged: float64 ``(n,)``, what a row counts where a setting is chosen.
        train: positions of the rows that are learned from.
        val: positions of the rows that are chosen on; may be empty.
        found: the classes with training rows, ``(F,)`` ascending.
        classes: number of classes of the finished head, ``C >= F``.
        seed: for folds and solvers.
        refit: whether the finished head learns from the validation rows, too.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    judged: np.ndarray
    train: np.ndarray
    val: np.ndarray
    found: np.ndarray
    classes: int
    seed: int
    refit: bool = False

    @property
    def final(self) -> np.ndarray:
        """Positions of the rows that the finished head learns from, once its setting is chosen."""
        if not self.refit:
            return self.train
        return np.concatenate([self.train, self.val[self.weight[self.val] > 0]])

    @property
    def chosen_on(self) -> str:
        """``"validation"``, or ``"cross-validation"`` where validation rows are too few, or of one class.

        Where a class has a single training row there are no folds: then any validation rows choose.
        """
        if len(self.val) and np.bincount(self.y[self.train]).min() < 2:
            return "validation"
        several = len(np.unique(self.y[self.val])) > 1
        return "validation" if several and len(self.val) >= ENOUGH else "cross-validation"

    @property
    def splits(self) -> Folds:
        """Pairs (rows to fit on, rows to choose on)."""
        if self.chosen_on == "validation":
            return [(self.train, self.val)]
        return self.folds("choosing without validation images")

    def folds(self, purpose: str) -> Folds:
        """Stratified folds of the training rows: each is evaluated once, and every class is fitted in each.

        Raises:
            DataError: a class has a single training row.
        """
        counts = np.bincount(self.y[self.train])
        if counts.min() < 2:
            alone = self.found[counts < 2]
            raise DataError(
                f"{len(alone)} of {len(self.found)} classes (class {alone[0]}, for one) have a single training "
                f"image; {purpose} takes at least 2 of each. Add images, or use kind='prototype' or 'knn' with "
                "validation images."
            )
        cut = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=self.seed)
        return [(self.train[a], self.train[b]) for a, b in cut.split(self.train, self.y[self.train])]


@dataclass(frozen=True)
class Fitted:
    """A head that was fitted: ``build`` maps features ``(B, D)`` to logits ``(B, C)`` and names that layer."""

    build: Callable[[keras.KerasTensor], keras.KerasTensor]
    chosen: dict[str, Any]
    trials: list[dict[str, Any]]


def state_problem(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    train: np.ndarray,
    val: np.ndarray,
    sample_weight: np.ndarray | None,
    judged: np.ndarray | None,
    seed: int,
    refit: bool = False,
) -> Problem:
    """Check the arrays of ``fit_embedding_head`` and keep the rows that count.

    Training rows of weight 0 are left out, as are validation rows of a class without training rows.

    Raises:
        UsageError: shapes do not fit each other.
        DataError: a feature is not finite, a label or weight is out of range, or fewer than two classes are left.
    """
    x, labels = np.asarray(features), np.asarray(labels)
    train, val = np.asarray(train, np.int64), np.asarray(val, np.int64)
    weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if x.ndim != 2 or labels.shape != x.shape[:1] or weight.shape != labels.shape:
        raise UsageError(
            f"Features {x.shape}, labels {labels.shape} and weights {weight.shape} were given; (N, D), (N,) and "
            "(N,) are expected."
        )
    rows = np.concatenate([train, val])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(x):
        raise UsageError(f"Rows {rows.min()} to {rows.max()} were given for {len(x)} images: count from 0.")
    if not np.all(np.isfinite(x[rows])):
        raise DataError("A feature is NaN or infinite. Check the images and the backbone's weights.")
    if np.any(weight[train] < 0) or not np.all(np.isfinite(weight[train])):
        raise DataError("A sample weight is negative or not finite; numbers from 0 are expected.")
    if len(rows) and not 0 <= labels[rows].min() <= labels[rows].max() < num_classes:
        raise DataError(
            f"Labels from {labels[rows].min()} to {labels[rows].max()} were given for {num_classes} classes; "
            f"0 to {num_classes - 1} are expected."
        )
    train = train[weight[train] > 0]
    found = np.unique(labels[train])
    if len(found) < 2:
        raise DataError(f"The training images hold {len(found)} class; at least 2 are needed.")
    counts = np.ones(len(labels)) if judged is None else np.asarray(judged, np.float64)
    val = val[np.isin(labels[val], found) & (counts[val] > 0)]
    enough(len(val))
    rows = np.concatenate([train, val])
    return Problem(
        x=x[rows].astype(np.float64),
        y=np.searchsorted(found, labels[rows]),
        weight=weight[rows],
        judged=counts[rows],
        train=np.arange(len(train)),
        val=np.arange(len(train), len(rows)),
        found=found,
        classes=num_classes,
        seed=seed,
        refit=refit,
    )


def loss_of(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Mean negative log likelihood of the true classes; probabilities ``(n, F)``."""
    return float(-np.mean(np.log(np.maximum(probabilities[np.arange(len(y)), y], 1e-12))))


def logits_layer(kernel: np.ndarray, bias: np.ndarray, problem: Problem) -> keras.layers.Dense:
    """The last Dense, from ``(S, F)`` and ``(F,)``: classes without training rows get a column of their own.

    That column is the mean of the others less ``probe.ABSENT``, so that whatever comes in, such a class lies at least
    that far below the highest.
    """
    absent = np.setdiff1d(np.arange(problem.classes), problem.found)
    full, offset = np.zeros((len(kernel), problem.classes)), np.zeros(problem.classes)
    full[:, problem.found], offset[problem.found] = kernel, bias
    full[:, absent], offset[absent] = kernel.mean(axis=1, keepdims=True), bias.mean() - ABSENT
    return dense_of(full, offset, LOGITS)


def dense_of(kernel: np.ndarray, bias: np.ndarray | None, name: str) -> keras.layers.Dense:
    """A built Dense layer that holds these numbers, as float32."""
    dense = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None, name=name)
    dense.build((None, len(kernel)))
    dense.set_weights([part.astype("float32") for part in (kernel, bias) if part is not None])
    return dense
