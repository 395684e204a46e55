"""Which layers train, by every rule; batch normalization stays out unless asked."""

import keras
import numpy as np
import pytest
from keras_transfer_tests.frozen import frozen_fingerprint

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.errors import UsageError
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.freezing import freeze, set_trainable, unfreeze_from


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = image
    for block in (1, 2, 3):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(2, name="decide")(x))


def trained(model):
    return [layer.name for layer in leaf_layers(model) if layer.trainable and layer.weights]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", []),
        ("all", ["block1_conv", "block2_conv", "block3_conv", "decide"]),
        ("from:block3_conv", ["block3_conv", "decide"]),
        ("from:block2", ["block2_conv", "block3_conv", "decide"]),
        ("20%", ["decide"]),
        ("30%", ["block3_conv", "decide"]),
        ("50%", ["block3_conv", "decide"]),
        ("0%", []),
        ("100%", ["block1_conv", "block2_conv", "block3_conv", "decide"]),
        (".*2_conv", ["block2_conv"]),
        (lambda layer: layer.name == "decide", ["decide"]),
    ],
)
def test_each_rule_trains_what_it_says_and_batch_normalization_only_on_request(model, rule, expected):
    freeze(model)
    set_trainable(model, rule)
    assert trained(model) == expected
    set_trainable(model, rule, batchnorm="train")
    with_norms = trained(model)
    assert [name for name in with_norms if not name.endswith("_bn")] == expected
    if rule == "all":
        assert "block1_bn" in with_norms


def test_changes_are_returned_and_a_second_time_nothing_changes(model):
    assert set(freeze(model)) == {layer.name for layer in model.layers}
    assert freeze(model) == []
    changed = unfreeze_from(model, "block3_conv")
    assert changed[0] == "block3_conv"
    assert "block3_bn" not in changed
    assert unfreeze_from(model, "block3_conv") == []


def test_blocks_from_the_top(model):
    set_trainable(model, "blocks:2")
    assert "decide" in trained(model)
    assert "block1_conv" not in trained(model)
    set_trainable(model, "blocks:99")
    assert "block1_conv" in trained(model)


def test_nested_models_are_opened(model):
    image = keras.Input((8, 8, 3))
    outer = keras.Model(image, keras.layers.Dense(3, name="top")(model(image)))
    freeze(outer)
    assert not outer.trainable_weights
    unfreeze_from(outer, "block3_conv")
    assert trained(outer) == ["block3_conv", "decide", "top"]
    assert len(outer.trainable_weights) == 6


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("from:block9", "Did you mean block"),
        ("nothing_like_this", "matches no layer"),
        ("(", "regular expression"),
        ("130%", "at most 100%"),
    ],
)
def test_a_rule_that_names_nothing_is_refused(model, rule, said):
    with pytest.raises(UsageError, match=said):
        set_trainable(model, rule)
    with pytest.raises(UsageError, match="frozen"):
        set_trainable(model, "all", batchnorm="maybe")


def test_the_fingerprint_notices_one_changed_statistic(model):
    freeze(model)
    before = frozen_fingerprint(model)
    norm = model.get_layer("block1_bn")
    statistics = norm.get_weights()
    statistics[2] = np.nextafter(statistics[2], np.float32(9))
    norm.set_weights(statistics)
    assert frozen_fingerprint(model) != before


def test_a_backbone_inside_another_model_has_the_blocks_it_has_alone(model):
    outer = keras.Sequential([model, keras.layers.Dense(3)])
    set_trainable(outer, "blocks:2")
    inner = {layer.name for layer in leaf_layers(model)}
    assert trained(outer)[-1].startswith("dense") and set(trained(outer)) & inner
    assert "block1_conv" not in trained(outer)
    unfreeze_from(outer, "block2")
    assert "block2_conv" in trained(outer) and "block1_conv" not in trained(outer)
    plan = FreezePlan.for_model(outer, "from:block3")
    assert "block3_conv" in plan.layers and "block2_conv" not in plan.layers
