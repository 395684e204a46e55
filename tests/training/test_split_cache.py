"""Training on cached activations is training through the frozen network: same order, same weights."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_transfer_tests.frozen import frozen_fingerprint

from keras_transfer.backbones import load_backbone
from keras_transfer.data import load_data
from keras_transfer.data.augmentation import Augmenter
from keras_transfer.data.order import epoch_rows
from keras_transfer.data.pipeline import tf_dataset
from keras_transfer.errors import UsageError
from keras_transfer.features.activations import Activations, activations
from keras_transfer.features.boundary import cut_at, find_boundary, frozen_dropout_off
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import add_head, logits_model
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.split_cache import SplitFeed, worthwhile

SIZE = (32, 32)
PREPROCESSING = Preprocessing(SIZE)


@pytest.fixture(scope="module")
def table(photo_folder):
    """40 real crops."""
    return load_data(photo_folder)


def classifier(dropout: float = 0.0) -> keras.Model:
    """Two convolutions, dropout between them; normalization's statistics mean something."""
    rng = np.random.default_rng(0)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", name="low")(x)
    x = keras.layers.BatchNormalization(name="low_bn")(x)
    x = keras.layers.ReLU(name="low_relu")(x)
    x = keras.layers.Dropout(dropout, seed=1, name="low_drop")(x)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", name="high")(x)
    model = add_head(keras.Model(image, keras.layers.ReLU()(x)), 2, dropout=dropout)
    for weight in model.get_layer("low_bn").weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    set_trainable(model, "high|head_.*|logits")
    return model


def numbered(rows: int, views: int = 1) -> Activations:
    """Activations that tell their row and view: ``100 * view + row``."""
    values = (100 * np.arange(views)[:, None] + np.arange(rows)).astype("float16")[..., None]
    return Activations(values, np.arange(rows), "keras", rows, 0, 0.0, 0.0)


def drawn(data: tf.data.Dataset, batches: int | None = None) -> list[np.ndarray]:
    return [batch[0].numpy().ravel() for batch in data.take(-1 if batches is None else batches)]


# Order


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"repeat": True}, {"repeat": True, "first_epoch": 2}])
@pytest.mark.parametrize("sampled", [False, True])
def test_rows_come_in_the_order_of_the_pipeline(table, options, sampled):
    rows = np.array([1, 5, 8, 13, 21, 34, 3, 2, 39, 30, 31])
    if sampled:
        options = {**options, "sampling": np.arange(1.0, 12.0)}
    labelled = np.arange(len(table), dtype="float32")[:, None]
    ours = SplitFeed(numbered(len(table))).dataset(
        labelled, rows=rows, batch_size=4, shuffle=True, seed=7, **options
    )
    table = type(table)(**{**vars(table), "label_mode": "regression", "classes": (), "labels": labelled})
    theirs = tf_dataset(table, PREPROCESSING, 4, indices=rows, shuffle=True, seed=7, **options)
    assert ours.cardinality() == theirs.cardinality()
    for _ in range(2):  # without `repeat`, each new iterator is the next epoch
        for (values, labels), (_, expected) in zip(ours.take(8), theirs.take(8), strict=True):
            np.testing.assert_array_equal(labels, expected)
            np.testing.assert_array_equal(values, expected)


def test_epochs_take_turns_with_the_views():
    feed = SplitFeed(numbered(6, views=2))
    labels = np.zeros(6, "int32")
    batches = drawn(feed.dataset(labels, batch_size=3, shuffle=True, repeat=True), 6)
    assert [int(b.min()) // 100 for b in batches] == [0, 0, 1, 1, 0, 0]
    resumed = drawn(feed.dataset(labels, batch_size=3, shuffle=True, repeat=True, first_epoch=1), 4)
    np.testing.assert_array_equal(np.concatenate(batches[2:]), np.concatenate(resumed))


def test_an_epoch_is_a_permutation_or_a_draw_by_chances():
    rows = np.arange(10, 20)
    first, second = (epoch_rows(rows, 3, epoch, True) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == rows.tolist() and (first != second).any()
    np.testing.assert_array_equal(epoch_rows(rows, 3, 0, False), rows)
    only = epoch_rows(rows, 3, 0, True, sampling=[0, 1] + [0] * 8)
    assert only.tolist() == [11] * 10


def test_labels_and_weights_come_along_as_they_are():
    labels = np.eye(5, dtype="float32")
    (values, given, weights), *rest = SplitFeed(numbered(5)).dataset(
        labels, np.arange(5.0), rows=[3, 1], batch_size=8
    )
    assert not rest and values.dtype == tf.float32 and weights.dtype == tf.float32
    np.testing.assert_array_equal(given, labels[[3, 1]])
    np.testing.assert_array_equal(weights, [3, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": [5]}, "0 to 4"),
        ({"batch_size": 0}, "batch_size"),
        ({"labels": np.zeros(4)}, "lengths"),
        ({"weights": np.zeros(6)}, "lengths"),
        ({"sampling": [0.5, 0.5]}, "one per row"),
        ({"sampling": [0, 0, 0, 0, -1]}, "at least 0"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SplitFeed(numbered(5)).dataset(**{"labels": np.zeros(5), **options})


def test_rows_without_activations_are_refused_at_once():
    kept = numbered(5)
    kept.places[2] = -1
    with pytest.raises(UsageError, match="Row 2 has no activations"):
        SplitFeed(kept).dataset(np.zeros(5))


# The same training


def train(network: keras.Model, data: tf.data.Dataset, steps: int, epochs: int, rate: float) -> None:
    network.compile(
        keras.optimizers.SGD(rate, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.fit(data, steps_per_epoch=steps, epochs=epochs, verbose=0)


def both_ways(make, table, preprocessing, epochs, rate=0.02, batch_size=8):
    """The change of every trained weight: through the whole network, and on cached activations."""
    changes = []
    rows = table.indices("train")
    order = {"batch_size": batch_size, "shuffle": True, "seed": 3, "repeat": True}
    for cached in (False, True):
        keras.utils.set_random_seed(0)
        model = make()
        with frozen_dropout_off(model):
            before, frozen = [w.numpy() for w in model.trainable_variables], frozen_fingerprint(model)
            lower, upper = cut_at(model, find_boundary(model))
            steps = math.ceil(len(rows) / batch_size)
            if cached:
                kept = activations(table, lower, preprocessing=preprocessing, indices=rows, engine="keras")
                labels = table.labels.astype("int32")
                train(upper, SplitFeed(kept).dataset(labels, rows=rows, **order), steps, epochs, rate)
            else:
                data = tf_dataset(table, preprocessing, indices=rows, **order)
                train(logits_model(model), data, steps, epochs, rate)
        assert frozen_fingerprint(model) == frozen, "what is frozen stays bit-identical"
        changes.append([w.numpy() - b for w, b in zip(model.trainable_variables, before, strict=True)])
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.nightly), 0.4])
def test_the_weights_become_those_of_a_training_through_the_frozen_network(table, dropout):
    """The head's dropout draws the same masks, and the frozen part's is off, both ways."""
    whole, cached = both_ways(lambda: classifier(dropout), table, PREPROCESSING, epochs=2)
    for a, b in zip(whole, cached, strict=True):
        assert np.abs(a).max() > 1e-3, "it must learn"
        assert np.linalg.norm(a - b) <= 1e-2 * np.linalg.norm(a)


@pytest.mark.nightly
def test_the_weights_become_those_of_a_training_through_the_frozen_network_lite0(table):
    def make():
        model = add_head(load_backbone("efficientnet_lite0", image_size=96), 2)
        set_trainable(model, "from:block7a")
        for layer in model.layers:  # stochastic depth in what trains draws other masks in another graph
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        return model

    whole, cached = both_ways(make, table, Preprocessing((96, 96)), epochs=1, rate=1e-3)
    for a, b in zip(whole, cached, strict=True):
        assert np.linalg.norm(a - b) <= 1e-2 * np.linalg.norm(a)


@pytest.mark.slow
def test_with_augmented_views_the_model_learns(table):
    keras.utils.set_random_seed(0)
    model, rows = classifier(), table.indices("train")
    lower, upper = cut_at(model, find_boundary(model))
    kept = activations(
        table,
        lower,
        preprocessing=PREPROCESSING,
        indices=rows,
        engine="keras",
        augmenter=Augmenter("standard", SIZE),
        views=2,
    )
    assert kept.computed == 2 * len(rows)
    data = SplitFeed(kept).dataset(table.labels.astype("int32"), rows=rows, shuffle=True, batch_size=8)
    upper.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = upper.fit(data, epochs=10, verbose=0).history
    assert history["accuracy"][-1] > 0.8 and history["loss"][-1] < 0.7 * history["loss"][0]


# Whether it pays


def test_caching_is_worthwhile_high_up_and_for_many_epochs():
    model = classifier()
    assert worthwhile(model, None, 1000, 1, 10) == (
        False,
        "Nothing below the layers that train stays the same, so there is nothing to cache.",
    )
    yes, why = worthwhile(model, "head_pooling", 10**8, 1, 10)
    assert yes and "100% of the network lies below head_pooling" in why
    no, why = worthwhile(model, "head_pooling", 100, 1, 1)
    assert not no and "too little" in why, "a conversion takes longer"


@pytest.mark.nightly
def test_what_was_measured_on_lite0_is_decided_accordingly():
    model = add_head(load_backbone("efficientnet_lite0", image_size=224), 2)
    answers = {
        name: worthwhile(model, name, 2000, 1, 10)[0]
        for name in ("block2b_add", "block4c_add", "block5c_add", "block6d_add", "block7a_project_bn")
    }
    assert list(answers.values()) == [False, False, True, True, True]
