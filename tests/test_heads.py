"""The head: its shape, the invariant head(features) == model(pixels), and what it refuses."""

import keras
import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.heads import add_head, logits_model, split_head


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
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_head_of_features_equals_the_model(pixels, hidden, dropout):
    model = add_head(backbone(), 4, hidden=hidden, dropout=dropout)
    extractor, head = split_head(model)
    features = extractor.predict(pixels, verbose=0)
    assert features.shape == (5, 12)
    probabilities = keras.ops.softmax(head.predict(features, verbose=0))
    np.testing.assert_allclose(probabilities, model.predict(pixels, verbose=0), atol=1e-6)
    np.testing.assert_allclose(
        keras.ops.softmax(logits_model(model).predict(pixels, verbose=0)), probabilities, atol=1e-6
    )


def test_probabilities_sum_to_one_and_one_seed_gives_one_model(pixels):
    first, second = add_head(backbone(), 3, seed=5), add_head(backbone(), 3, seed=5)
    np.testing.assert_allclose(first.predict(pixels, verbose=0).sum(axis=1), 1, atol=1e-6)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pooled_backbone_needs_no_pooling(pixels):
    base = backbone()
    pooled = keras.Model(base.inputs, keras.layers.GlobalAveragePooling2D()(base.output), name="pooled")
    model = add_head(pooled, 3)
    extractor, _ = split_head(model)
    assert extractor.output_shape == (None, 12)


def test_what_is_not_a_backbone_or_not_a_choice_is_refused():
    with pytest.raises(UsageError, match="at least 2"):
        add_head(backbone(), 1)
    image = keras.Input((4, 4, 3))
    with pytest.raises(UsageError, match="feature map"):
        add_head(keras.Model(image, keras.layers.Reshape((48, 1))(image)), 2)
    with pytest.raises(UsageError, match="add_head"):
        split_head(backbone())
