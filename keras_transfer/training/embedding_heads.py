"""Heads on frozen embeddings that are not logistic regression, each ending as a plain Keras model.

Support vector machines (``svm``, ``svm-rbf``), weighted nearest neighbours (``knn``) and class prototypes
(``prototype``). What was fitted by scikit-learn or by hand is written into Dense layers on top of the backbone, so that
the result is saved, loaded and exported like any classifier of this package. A logistic regression is
``probe.fit_probe``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.heads import PROBABILITIES
from keras_transfer.training.embedding_problem import Fitted, Problem, state_problem
from keras_transfer.training.neighbours import fit_knn, fit_prototype
from keras_transfer.training.svm import fit_svm

_FITS: dict[str, Callable[[Problem], Fitted]] = {
    "svm": lambda problem: fit_svm(problem, rbf=False),
    "svm-rbf": lambda problem: fit_svm(problem, rbf=True),
    "knn": fit_knn,
    "prototype": fit_prototype,
}
KINDS = tuple(_FITS)
"""``svm``: linear; ``svm-rbf``: radial basis functions; ``knn``: nearest images; ``prototype``: nearest class mean."""


@dataclass(frozen=True)
class EmbeddingHead:
    """A backbone with a fitted head.

    Attributes:
        model: pixels to probabilities ``(B, C)``, one flat Functional model whose last layers are ``"logits"`` and
            ``"probabilities"``; it shares the extractor's layers and weights.
        head: features ``(B, D)`` to the same probabilities; it shares the model's layers.
        kind: one of :data:`KINDS`.
        chosen: the hyper-parameters: ``C``; ``C`` and ``gamma``; ``k`` and ``temperature``; or ``scale``.
        chosen_on: ``"validation"`` or ``"cross-validation"``.
        trials: one dictionary per setting: its hyper-parameters, ``val_accuracy`` in [0, 1], and ``val_loss`` (nats per
            image; None where an SVM's accuracy had already decided against it).
    """

    model: keras.Model
    head: keras.Model
    kind: str
    chosen: dict[str, Any]
    chosen_on: str
    trials: list[dict[str, Any]]


def fit_embedding_head(
    extractor: keras.Model,
    kind: str,
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    train: np.ndarray,
    val: np.ndarray,
    sample_weight: np.ndarray | None = None,
    judged: np.ndarray | None = None,
    seed: int = 0,
    refit: bool = False,
) -> EmbeddingHead:
    """Fit a head on an extractor's features, and put it on the extractor.

    Args:
        extractor: a Functional model from pixels to features ``(B, D)``, as ``heads.split_head`` gives; unchanged.
        kind: one of :data:`KINDS`.
        features: float ``(N, D)``, what the extractor gives.
        labels: int ``(N,)``, in [0, classes).
        num_classes: number of classes ``C``, at least 2. One without training images gets a logit that is at least
            ``probe.ABSENT`` below the highest (``knn``: a share of no more than ``exp(-probe.ABSENT)``).
        train: indices of the images that are learned from.
        val: indices of the images the hyper-parameters are chosen on; when empty, cross-validation is used.
        sample_weight: float ``(N,)``, default 1; for learning. Images of weight 0 are left out; otherwise ``knn``
            ignores weights.
        judged: float ``(N,)``, default 1; what an image counts where a setting is chosen.
        seed: fixes the folds and the solvers: the same call gives the same weights.
        refit: fit the finished head on training and validation images together, at the setting (and, for an SVM, with
            the calibration) that was found before. The trials are those of before.

    Raises:
        UsageError: an unknown kind, shapes that do not fit, or too many images for ``knn`` (20,000) or ``svm-rbf``.
        DataError: fewer than two classes among the training images, a class with a single one where folds are needed
            (every SVM; any kind without validation images), or features that are not finite.
    """
    if kind not in _FITS:
        raise unknown_name("embedding head", kind, KINDS)
    shape = getattr(extractor, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] != np.shape(features)[-1]:
        raise UsageError(
            f"The extractor gives {shape} and the features are {np.shape(features)}; (None, D) and (N, D) are "
            "expected. Take both from heads.split_head(model)[0]."
        )
    if num_classes < 2:
        raise UsageError(f"A classifier for {num_classes} class was asked for; at least 2 are expected.")
    problem = state_problem(features, labels, num_classes, train, val, sample_weight, judged, seed, refit)
    fitted = _FITS[kind](problem)
    probabilities = keras.layers.Softmax(name=PROBABILITIES)(fitted.build(extractor.output))
    head = keras.Model(extractor.output, probabilities, name="head")
    for operation in head.operations:
        # Keras numbers plain operations ("exp", "log_1") anew in every process: a backbone that was loaded from
        # a file may hold the same names, and a model refuses two of a name.
        if not isinstance(operation, keras.layers.Layer):
            operation.name = f"head_{operation.name}"
    return EmbeddingHead(
        model=keras.Model(extractor.input, probabilities, name=f"{extractor.name}_{kind.replace('-', '_')}"),
        head=head,
        kind=kind,
        chosen=fitted.chosen,
        chosen_on=problem.chosen_on,
        trials=fitted.trials,
    )
