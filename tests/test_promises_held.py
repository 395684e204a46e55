"""Promises that ``tests/mutations.py`` found to be held by no other test."""

import keras
import numpy as np
import pytest

from keras_transfer import litert
from keras_transfer.data import load_data
from keras_transfer.export.golden import choose_rows
from keras_transfer.features.activations import activations
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.callbacks import Record
from keras_transfer.training.probe import fit_probe


def network():
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x)))


def test_batch_normalization_that_trains_is_frozen_unless_asked_for():
    """Keras builds networks in which everything trains."""
    model = network()
    assert model.get_layer("norm").trainable
    changed = set_trainable(model, "all")
    assert not model.get_layer("norm").trainable and model.get_layer("conv").trainable
    assert "norm" in changed and "conv" not in changed


def test_activations_belong_to_their_preprocessing(photo_folder):
    table, lower = load_data(photo_folder), keras.Sequential([keras.Input((16, 16, 3)), keras.layers.ReLU()])
    rows = [0, 30]
    found = []
    for resize in ("squash", "crop"):
        preprocessing = Preprocessing((16, 16), resize=resize, interpolation="nearest")
        kept = activations(table, lower, preprocessing=preprocessing, indices=rows, engine="keras")
        found.append(kept.computed)
    assert found == [2, 2]


def test_the_weights_of_the_best_epoch_come_back_and_not_those_of_the_last(tmp_path):
    model = network()
    bias = model.get_layer("logits").bias
    record = Record(tmp_path, model, "val_loss", higher=False, patience=9)
    record.begin({"val_loss": 1.0})
    for epoch, loss in enumerate([0.6, 0.3, 0.5], 1):
        bias.assign(np.full(2, epoch))
        record.keep_raw(keras.optimizers.SGD())
        record.close({"val_loss": loss})
    assert record.restore_best() == 2
    np.testing.assert_array_equal(bias, [2, 2])


def test_golden_images_are_of_the_split_asked_for_and_others_fill_up_what_it_lacks(photo_folder):
    table = load_data(photo_folder)
    assert len(table.indices("test")) == 8
    assert choose_rows(table, "test", 0).tolist() == table.indices("test").tolist()
    few = table.take(np.sort(np.r_[table.indices("test")[:5], table.indices("train")]))
    rows = choose_rows(few, "test", 0)
    assert len(rows) == 8 and set(few.indices("test")) < set(rows)


def test_the_probes_strength_is_the_one_with_the_lowest_validation_loss():
    """Of noise: on the images that were learned from, the weakest regularisation would look best."""
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(200, 60)).astype("float32"), rng.integers(0, 2, 200)
    features = keras.Input((60,))
    model = add_head(keras.Model(features, keras.layers.Identity()(features)), 2)
    train, val = np.arange(100), np.arange(100, 200)
    result = fit_probe(model, noise, labels, train=train, val=val)
    lowest = min(result.trials, key=lambda trial: trial["val_loss"])
    assert lowest["C"] < min(result.trials, key=lambda trial: trial["train_loss"])["C"]
    assert result.c == lowest["C"]
    chance = np.asarray(model([noise[val]]))[np.arange(100), labels[val]]
    assert -np.log(chance).mean() == pytest.approx(lowest["val_loss"], abs=1e-3)


def test_integer_inputs_are_the_nearest_step():
    tensor = litert.TensorInfo("t", (-1, 4), np.dtype(np.int8), scale=2.0, zero_point=10)
    stored = litert.store(np.array([[2.9, 3.1, -2.9, -3.1]], np.float32), tensor)
    assert stored.tolist() == [[11, 12, 9, 8]]
