"""Heads in closed form: the model is the formula, and on images that vary alike in every class they help."""

import keras
import numpy as np
import pytest
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.heads import closed_forms, signed_root
from keras_transfer_siamese.metrics import OneShot
from keras_transfer_siamese.networks import conv4, koch, with_head

from keras_transfer.errors import DataError


def features(classes, each, seed):
    """Class means in a few directions; in others all images vary, whatever they show."""
    rng = np.random.default_rng(seed)
    loud = np.random.default_rng(7).normal(size=(12, 40))
    labels = np.repeat(np.arange(classes), each)
    x = rng.normal(size=(classes, 40))[labels] + 3 * rng.normal(size=(len(labels), 12)) @ loud / 3
    return (x + 5).astype(np.float32), labels


@pytest.mark.slow
def test_every_head_is_built_as_it_is_computed():
    x, labels = features(12, 6, 0)
    x[:, 0] -= 8  # some are below 0
    forms = closed_forms(x, labels, 8)
    assert {form.name for form in forms} == {
        "raw", "centred", "power", "power+centred", "wccn", "lda", "power+wccn", "power+lda",
    }  # fmt: skip
    entry = keras.Input((40,))
    for form in forms:
        model = with_head(keras.Model(entry, keras.layers.Identity()(entry)), form.build)
        found = np.asarray(model(x))
        assert found == pytest.approx(form.embed(x), abs=2e-5), form.name
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
        assert form.kernel is None or form.kernel.shape[1] <= 8
        assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


def test_what_varies_in_every_class_is_taken_out():
    train, labels = features(20, 10, 0)
    new, new_labels = features(20, 10, 1)
    trial = OneShot.draw(new_labels, 300, 0)

    def accuracy(form):
        return trial.accuracies(form.embed(new), Comparison()).mean()

    best = {}
    for form in closed_forms(train, labels, 32):
        best[form.name] = max(best.get(form.name, 0), accuracy(form))
    assert best["wccn"] > best["raw"] + 0.2
    assert best["wccn"] > best["centred"] + 0.2


def test_two_classes_have_no_discriminants_to_embed_in():
    x, labels = features(2, 6, 0)
    assert not any("lda" in form.name for form in closed_forms(x, labels, 8))
    with pytest.raises(DataError, match="three training classes; here are 2"):
        closed_forms(x, labels, 8, "lda")


def test_a_head_that_needs_two_images_of_a_class_says_so():
    x, _ = features(6, 1, 0)
    assert {form.name for form in closed_forms(x, np.arange(6), 8)} == {
        "raw", "centred", "power", "power+centred",
    }  # fmt: skip
    with pytest.raises(DataError, match="no training class has two"):
        closed_forms(x, np.arange(6), 8, "wccn")


def test_the_root_keeps_the_sign():
    assert signed_root(np.array([-4.0, 0.0, 9.0])) == pytest.approx([-2, 0, 3], abs=1e-3)


@pytest.mark.slow
def test_the_networks_of_the_papers():
    twin = koch((105, 105), seed=0)
    shapes = [layer.output.shape[1:] for layer in twin.layers if isinstance(layer, keras.layers.Conv2D)]
    assert shapes == [(96, 96, 64), (42, 42, 128), (18, 18, 128), (6, 6, 256)]
    assert twin.output_shape == (None, 4096)
    small = conv4((28, 28))
    assert small.output_shape == (None, 64)
    white = np.full((1, 28, 28, 3), 255, np.float32)
    assert np.asarray(keras.Model(small.inputs, small.get_layer("ink").output)(white)).max() == pytest.approx(
        0, abs=1e-6
    )
