"""Support vector machines, linear and RBF, one against the rest, with calibrated probabilities, as Keras layers.

Features are standardised and divided by the square root of their number, so that one range of ``C`` and ``gamma``
serves every backbone. A machine is one binary scikit-learn SVC a class (Cortes & Vapnik 1995,
doi:10.1007/BF00994018); a linear one for more than 10,000 images is a LinearSVC, whose loss is the squared hinge. The
linear machine folds into a single Dense, as the probe does. The RBF machine becomes two Dense layers: with
``z`` the scaled features and ``s`` the support vectors, ``exp(-|z - s|^2) = exp(2 z.s - |s|^2 - |z|^2)``, then the
dual coefficients; classes share their support vectors.

Decision values say on which side and how far, not how sure. They are calibrated by ``softmax(a_c d_c + b_c)``, vector
scaling (Guo et al. 2017, arXiv:1706.04599), which for two classes is Platt's sigmoid (Platt 1999), fitted on decision
values of machines that did not see the image.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC, LinearSVC

from keras_transfer import progress
from keras_transfer.errors import UsageError
from keras_transfer.training.embedding_problem import (
    Fitted,
    Problem,
    dense_of,
    logits_layer,
    loss_of,
)
from keras_transfer.training.standardising import standardisation

LINEAR_C = (0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0)
RBF_C = (1.0, 10.0, 100.0)
RBF_GAMMA = (0.3, 1.0, 3.0, 10.0)
"""Relative to one over the number of features, scikit-learn's ``gamma="scale"`` for standardised ones."""
MOST_ROWS = 10_000
"""A binary SVC is given all products or distances between the images: 10,000 take 0.8 GB, and a copy as much again."""
MOST_STEPS = 100_000
"""Steps of the solver for one binary machine; classes that can be separated take some hundreds to thousands."""


class _Machine(Protocol):
    """One against the rest: ``inputs(at, rows) @ coefficients + intercept`` are the decision values ``(n, F)``."""

    grid: list[dict[str, float]]

    def fit(self, rows: np.ndarray, setting: dict[str, float]) -> tuple[np.ndarray, np.ndarray]: ...

    def inputs(self, at: np.ndarray, rows: np.ndarray, setting: dict[str, float]) -> np.ndarray: ...


class _Linear:
    def __init__(self, problem: Problem, x: np.ndarray) -> None:
        self.problem, self.x = problem, x
        self.grid = [{"C": c} for c in LINEAR_C]
        self.few = len(problem.final) <= MOST_ROWS

    def fit(self, rows: np.ndarray, setting: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        x, y, weight = self.x[rows], self.problem.y[rows], self.problem.weight[rows]
        if self.few:  # much faster than LinearSVC where images are about as many as features, or fewer
            duals, b = _dual_machines(x @ x.T, y, weight, len(self.problem.found), setting["C"])
            return x.T @ duals, b
        machine = _fitted(LinearSVC(C=setting["C"], random_state=self.problem.seed), x, y, weight)
        w, b = machine.coef_.T, machine.intercept_
        return _both_sides(w, b) if w.shape[1] == 1 else (w, b)

    def inputs(self, at: np.ndarray, rows: np.ndarray, setting: dict[str, float]) -> np.ndarray:
        return self.x[at]


class _Rbf:
    def __init__(self, problem: Problem, x: np.ndarray) -> None:
        self.problem = problem
        # Training images are the first ones. Of a wider product the last digits would be other ones, and with them the
        # trials of a machine that is fitted once more.
        parts = [x[problem.train], x[len(problem.train) :]] if problem.refit else [x[problem.train]]
        self.distances = np.hstack(
            [euclidean_distances(x, part, squared=True) for part in parts if len(part)]
        )
        self.grid = [{"C": c, "gamma": gamma} for gamma in RBF_GAMMA for c in RBF_C]

    def fit(self, rows: np.ndarray, setting: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        gram, y, weight = self.inputs(rows, rows, setting), self.problem.y[rows], self.problem.weight[rows]
        return _dual_machines(gram, y, weight, len(self.problem.found), setting["C"])

    def inputs(self, at: np.ndarray, rows: np.ndarray, setting: dict[str, float]) -> np.ndarray:
        return np.exp(-setting["gamma"] * self.distances[np.ix_(at, rows)])


def _dual_machines(
    gram: np.ndarray, y: np.ndarray, weight: np.ndarray, count: int, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dual coefficients ``(n, F)``, 0 but for support vectors, and intercepts ``(F,)``."""
    classes = [1] if count == 2 else range(count)
    coefficients, intercept = np.zeros((len(y), len(classes))), np.zeros(len(classes))
    for column, one in enumerate(classes):
        machine = _fitted(
            SVC(C=c, kernel="precomputed", tol=1e-5, max_iter=MOST_STEPS), gram, y == one, weight
        )
        coefficients[machine.support_, column] = machine.dual_coef_[0]
        intercept[column] = machine.intercept_[0]
    return _both_sides(coefficients, intercept) if count == 2 else (coefficients, intercept)


def _fitted(machine: Any, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Any:
    # Classes that cannot be separated, at a high C, may take a solver hours. Where it stopped is a machine like any
    # other: chosen or not by its accuracy, and calibrated by values of images it did not see.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(x, y, weight)


def _both_sides(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two classes are one machine: the first class is the other side of it."""
    return np.concatenate([-w, w], axis=1), np.concatenate([-b, b])


def fit_svm(problem: Problem, *, rbf: bool) -> Fitted:
    """Fit, choose and calibrate.

    The setting with the highest accuracy of the decision values on the validation rows wins (where these are too few,
    of the out-of-fold values); among equals, the one with the lowest log loss of the calibrated probabilities. Only
    those equals are calibrated, so only their trials have a ``val_loss``.

    Returns:
        ``chosen`` holds ``C`` and, for the RBF machine, ``gamma``; both are scikit-learn's, for standardised features
        divided by the square root of their number.

    Raises:
        UsageError: more than :data:`MOST_ROWS` images for the RBF machine.
        DataError: a class with a single training image, which leaves nothing to calibrate on.
    """
    if rbf and len(problem.y) > MOST_ROWS:
        raise UsageError(
            f"An RBF machine for {len(problem.y)} images was asked for; at most {MOST_ROWS} are expected, because "
            "the distances between all of them are kept in memory. Use kind='svm', or fewer images."
        )
    mean, deviation = standardisation(problem.x[problem.train], problem.weight[problem.train])
    deviation = deviation * np.sqrt(problem.x.shape[1])
    x = (problem.x - mean) / deviation
    machine: _Machine = _Rbf(problem, x) if rbf else _Linear(problem, x)
    folds = problem.folds("calibrating an SVM")
    trials = _choose(machine, problem, folds)
    best = min(trials, key=lambda trial: (-trial["val_accuracy"], trial["val_loss"]))
    setting = {name: best[name] for name in machine.grid[0]}
    slope, offset = _calibrate(_out_of_fold(machine, folds, setting), problem)
    coefficients, intercept = machine.fit(problem.final, setting)
    kernel, bias = coefficients * slope, intercept * slope + offset
    if not rbf:
        kernel = kernel / deviation[:, None]
        logits = logits_layer(kernel, bias - mean @ kernel, problem)
        return Fitted(logits, setting, trials)
    support = np.flatnonzero(np.any(coefficients != 0, axis=1))
    logits = logits_layer(kernel[support], bias, problem)
    vectors = x[problem.final][support] * np.sqrt(setting["gamma"])
    scale = deviation / np.sqrt(setting["gamma"])
    return Fitted(lambda features: logits(_rbf_layers(features, mean, scale, vectors)), setting, trials)


def _choose(machine: _Machine, problem: Problem, folds: Any) -> list[dict[str, Any]]:
    """Trials with ``val_accuracy``, and ``val_loss`` where that decides (elsewhere None)."""
    train, val, by_val = problem.train, problem.val, problem.chosen_on == "validation"
    decisions = []
    for setting in progress.track(machine.grid, "Fitting the SVM", len(machine.grid)):
        decisions.append(
            _decide(machine, val, train, setting) if by_val else _out_of_fold(machine, folds, setting)
        )
    rows = val if by_val else train
    y, counts = problem.y[rows], problem.judged[rows]
    accuracies = [float(np.average(values.argmax(axis=1) == y, weights=counts)) for values in decisions]
    trials: list[dict[str, Any]] = []
    for setting, values, accuracy in zip(machine.grid, decisions, accuracies, strict=True):
        loss = None
        if accuracy == max(accuracies):
            held_out = _out_of_fold(machine, folds, setting) if by_val else values
            slope, offset = _calibrate(held_out, problem)
            loss = loss_of(softmax(values * slope + offset, axis=1), y)
        trials.append({**setting, "val_accuracy": accuracy, "val_loss": loss})
    return trials


def _decide(machine: _Machine, at: np.ndarray, rows: np.ndarray, setting: dict[str, float]) -> np.ndarray:
    coefficients, intercept = machine.fit(rows, setting)
    return machine.inputs(at, rows, setting) @ coefficients + intercept


def _out_of_fold(machine: _Machine, folds: Any, setting: dict[str, float]) -> np.ndarray:
    """Decision values ``(n, F)`` of the training rows, each from a machine that was not fitted to it."""
    parts = [_decide(machine, at, rows, setting) for rows, at in folds]
    order = np.concatenate([at for _, at in folds])
    values = np.empty((len(order), parts[0].shape[1]))
    values[order] = np.concatenate(parts)
    return values


def _calibrate(decisions: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and offsets ``(F,)`` of vector scaling, by maximum likelihood of Platt's targets.

    A class of n images has the target ``(n + 1) / (n + 2)`` instead of 1 (the rest goes to the others evenly), which
    keeps slopes finite where the decision values separate the classes. Slopes are held positive: decision values that
    say nothing end in flat probabilities, not in reversed ones.
    """
    y, weight = problem.y[problem.train], problem.weight[problem.train] / problem.weight[problem.train].mean()
    count = decisions.shape[1]
    certainty = (np.bincount(y) + 1) / (np.bincount(y) + 2)
    targets = np.repeat(((1 - certainty[y]) / (count - 1))[:, None], count, axis=1)
    targets[np.arange(len(y)), y] = certainty[y]
    unit = float(decisions.std()) or 1.0
    d = decisions / unit

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_chance = log_softmax(d * parameters[:count] + parameters[count:], axis=1)
        rest = (np.exp(log_chance) - targets) * (weight / len(y))[:, None]
        value = -float(np.sum(targets * log_chance * (weight / len(y))[:, None]))
        return value, np.concatenate([(rest * d).sum(axis=0), rest.sum(axis=0)])

    start = np.concatenate([np.ones(count), np.zeros(count)])
    limits = [(1e-3, None)] * count + [(None, None)] * count
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 1000}).x
    return found[:count] / unit, found[count:]


def _rbf_layers(features: Any, mean: np.ndarray, scale: np.ndarray, vectors: np.ndarray) -> keras.KerasTensor:
    z = keras.layers.Normalization(mean=mean, variance=scale**2, name="head_standardised")(features)
    near = dense_of(2 * vectors.T, -np.sum(vectors**2, axis=1), "head_support_vectors")(z)
    length = keras.ops.sum(keras.ops.square(z), axis=-1, keepdims=True)
    return keras.ops.exp(keras.ops.subtract(near, length))
