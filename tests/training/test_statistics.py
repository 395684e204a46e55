"""Moving statistics after a training of few steps are those of the images and of the weights that came out."""

import keras
import numpy as np
import pytest

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.data import batches, load_data
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.finetune import fine_tune
from keras_transfer.training.phases import Phase
from keras_transfer.training.statistics import remembering_an_epoch

PIXELS = Preprocessing((32, 32))


def network(momentum):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = image
    for block in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides=2, name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(momentum=momentum, name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
    return add_head(keras.Model(image, x), 2)


def norms(model):
    return {
        layer.name: layer
        for layer in leaf_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    }


@pytest.mark.slow
def test_statistics_follow_the_images(photo_folder):
    """A pretrained network's momentum of 0.99 forgets the start (mean 0, variance 1) by a third in 40 steps."""
    table = load_data(photo_folder, val_fraction=0.0, test_fraction=0.0)
    model = network(0.99)
    plan = FreezePlan.for_model(model, "all", batchnorm="train")
    fine_tune(
        model, table, PIXELS, phases=[Phase(0, plan)], epochs=12, batch_size=8, patience=12, keep_start=False
    )
    assert {layer.momentum for layer in norms(model).values()} == {0.99}
    pixels = list(batches(table, PIXELS, indices=table.indices("train")))
    before = {name: np.array(layer.moving_variance) for name, layer in norms(model).items()}
    adapt_batchnorm(model, [np.concatenate(pixels)])
    for name, layer in norms(model).items():
        np.testing.assert_allclose(np.sqrt(before[name]), np.sqrt(np.array(layer.moving_variance)), rtol=0.35)


@pytest.mark.parametrize(
    ("momentum", "steps", "expected"),
    [(0.99, 13, 1 - 1 / 13), (0.99, 2, 0.9), (0.99, 5000, 0.99), (0.999, 500, 0.998), (0.8, 3, 0.8)],
)
def test_the_memory_is_an_epoch(momentum, steps, expected):
    model = network(momentum)
    with remembering_an_epoch(model, steps) as names:
        assert [layer.momentum for layer in norms(model).values()] == pytest.approx([expected] * 2)
        assert names == ([] if expected == momentum else ["block1_bn", "block2_bn"])
    assert {layer.momentum for layer in norms(model).values()} == {momentum}


def test_frozen_layers_are_left_alone_and_an_error_restores():
    model = network(0.99)
    model.get_layer("block1_bn").trainable = False
    with pytest.raises(RuntimeError), remembering_an_epoch(model, 2) as names:
        assert names == ["block2_bn"] and model.get_layer("block1_bn").momentum == 0.99
        raise RuntimeError
    assert model.get_layer("block2_bn").momentum == 0.99
