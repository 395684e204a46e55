"""The head: its shape, the invariant head(features) == model(pixels), and what it refuses."""

import keras
import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.heads import LOGITS, add_head, logits_model, split_head

DECISIONS = {"softmax": keras.ops.softmax, "sigmoid": keras.ops.sigmoid, "linear": lambda x: x}


def answers(model, x):
    return np.asarray(model(x, training=False))


def backbone(seed=0):
    """A small convolutional network with weights that matter."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="block1_conv")(x)
    return keras.Model(
        image, keras.layers.Conv2D(12, 3, activation="relu", name="block2_conv")(x), name="tiny"
    )


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype("float32")


@pytest.mark.parametrize("hidden", [(), (6,), (8, 6)])
@pytest.mark.parametrize(("dropout", "activation"), [(0.0, "softmax"), (0.5, "sigmoid"), (0.5, "linear")])
def test_head_of_features_equals_the_model(pixels, hidden, dropout, activation):
    model = add_head(backbone(), 4, hidden=hidden, dropout=dropout, activation=activation)
    extractor, head = split_head(model)
    features = answers(extractor, pixels)
    assert features.shape == (5, 12)
    outputs = DECISIONS[activation](answers(head, features))
    np.testing.assert_allclose(outputs, answers(model, pixels), atol=1e-5)
    logits = answers(logits_model(model), pixels)
    np.testing.assert_allclose(DECISIONS[activation](logits), outputs, atol=1e-5)


def test_probabilities_sum_to_one_and_one_seed_gives_one_model(pixels):
    first, second = add_head(backbone(), 3, seed=5), add_head(backbone(), 3, seed=5)
    np.testing.assert_allclose(answers(first, pixels).sum(axis=1), 1, atol=1e-6)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_softmax_is_what_comes_unasked(pixels):
    plain, asked = add_head(backbone(), 3, seed=2), add_head(backbone(), 3, seed=2, activation="softmax")
    assert [type(a) for a in plain.layers] == [type(b) for b in asked.layers]
    np.testing.assert_array_equal(answers(plain, pixels), answers(asked, pixels))


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "last"), [("sigmoid", "probabilities"), ("linear", "values")])
def test_one_output_is_enough_where_outputs_are_independent(pixels, tmp_path, activation, last):
    """And the model is saved, loaded by Keras alone and converted with the same answers."""
    from keras_transfer.litert import LiteRTModel, convert

    model = add_head(backbone(), 1, activation=activation)
    assert model.layers[-1].name == last
    assert isinstance(model.get_layer(LOGITS), keras.layers.Dense)
    expected = answers(model, pixels)
    assert expected.shape == (5, 1)
    assert np.ptp(expected) > 1e-3, "equal answers for all images would prove nothing"
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(answers(loaded, pixels), expected)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(LiteRTModel(convert(model)).predict(pixels), expected, atol=1e-4 * scale)


def test_a_pooled_backbone_needs_no_pooling(pixels):
    base = backbone()
    pooled = keras.Model(base.inputs, keras.layers.GlobalAveragePooling2D()(base.output), name="pooled")
    model = add_head(pooled, 3)
    extractor, _ = split_head(model)
    assert extractor.output_shape == (None, 12)


def test_what_is_not_a_backbone_or_not_a_choice_is_refused():
    with pytest.raises(UsageError, match="at least 2"):
        add_head(backbone(), 1)
    for activation in ("sigmoid", "linear"):
        with pytest.raises(UsageError, match="0 outputs was asked for; at least 1"):
            add_head(backbone(), 0, activation=activation)
    with pytest.raises(UsageError, match="Did you mean sigmoid"):
        add_head(backbone(), 2, activation="sigmod")
    image = keras.Input((4, 4, 3))
    with pytest.raises(UsageError, match="feature map"):
        add_head(keras.Model(image, keras.layers.Reshape((48, 1))(image)), 2)
    with pytest.raises(UsageError, match="add_head"):
        split_head(backbone())
