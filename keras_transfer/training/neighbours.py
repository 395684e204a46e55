"""Heads that compare with what is remembered: the nearest training images, or one prototype per class.

Both see features divided by their length, so that only their direction counts (cosine similarity).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from keras_transfer import progress
from keras_transfer.errors import UsageError
from keras_transfer.heads import LOGITS
from keras_transfer.training.embedding_problem import (
    Fitted,
    Problem,
    dense_of,
    logits_layer,
    loss_of,
)
from keras_transfer.training.probe import ABSENT

MOST_STORED = 20_000
"""Training images a nearest-neighbour head may hold."""
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100)
VOTE_TEMPERATURES = (0.01, 0.03, 0.07, 0.2, 1.0)
PROTOTYPE_SCALES = tuple(10.0 ** (exponent / 4) for exponent in range(0, 13))
"""Inverse temperatures of the squared distances, 1 to 1000, four a decade."""
TIE = 1e-6
"""Similarities this close to the k-th highest count as equal to it: what runtimes differ by in float32."""
_CHUNK = 1024


def fit_knn(problem: Problem) -> Fitted:
    """The k nearest training images vote, the nearer the louder (Wu et al. 2018, arXiv:1805.01978, section 3.4).

    A neighbour of cosine similarity ``s`` has the vote ``exp(s / temperature)``; the votes are made to sum to 1. One
    more neighbour is imagined that votes for all classes evenly, so that no class gets nothing (the m-estimate with
    m = 1): ``(k votes + 1 / F) / (k + 1)``. The logits are the logarithms of these shares. Images as near as the k-th
    (within :data:`TIE`) all vote, so the answer does not depend on the order in which they are stored. ``k`` and the
    temperature are those with the lowest log loss on the validation rows: by accuracy alone a single neighbour often
    wins, and it is never sure of anything. Sample weights have no say.

    Raises:
        UsageError: more than :data:`MOST_STORED` training images.
    """
    count, dimensions = len(problem.train), problem.x.shape[1]
    if count > MOST_STORED:
        raise UsageError(
            f"A nearest-neighbour head holds every training image: {count} of {dimensions} features are "
            f"{count * dimensions * 4 / 1e6:.0f} MB, and every answer multiplies by all of them. At most "
            f"{MOST_STORED} are expected. Use kind='prototype' or 'svm', or fewer training images."
        )
    z = _directions(problem.x).astype(np.float32)
    trials = _try_votes(z, problem)
    best = min(trials, key=lambda trial: trial["val_loss"])
    chosen = {"k": best["k"], "temperature": best["temperature"]}
    stored = problem.final if len(problem.final) <= MOST_STORED else problem.train
    votes = np.zeros((len(stored), problem.classes))
    votes[np.arange(len(stored)), problem.found[problem.y[stored]]] = 1
    imagined = np.full(problem.classes, np.exp(-ABSENT))
    imagined[problem.found] = 1
    k = best["k"]
    memory = dense_of(z[stored].T, None, "head_memory")
    shares = dense_of(votes * k / (k + 1), imagined / imagined.sum() / (k + 1), "head_votes")

    def build(features: keras.KerasTensor) -> keras.KerasTensor:
        similarity = memory(keras.layers.UnitNormalization(name="head_direction")(features))
        logits = ops.log(shares(vote_weights(similarity, k, best["temperature"])))
        return keras.layers.Activation("linear", name=LOGITS)(logits)

    return Fitted(build, chosen, trials)


def vote_weights(similarity: Any, k: int, temperature: float) -> Any:
    """How much each stored image has to say, summing to 1.

    Args:
        similarity: cosine similarities ``(B, N)``, an array or a KerasTensor.
        k: neighbours that vote, at most N.
        temperature: the smaller, the more the nearest count.
    """
    # A mask by threshold and not a gather: top_k's indices would need one-hot rows of the labels, which the
    # edge converter turns into far slower code, and a threshold treats equally near images equally.
    nearest, _ = ops.top_k(similarity, k)
    chosen = ops.cast(ops.greater_equal(similarity, nearest[:, -1:] - TIE), "float32")
    loudness = ops.exp((similarity - nearest[:, :1]) / temperature) * chosen
    return loudness / ops.sum(loudness, axis=-1, keepdims=True)


def fit_prototype(problem: Problem) -> Fitted:
    """The class whose mean is nearest (Snell et al. 2017, arXiv:1703.05175).

    Logits are the negative squared Euclidean distances between the feature's direction and the (weighted) mean
    direction of each class, times a scale chosen by validation log loss. ``-|z - p|^2 = 2 z.p - |p|^2 - |z|^2``, and
    the last term is the same for all classes, so that a Dense layer after the normalisation is all there is.
    """
    z = _directions(problem.x)
    parts, trials = [], []
    for rows, at in problem.splits:
        kernel, bias = _prototypes(z, problem, rows)
        parts.append((z[at] @ kernel + bias, problem.y[at]))
    for scale in PROTOTYPE_SCALES:
        accuracies = [float(np.mean(values.argmax(axis=1) == y)) for values, y in parts]
        losses = [loss_of(softmax(values * scale, axis=1), y) for values, y in parts]
        trials.append(
            {
                "scale": scale,
                "val_accuracy": float(np.mean(accuracies)),
                "val_loss": float(np.mean(losses)),
            }
        )
    best = min(trials, key=lambda trial: trial["val_loss"])
    kernel, bias = _prototypes(z, problem, problem.final)
    logits = logits_layer(kernel * best["scale"], bias * best["scale"], problem)

    def build(features: keras.KerasTensor) -> keras.KerasTensor:
        return logits(keras.layers.UnitNormalization(name="head_direction")(features))

    return Fitted(build, {"scale": best["scale"]}, trials)


def _prototypes(z: np.ndarray, problem: Problem, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, weight = problem.y[rows], problem.weight[rows]
    means = np.stack(
        [np.average(z[rows][y == c], axis=0, weights=weight[y == c]) for c in range(len(problem.found))]
    )
    return 2 * means.T, -np.sum(means**2, axis=1)


def _directions(x: np.ndarray) -> np.ndarray:
    # The floor is UnitNormalization's: features that are all zero stay zero.
    return x / np.sqrt(np.maximum(np.sum(x**2, axis=1, keepdims=True), 1e-12))


def _try_votes(z: np.ndarray, problem: Problem) -> list[dict[str, Any]]:
    splits = problem.splits
    most = min(len(rows) for rows, _ in splits)
    grid = [(k, temperature) for k in NEIGHBOURS if k <= most for temperature in VOTE_TEMPERATURES]
    classes = len(problem.found)
    right, loss, images = np.zeros(len(grid)), np.zeros(len(grid)), 0
    pieces = [
        (rows, at[start : start + _CHUNK]) for rows, at in splits for start in range(0, len(at), _CHUNK)
    ]
    for rows, at in progress.track(pieces, "Asking the neighbours", len(pieces)):
        similarity = z[at] @ z[rows].T
        voters = np.eye(classes, dtype=np.float32)[problem.y[rows]]
        for position, (k, temperature) in enumerate(grid):
            votes = ops.convert_to_numpy(vote_weights(similarity, k, temperature)) @ voters
            shares = (k * votes + 1 / classes) / (k + 1)
            right[position] += np.sum(shares.argmax(axis=1) == problem.y[at])
            loss[position] += loss_of(shares, problem.y[at]) * len(at)
        images += len(at)
    return [
        {"k": k, "temperature": temperature, "val_accuracy": r / images, "val_loss": total / images}
        for (k, temperature), r, total in zip(grid, right.tolist(), loss.tolist(), strict=True)
    ]
