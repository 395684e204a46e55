"""What a training is given beside its loss: the layers of some losses, and the metric that epochs are chosen by."""

import keras
import numpy as np
import pytest
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.objective import SiameseObjective, trained_comparison, training_network

LABELS = np.array([0, 0, 1, 1, 2, 2, 3])


def network(name):
    entry = keras.Input((6,))
    x = keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=0))(entry)
    x = x if name == "bce" else keras.layers.UnitNormalization()(x)
    objective = SiameseObjective(name, 2, columns=np.array([0, 1, 2, -1], np.int32))
    return keras.Model(entry, x), objective


@pytest.mark.parametrize("name", ["supcon", "bce", "arcface"])
def test_the_metric_is_the_share_of_images_whose_nearest_is_of_their_class(name):
    embedding, objective = network(name)
    whole = training_network(embedding, objective, 0)
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    metric = objective.metrics()[0]
    metric.update_state(LABELS, whole(x))
    embeddings = np.asarray(embedding(x))
    scores = trained_comparison(whole, "cosine").scores(embeddings, embeddings)
    np.fill_diagonal(scores, -np.inf)
    right = (LABELS[scores.argmax(axis=1)] == LABELS)[:6]  # the last one is alone
    assert float(metric.result()) == pytest.approx(right.mean())


def test_the_weighted_l1_layer_is_the_comparison_it_becomes():
    embedding, objective = network("bce")
    whole = training_network(embedding, objective, 0)
    layer = whole.get_layer("head_weighted_l1")
    layer.set_weights([np.array([0.5, 0.0, 2.0, 1.0], np.float32), np.array([0.7], np.float32)])
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    given, embeddings = np.asarray(whole(x)), np.asarray(embedding(x))
    logits = given[:, None, -1] - np.abs(given[:, None, :-1] - given[None, :, :-1]).sum(axis=-1)
    comparison = trained_comparison(whole, "cosine")
    assert comparison.kind == "weighted_l1"
    assert comparison.scores(embeddings, embeddings) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)


def test_other_losses_keep_the_comparison_asked_for():
    embedding, objective = network("supcon")
    found = trained_comparison(training_network(embedding, objective, 0), "euclidean")
    assert found.to_dict() == Comparison("euclidean").to_dict()


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["bce", "arcface", "softmax", "supcon"])
def test_every_loss_trains_through_its_network(name):
    embedding, objective = network(name)
    whole = training_network(embedding, objective, 0)
    whole.compile(keras.optimizers.Adam(0.03), objective.loss())
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    found = whole.fit(
        np.tile(x, (40, 1)), np.tile(LABELS, 40), batch_size=7, shuffle=False, epochs=2, verbose=0
    )
    assert found.history["loss"][-1] < found.history["loss"][0]


def test_the_scale_of_a_loss_is_no_scale_of_labels():
    """`--scale 20` once ended a gradient training: the core took it for the deviation of numbers to learn."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="logits")])
    before = model.get_weights()
    with SiameseObjective("arcface", 2, scale=20.0).in_training_units(model):
        for given, kept in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(given, kept)
