"""A head of the user's own: several layers replaced, everything below shared, and what is refused."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras.layers import Conv2D, Dense, Dropout, GlobalAveragePooling2D, Softmax

from keras_transfer.errors import UsageError
from keras_transfer.heads import add_head, logits_model
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.training.custom_head import replace_head


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


def test_a_function_on_a_backbones_map_equals_the_same_layers_applied_by_hand(pixels):
    base, dense = backbone(), Dense(3)
    new = replace_head(base, lambda x: dense(GlobalAveragePooling2D()(x)))
    by_hand = dense(base.predict(pixels, verbose=0).mean(axis=(1, 2)))
    np.testing.assert_allclose(logits_model(new).predict(pixels, verbose=0), by_hand, atol=1e-5)


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


@pytest.mark.slow
def test_it_loads_with_keras_alone_and_converts(pixels, tmp_path):
    new = replace_head(add_head(backbone(), 4), [Dense(10, "relu"), Dense(3)])
    expected = new.predict(pixels, verbose=0)
    np.testing.assert_allclose(LiteRTModel(convert(new)).predict(pixels), expected, atol=1e-4)
    new.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, keras, numpy as np; from pathlib import Path; root = Path(sys.argv[1])\n"
        "model = keras.models.load_model(root / 'model.keras')\n"
        "np.save(root / 'answer.npy', model.predict(np.load(root / 'pixels.npy'), verbose=0))\n"
        "assert not [name for name in sys.modules if name.startswith('keras_transfer')]"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-6)
