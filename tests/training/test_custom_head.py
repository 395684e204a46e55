"""A head of the user's own: several layers replaced, everything below shared, and what is refused."""

import keras
import numpy as np
import pytest
from keras.layers import Conv2D, Dense, Dropout, GlobalAveragePooling2D, Softmax

from keras_transfer import FreezePlan, Preprocessing, fine_tune, load_data
from keras_transfer.errors import UsageError
from keras_transfer.heads import add_head, head_layers, logits_model, split_head
from keras_transfer.training import hidden as hidden_heads
from keras_transfer.training.custom_head import replace_head
from keras_transfer.training.phases import Phase
from keras_transfer.training.probe import fit_probe


def backbone(seed=0):
    """A small convolutional network with weights that matter."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = Conv2D(8, 3, strides=2, activation="relu", name="block1_conv")(x)
    return keras.Model(image, Conv2D(12, 3, activation="relu", name="block2_conv")(x), name="tiny")


@pytest.fixture
def pixels(photos):
    """Six real crops, float32 ``(6, 16, 16, 3)``."""
    parts = [photo[40 * i :, 60 * i :][:16, :16] for photo in photos.values() for i in (1, 3, 5)]
    return np.stack(parts).astype("float32")


@pytest.mark.slow
def test_a_stack_on_a_classifiers_pooled_features(pixels):
    model = add_head(backbone(), 4, hidden=(6,))
    model.get_layer("block1_conv").trainable = False
    new = replace_head(model, [Dense(10, "gelu"), Dropout(0.3), Dense(5)])
    assert new.layers[-2].name == "logits" and new.layers[-1].name == "probabilities"
    assert "head_hidden_0" not in [layer.name for layer in new.layers]
    assert new.get_layer("block1_conv") is model.get_layer("block1_conv")
    assert not new.get_layer("block1_conv").trainable
    answer = new.predict(pixels, verbose=0)
    assert answer.shape == (6, 5)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)
    logits = logits_model(new).predict(pixels, verbose=0)
    np.testing.assert_allclose(keras.ops.softmax(logits), answer, atol=1e-6)


@pytest.mark.slow
def test_a_function_on_a_backbones_map_equals_the_same_layers_applied_by_hand(pixels):
    base, dense = backbone(), Dense(3)
    new = replace_head(base, lambda x: dense(GlobalAveragePooling2D()(x)))
    by_hand = dense(base.predict(pixels, verbose=0).mean(axis=(1, 2)))
    np.testing.assert_allclose(logits_model(new).predict(pixels, verbose=0), by_hand, atol=1e-5)


def own_heads():
    """The stacks of a user: auto-named layers on pooled features, a nested model, and one on a map."""
    nested = keras.Sequential([Dense(6, "relu"), Dropout(0.1), Dense(2)])
    return {
        "features": replace_head(add_head(backbone(), 4), [Dense(6, "relu"), Dense(2)]),
        "nested": replace_head(add_head(backbone(), 4), [nested]),
        "map": replace_head(
            backbone(), [Conv2D(6, 1, activation="relu"), GlobalAveragePooling2D(), Dense(2)]
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["features", "nested", "map"])
def test_every_rule_trains_the_whole_of_an_own_head(name):
    model = own_heads()[name]
    body = {"block1_conv", "block2_conv"}
    for rule, expected in (("none", set()), ("blocks:1", {"block2_conv"}), ("all", body)):
        plan = FreezePlan.for_model(model, rule)
        assert [row.block for row in plan.rows].count("head") == 1 and plan.rows[-1].block == "head"
        plan.apply(model)
        trained = {path.split("/")[-2] for path in (weight.path for weight in model.trainable_weights)}
        assert trained & body == expected
        frozen = {weight.path.split("/")[-2] for weight in model.non_trainable_weights}
        assert frozen - {"seed_generator"} <= body and len(trained - body) == 2
    assert {path.split("/")[-2] for path in plan.variable_multipliers(model)} <= body


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", ["map", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("features", "nested"))]
)
def test_an_own_head_is_fine_tuned_and_what_the_plan_freezes_stays(name, photo_folder, tmp_path):
    model = own_heads()[name]
    table = load_data(photo_folder, test_fraction=0.0)
    plan = FreezePlan.for_model(model, "none")
    before = {weight.path: weight.numpy().copy() for weight in model.weights}
    values = {"epochs": 4, "learning_rate": 1e-2, "keep_start": False}
    result = fine_tune(model, table, Preprocessing(size=(16, 16)), phases=[Phase(0, plan)], **values)
    changed = {w.path.split("/")[-2] for w in model.weights if np.any(w.numpy() != before[w.path])}
    assert not changed & {"block1_conv", "block2_conv"} and len(changed - {"seed_generator"}) == 2
    assert result.history[-1]["loss"] < result.history[1]["loss"]
    model.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    assert head_layers(again) == head_layers(model)


@pytest.mark.slow
def test_a_probe_trains_an_own_head_on_features_and_refuses_one_on_a_map(pixels, monkeypatch):
    monkeypatch.setattr(hidden_heads, "EPOCHS", 12)
    model = own_heads()["features"]
    extractor, head = split_head(model)
    features, labels = extractor.predict(pixels, verbose=0), np.arange(6) // 3
    np.testing.assert_allclose(
        head.predict(features, verbose=0), logits_model(model).predict(pixels, verbose=0), atol=1e-5
    )
    below = [weight.numpy().copy() for weight in extractor.weights]
    result = fit_probe(model, features, labels, train=np.arange(6), val=np.arange(0))
    assert result.c is None and result.trials[-1]["train_loss"] < result.trials[0]["train_loss"]
    chance = model.predict(pixels, verbose=0)[np.arange(6), labels]
    assert -np.log(chance).mean() == pytest.approx(min(row["val_loss"] for row in result.trials), abs=0.01)
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(below, extractor.weights, strict=True))
    with pytest.raises(UsageError, match="begins at a map"):
        fit_probe(own_heads()["map"], features, labels, train=np.arange(6), val=np.arange(0))


@pytest.mark.slow
def test_layers_of_the_backbone_can_be_replaced_too_and_their_weights_are_not_touched(pixels):
    base = backbone()
    before = base.predict(pixels, verbose=0)
    new = replace_head(base, [Conv2D(4, 1), GlobalAveragePooling2D(), Dense(2)], at="block1_conv")
    assert "block2_conv" not in [layer.name for layer in new.layers]
    new.compile("sgd", "sparse_categorical_crossentropy")
    new.get_layer("block1_conv").trainable = False
    kernel = new.layers[-3].get_weights()[0].copy()
    new.fit(pixels, np.arange(6) % 2, verbose=0)
    assert np.any(kernel != new.layers[-3].get_weights()[0])
    np.testing.assert_array_equal(base.predict(pixels, verbose=0), before)


def test_a_replaced_head_can_be_replaced_again():
    first = replace_head(add_head(backbone(), 4), [Dense(5)])
    second = replace_head(first, [Dense(7), Dense(2)])
    assert second.output_shape == (None, 2)
    assert len([layer for layer in second.layers if isinstance(layer, Dense)]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([], "empty"),
        ([Conv2D(4, 1)], r"\(None, 5, 5, 4\).*Pool or flatten"),
        ([GlobalAveragePooling2D(), Dense(1)], "at least 2 classes"),
        ([GlobalAveragePooling2D(), Dense(3, activation="softmax")], "ends in an activation"),
        ([GlobalAveragePooling2D(), Dense(3), Softmax()], "ends in an activation"),
        ([GlobalAveragePooling2D(), Conv2D(4, 1)], "does not fit"),
        ([GlobalAveragePooling2D(name="block1_conv"), Dense(3)], "names the model does not have"),
        ([GlobalAveragePooling2D(), Dense(3, name="logits")], "added here"),
        (lambda x: None, "NoneType"),
        (lambda x: [x, x], "list"),
    ],
)
def test_a_stack_that_does_not_end_in_logits_is_refused(layers, match):
    with pytest.raises(UsageError, match=match):
        replace_head(backbone(), layers)


def test_unknown_layers_get_the_closest_names():
    with pytest.raises(UsageError, match="Did you mean block2_conv"):
        replace_head(backbone(), [Dense(2)], at="block2_con")
    image = keras.Input((4,))
    forked = keras.Model(image, [Dense(2)(image), Dense(3)(image)])
    with pytest.raises(UsageError, match="2 tensors"):
        replace_head(forked, [Dense(2)])
