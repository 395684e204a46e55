"""The doctor finds the layer that eight bits ruin, and keeping it in float mends the model."""

import keras
import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.export.doctor import QuantizationDoctor
from keras_transfer.export.quantization import convert_integer
from keras_transfer.litert import LiteRTModel

pytestmark = pytest.mark.slow
HUGE = 300.0


@pytest.fixture(scope="module")
def images(photos):
    """Real crops, 32 px."""
    rng = np.random.default_rng(0)
    crops = []
    for photo in photos.values():
        for _ in range(60):
            y, x = rng.integers(0, 395), rng.integers(0, 600)
            crops.append(photo[y : y + 32, x : x + 32])
    return np.stack(crops)


@pytest.fixture(scope="module")
def patient(images):
    """A network whose second convolution has huge weights for a channel that is always 0.

    They change no answer in float, and make its scale so coarse that eight bits lose the others.
    """
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-1)(image)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="healthy")(x)
    x = layers.Conv2D(16, 3, activation="relu", name="sick")(x)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    scores = layers.Dense(2, name="logits")(x)
    model = keras.Model(image, layers.Softmax()(scores), name="patient")
    kernel, bias = model.get_layer("healthy").get_weights()
    kernel[..., 0], bias[0] = 0, -1
    model.get_layer("healthy").set_weights([kernel, bias])
    kernel, bias = model.get_layer("sick").get_weights()
    kernel[:, :, 0] *= HUGE
    model.get_layer("sick").set_weights([kernel, bias])
    features = np.asarray(keras.Model(image, x)(images.astype(np.float32)))
    spread = features.std(axis=0) + 0.3 * features.std()
    weights = np.random.default_rng(1).normal(size=(16, 2)) / spread[:, np.newaxis]
    model.get_layer("logits").set_weights([weights, -features.mean(axis=0) @ weights])
    return model


@pytest.fixture(scope="module")
def doctor(patient, images):
    return QuantizationDoctor(patient, lambda: [images[:40]])


def error(model, content, images):
    expected = np.asarray(model(images.astype(np.float32)))
    return float(np.abs(LiteRTModel(content).predict(images) - expected).max())


def test_it_finds_the_layer_and_keeping_it_in_float_mends_the_model(doctor, patient, images):
    assert [one.error for one in doctor.layers] == sorted((one.error for one in doctor.layers), reverse=True)
    assert doctor.layers[0].layer.startswith("sick") and doctor.layers[0].operator == "CONV_2D"
    plain, mended = error(patient, doctor.convert(), images), error(patient, doctor.convert(1), images)
    assert plain > 0.3 and mended < plain / 3
    result = LiteRTModel(doctor.convert(1))
    source, target = result.inputs[0], result.outputs[0]
    assert source.dtype == np.uint8 and source.scale == 0 and target.dtype == np.float32


def test_a_plain_conversion_has_more_to_examine(patient, images):
    whole = QuantizationDoctor(patient, lambda: [images[:20]], whole=True)
    layers = {one.operator for one in whole.layers}
    assert {"FULLY_CONNECTED", "MEAN", "SOFTMAX"} <= layers and whole.layers[0].layer.startswith("sick")
    result = LiteRTModel(whole.convert(1))
    assert result.inputs[0].dtype == np.uint8 and result.outputs[0].dtype == np.float32


def test_nothing_kept_is_the_export_and_everything_kept_is_the_float_model(doctor, patient, images):
    exported = convert_integer(patient, lambda: [images[:40]])
    np.testing.assert_allclose(
        LiteRTModel(doctor.convert()).predict(images), LiteRTModel(exported).predict(images), atol=0.02
    )
    assert error(patient, doctor.convert(len(doctor.layers)), images) < 1e-3


def test_impossible_requests(doctor, patient):
    for keep in (-1, 1000):
        with pytest.raises(UsageError, match="are to stay in float"):
            doctor.convert(keep)
    with pytest.raises(UsageError, match="calibration"):
        QuantizationDoctor(patient, lambda: [])

    def broken():
        raise OSError("the disk is gone")
        yield

    with pytest.raises(OSError, match="the disk is gone"):
        QuantizationDoctor(patient, broken)
