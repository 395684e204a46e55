"""Every loss against a slow formula in NumPy, and batches in which there is nothing to compare."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from keras_transfer_siamese.losses import (
    ArcFace,
    BatchHardTriplet,
    Contrastive,
    PairCrossEntropy,
    Prototypical,
    SemiHardTriplet,
    SupervisedContrastive,
)

COLUMNS = np.array([0, 1, 2, 3, -1, -1])


def made(seed, labels, width=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(labels), width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def value(loss, labels, x):
    return float(loss(np.array(labels), x))


def pairs_of(labels):
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j:
                yield i, j, labels[i] == labels[j]


def mean(values):
    values = list(values)
    return float(np.mean(values)) if values else 0.0


def contrastive(labels, x, margin=1.0):
    d = {(i, j): np.linalg.norm(x[i] - x[j]) for i, j, _ in pairs_of(labels)}
    same = mean(d[i, j] ** 2 for i, j, equal in pairs_of(labels) if equal)
    different = mean(max(0, margin - d[i, j]) ** 2 for i, j, equal in pairs_of(labels) if not equal)
    return (same + different) / 2


def pair_cross_entropy(labels, x):
    def chance(i, j):
        return 1 / (1 + np.exp(-(x[i, -1] - np.abs(x[i, :-1] - x[j, :-1]).sum())))

    same = mean(-np.log(chance(i, j)) for i, j, equal in pairs_of(labels) if equal)
    return (same + mean(-np.log(1 - chance(i, j)) for i, j, equal in pairs_of(labels) if not equal)) / 2


def batch_hard(labels, x, margin=0.2):
    costs = []
    for a in range(len(labels)):
        positive = [np.linalg.norm(x[a] - x[j]) for i, j, equal in pairs_of(labels) if i == a and equal]
        negative = [np.linalg.norm(x[a] - x[j]) for i, j, equal in pairs_of(labels) if i == a and not equal]
        if positive and negative:
            gap = max(positive) - min(negative)
            costs.append(np.log1p(np.exp(gap)) if margin is None else max(0, margin + gap))
    return mean(costs)


def semi_hard(labels, x, margin=0.2):
    costs = []
    for a, p, equal in pairs_of(labels):
        negative = [((x[a] - x[j]) ** 2).sum() for j in range(len(labels)) if labels[j] != labels[a]]
        if equal and negative:
            near = ((x[a] - x[p]) ** 2).sum()
            beyond = [far for far in negative if far > near]
            costs.append(max(0, margin + near - (min(beyond) if beyond else max(negative))))
    return mean(costs)


def prototypical(labels, x, scale=10.0, shots=1):
    labels = np.array(labels)
    members = {label: np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())}
    prototypes = {label: x[rows[:shots]].mean(axis=0) for label, rows in members.items()}
    costs = []
    for label, rows in members.items():
        for row in rows[shots:]:
            logits = {other: -scale * ((x[row] - p) ** 2).sum() for other, p in prototypes.items()}
            costs.append(np.log(sum(map(np.exp, logits.values()))) - logits[label])
    return mean(costs)


def supervised_contrastive(labels, x, scale=10.0):
    costs = []
    for a in range(len(labels)):
        logits = {j: scale * x[a] @ x[j] for j in range(len(labels)) if j != a}
        whole = np.log(sum(map(np.exp, logits.values()))) if logits else 0
        positives = [logits[j] - whole for j in logits if labels[j] == labels[a]]
        if positives:
            costs.append(-np.mean(positives))
    return mean(costs)


def arcface(labels, x, margin=0.3, scale=16.0):
    costs = []
    for row, label in zip(x[:, :4], labels, strict=True):
        if COLUMNS[label] < 0:
            continue
        logits = scale * row.astype(np.float64)
        angle = np.arccos(row[label])
        turned = np.cos(angle + margin) if angle + margin < np.pi else row[label] - margin * np.sin(margin)
        logits[label] = scale * turned
        costs.append(np.log(np.exp(logits).sum()) - logits[label])
    return mean(costs)


LOSSES = [
    (Contrastive(), contrastive),
    (Contrastive(1.6), lambda y, x: contrastive(y, x, 1.6)),
    (PairCrossEntropy(), pair_cross_entropy),
    (BatchHardTriplet(), batch_hard),
    (BatchHardTriplet(None), lambda y, x: batch_hard(y, x, None)),
    (SemiHardTriplet(), semi_hard),
    (SemiHardTriplet(1.0), lambda y, x: semi_hard(y, x, 1.0)),
    (Prototypical(), prototypical),
    (Prototypical(3.0, shots=2), lambda y, x: prototypical(y, x, 3.0, 2)),
    (SupervisedContrastive(), supervised_contrastive),
    (SupervisedContrastive(3.0), lambda y, x: supervised_contrastive(y, x, 3.0)),
    (ArcFace(COLUMNS), arcface),
    (ArcFace(COLUMNS, 0.0, 30.0), lambda y, x: arcface(y, x, 0.0, 30.0)),
]
IDS = [f"{loss.name}-{place}" for place, (loss, _) in enumerate(LOSSES)]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "formula"), LOSSES, ids=IDS)
@settings(max_examples=15)
@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=10), seed=st.integers(0, 1000))
def test_a_loss_is_its_formula(loss, formula, labels, seed):
    x = made(seed, labels)
    assert value(loss, labels, x) == pytest.approx(formula(labels, x), rel=2e-3, abs=2e-4)


@pytest.mark.parametrize(("loss", "_formula"), LOSSES, ids=IDS)
@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2, 3], [1, 1, 1, 1], [2], [4, 4, 5, 5]],
    ids=["alone", "one class", "one image", "unseen"],
)
def test_a_batch_with_little_to_compare_gives_finite_gradients(loss, _formula, labels):
    import tensorflow as tf

    x = tf.Variable(made(0, labels))
    if len(labels) > 1:
        x.assign(tf.concat([x[:1], x[:1], x[2:]], 0))  # two equal embeddings: their distance has no slope
    with tf.GradientTape() as tape:
        cost = loss(np.array(labels), x)
    gradient = tape.gradient(cost, x)
    assert np.isfinite(float(cost)) and np.isfinite(gradient.numpy()).all()


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (BatchHardTriplet(), [0, 1, 2, 3]),
        (BatchHardTriplet(), [0, 0, 0, 0]),
        (SemiHardTriplet(), [0, 1, 2, 3]),
        (SemiHardTriplet(), [0, 0, 0, 0]),
        (Prototypical(), [0, 1, 2, 3]),
        (SupervisedContrastive(), [0, 1, 2, 3]),
        (ArcFace(COLUMNS), [4, 5, 4, 5]),
    ],
)
def test_what_cannot_be_compared_costs_nothing_and_moves_nothing(loss, labels):
    import tensorflow as tf

    x = tf.Variable(made(1, labels))
    with tf.GradientTape() as tape:
        cost = loss(np.array(labels), x)
    gradient = tape.gradient(cost, x, unconnected_gradients="zero")
    assert float(cost) == 0
    assert not np.any(gradient.numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        SupervisedContrastive(),
        *(
            pytest.param(loss, marks=pytest.mark.nightly)
            for loss in (Contrastive(1.4), BatchHardTriplet(), SemiHardTriplet(), Prototypical())
        ),
    ],
    ids=lambda loss: loss.name,
)
def test_learning_pulls_classes_apart(loss):
    labels = np.repeat(np.arange(4), 4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 12)).astype(np.float32)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8), keras.layers.UnitNormalization()])
    model.layers[0].set_weights([rng.normal(size=(12, 8)).astype(np.float32) / 4, np.zeros(8, np.float32)])
    model.compile(keras.optimizers.Adam(0.03), loss)

    def gap():
        z = ops.convert_to_numpy(model(x))
        scores = z @ z.T
        same = labels[:, None] == labels
        return scores[same].mean() - scores[~same].mean()

    before = gap()
    model.fit(np.tile(x, (80, 1)), np.tile(labels, 80), batch_size=16, shuffle=False, verbose=0)
    assert gap() > before + 0.2
