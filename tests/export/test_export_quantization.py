"""int8: what is integer, what stays float, and where the border runs."""

from collections import Counter

import keras
import numpy as np
import pytest
from helpers_export import graph_of, operators

from keras_transfer.errors import UsageError
from keras_transfer.export.front import convert_front, front_output
from keras_transfer.export.quantization import (
    convert_dynamic,
    convert_integer,
    head_input,
    mean_error,
)
from keras_transfer.export.stitching import stitch
from keras_transfer.litert import LiteRTModel, convert

pytestmark = pytest.mark.slow
SIZE = 96


def weight_types(content: bytes) -> dict[str, list[str]]:
    """The types of the weights (second input) of all operators of a name."""
    found: dict[str, list[str]] = {}
    for name, inputs, _ in graph_of(content):
        if len(inputs) > 1:
            found.setdefault(name, []).append(inputs[1])
    return found


def images(count=8, seed=0):
    """Noise with a different brightness and colour in every image, never fully black nor white."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(40, 180, (count, 1, 1, 3))
    return np.clip(colour + rng.normal(0, 15, (count, SIZE, SIZE, 3)), 20, 200).astype(np.uint8)


def calibration():
    yield images(4)
    yield images(4, seed=1)


def network(*head, body=()):
    """Scaling, two convolutions, then the given layers."""
    keras.utils.set_random_seed(1)
    image = x = keras.Input((SIZE, SIZE, 3), name="image")
    for layer in (
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        *body,
        *head,
    ):
        x = layer(x)
    return keras.Model(image, x, name="network")


def classifier(*hidden, body=()):
    return network(
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        *[keras.layers.Dense(width, activation="relu") for width in hidden],
        keras.layers.Dense(3),
        keras.layers.Softmax(),
        body=body,
    )


def spread_weights(model, layer):
    """What folding a standardisation does: columns of very different size."""
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 10.0 ** np.linspace(-2, 1.5, len(kernel))[:, np.newaxis], bias])
    return model


@pytest.fixture(scope="module")
def plain():
    """A classifier, and its int8 file."""
    return (model := classifier()), convert_integer(model, calibration)


@pytest.mark.parametrize("hidden", [(), (12,)])
def test_the_backbone_is_integer_and_the_head_is_float(hidden, plain):
    content = convert_integer(classifier(*hidden), calibration) if hidden else plain[1]
    ops = operators(content)
    entrance = ops.index(("QUANTIZE", "INT8"))
    border = ops.index(("DEQUANTIZE", "FLOAT32"))
    assert {kind for _, kind in ops[:entrance]} == {"FLOAT32"}
    assert "FULLY_CONNECTED" not in [name for name, _ in ops[:entrance]]
    assert {kind for _, kind in ops[entrance:border]} == {"INT8"}
    assert {kind for _, kind in ops[border:]} == {"FLOAT32"}
    assert Counter(name for name, _ in ops[entrance:border])["CONV_2D"] >= 1
    head = Counter(name for name, _ in ops[border:])
    assert head["MEAN"] == 1 and head["FULLY_CONNECTED"] == 1 + len(hidden) and head["SOFTMAX"] == 1
    litert = LiteRTModel(content)
    source, target = litert.inputs[0], litert.outputs[0]
    assert source.dtype == np.uint8 and not source.quantized
    assert target.dtype == np.float32 and target.shape == (-1, 3)


def test_a_head_of_very_different_weights_survives():
    model = classifier()
    spread_weights(model, model.layers[-2])
    pixels = images(16, seed=5)
    expected = np.asarray(model(pixels.astype(np.float32)))
    assert expected.max(axis=0).max() - expected.min(axis=0).min() > 0.3
    answer = LiteRTModel(convert_integer(model, calibration)).predict(pixels)
    np.testing.assert_allclose(answer, expected, atol=0.1)


def test_dynamic_keeps_the_head_in_float_too():
    model = spread_weights(wide := classifier(body=(keras.layers.Conv2D(64, 3),)), wide.layers[-2])
    content = convert_dynamic(model)
    assert len(content) < 0.5 * len(convert(model))
    source = LiteRTModel(content).inputs[0]
    assert source.dtype == np.float32 and not source.quantized
    pixels = images(16, seed=5)
    expected = np.asarray(model(pixels.astype(np.float32)))
    np.testing.assert_allclose(LiteRTModel(content).predict(pixels), expected, atol=0.1)
    kinds = weight_types(content)
    assert kinds["CONV_2D"][-1] == "INT8" and kinds["FULLY_CONNECTED"] == ["FLOAT32"]


def test_the_front_is_a_small_share_and_everything_passes_through_its_end():
    model = network(body=(keras.layers.Conv2D(64, 3), keras.layers.Conv2D(64, 3)))
    end = front_output(model, model.outputs[0])
    # Multiply-adds: 0.48, 0.61, 4.07 and 13.3 million. The first two convolutions are 6 % of them, three are 28 %.
    assert end is model.layers[3].output
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 1)(keras.layers.Rescaling(1 / 255)(image))
    branched = keras.layers.Concatenate()([keras.layers.Conv2D(64, 3, padding="same")(x), image])
    model = keras.Model(image, keras.layers.Conv2D(64, 3)(branched))
    assert front_output(model, model.outputs[0]) is model.inputs[0]


def test_the_front_gives_what_keras_gives_for_every_pixel_value():
    model = network(body=(keras.layers.Conv2D(64, 3),))
    end = front_output(model, model.outputs[0])
    pixels = np.arange(SIZE * SIZE * 3, dtype=np.int64).reshape(1, SIZE, SIZE, 3).astype(np.uint8)
    expected = np.asarray(keras.Model(model.inputs, end)(pixels.astype(np.float32)))
    front = LiteRTModel(convert_front(model, end))
    np.testing.assert_allclose(front.predict(pixels), expected, atol=1e-5)
    np.testing.assert_allclose(front.predict(pixels.astype(np.float32) + 0.2), expected, atol=1e-5)


def test_the_callers_images_and_model_are_not_changed():
    model, kept = classifier(), images(8)
    before, answers = model.get_weights(), np.asarray(model(kept.astype(np.float32)))
    convert_integer(model, lambda: [kept])
    np.testing.assert_array_equal(kept, images(8))
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(np.asarray(again(kept.astype(np.float32))), answers, atol=1e-6)


def test_the_same_images_give_the_same_file(plain):
    model, content = plain
    assert convert_integer(model, calibration) == content


def test_where_the_head_begins():
    model = classifier(12)
    assert tuple(head_input(model).shape) == (None, 23, 23, 16)
    nested = keras.Sequential([keras.Input((SIZE, SIZE, 3)), network(), keras.layers.GlobalMaxPooling2D()])
    assert tuple(head_input(nested).shape) == (None, 23, 23, 16)
    pooled = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            network(keras.layers.GlobalAveragePooling2D()),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    assert tuple(head_input(pooled).shape) == (None, 16)  # a whole model before the Dense is no head layer


def test_a_function_of_several_steps_of_one_tensor_belongs_to_the_head():
    backbone = network(keras.layers.GlobalAveragePooling2D(name="pool"))
    x = backbone.get_layer("pool").output
    rooted = x / keras.ops.sqrt(keras.ops.abs(x) + 1e-4)
    model = keras.Model(backbone.inputs, keras.layers.UnitNormalization()(keras.layers.Dense(4)(rooted)))
    cut = head_input(model)
    assert len(cut.shape) == 4 and cut.shape[-1] == x.shape[-1]
    pixels = images(8, seed=3)
    expected = np.asarray(model(pixels.astype(np.float32)))
    found = LiteRTModel(convert_integer(model, calibration)).predict(pixels)
    assert np.sum(found * expected, axis=1).min() > 0.99
    two = keras.layers.Add()([backbone.output, rooted])
    assert tuple(head_input(keras.Model(backbone.inputs, two)).shape) == tuple(two.shape)  # no head layer


@pytest.mark.nightly
def test_a_huge_dense_layer_is_quantized_too():
    model = network(
        keras.layers.Flatten(),
        keras.layers.Dense(600, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    )
    assert model.layers[-2].count_params() > 4_000_000
    assert tuple(head_input(model).shape) == (None, 600)
    content = convert_integer(model, calibration)
    assert len(content) < 6_000_000
    ops = operators(content)
    assert ("FULLY_CONNECTED", "INT8") in ops and ops[-2:] == [
        ("FULLY_CONNECTED", "FLOAT32"),
        ("SOFTMAX", "FLOAT32"),
    ]
    pixels = images(8, seed=3)
    expected = np.asarray(model(pixels.astype(np.float32)))
    np.testing.assert_allclose(LiteRTModel(content).predict(pixels), expected, atol=0.1)


def test_nested_backbone_and_no_head():
    pixels = np.concatenate(list(calibration()))
    nested = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            network(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    headless = network(body=(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4), Doubled()))
    for model in (nested, headless):
        answer = LiteRTModel(convert_integer(model, calibration)).predict(pixels)
        expected = np.asarray(model(pixels.astype(np.float32)))
        np.testing.assert_allclose(answer, expected, atol=0.05 * np.ptp(expected) + 0.02)


class Doubled(keras.layers.Layer):
    """A layer that is not in the list of head layers."""

    def call(self, x):
        return x * 2


def test_mean_error_is_a_number_a_channel():
    exact = images(8).astype(np.float64)
    shift = np.array([1.0, -2.0, 0.5])
    found = mean_error(lambda x: x, lambda x: x - shift, lambda: [exact[:3], exact[3:]])
    np.testing.assert_allclose(found, shift, atol=1e-5)
    assert found.dtype == np.float32


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(UsageError, match="there were none"):
        convert_integer(classifier(), lambda: [])
    linear = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(UsageError, match="nothing before its head"):
        convert_integer(linear, calibration)
    with pytest.raises(UsageError, match="Functional"):
        convert_integer(keras.Sequential([keras.layers.Dense(2)]), calibration)


def test_an_error_of_the_images_is_the_error():
    from keras_transfer.errors import DataError

    def broken():
        yield images(2)
        raise DataError("b.png has changed")

    with pytest.raises(DataError, match=r"b\.png"):
        convert_integer(classifier(), broken)


def test_stitching_refuses_what_does_not_fit():
    from keras_transfer.errors import ExportError

    entry = keras.Input((7,))
    other = convert(keras.Model(entry, keras.layers.Dense(2)(entry)))
    with pytest.raises(ExportError, match="cannot be joined"):
        stitch(convert(classifier()), other)


def test_every_tensor_of_a_stitched_file_has_a_name_of_its_own():
    """Others know tensors by their names alone: tf2onnx refuses a file where three have one."""
    from tensorflow.lite.tools.flatbuffer_utils import convert_bytearray_to_object

    content = convert_integer(classifier(), calibration)
    names = [
        bytes(tensor.name) for tensor in convert_bytearray_to_object(bytearray(content)).subgraphs[0].tensors
    ]
    assert len(set(names)) == len(names) > 10
    assert LiteRTModel(content).inputs[0].name == LiteRTModel(convert(classifier())).inputs[0].name
