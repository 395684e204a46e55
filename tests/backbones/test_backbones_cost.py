"""The arithmetic of convolutions, against Keras's own shapes and the formulas in print."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.cost import (
    layer_macs,
    reach,
    same_padding,
)
from keras_transfer.backbones.description import describe_model
from keras_transfer.errors import UsageError


def model_of(*layers, side=32, channels=3):
    image = keras.Input((side, side, channels))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def test_the_bottleneck_of_the_notes():
    """A 5x5 convolution to 48 channels on 14x14x480: 112.9 M directly, 1.5 M + 3.8 M = 5.3 M through 16 channels."""
    same = {"padding": "same"}
    direct = describe_model(model_of(keras.layers.Conv2D(48, 5, **same), side=14, channels=480))
    through = describe_model(
        model_of(keras.layers.Conv2D(16, 1), keras.layers.Conv2D(48, 5, **same), side=14, channels=480)
    )
    assert direct.totals.multiply_adds == 14 * 14 * 48 * 5 * 5 * 480 == 112_896_000
    assert [row.multiply_adds for row in through.layers] == [0, 1_505_280, 3_763_200]
    assert through.totals.multiply_adds == 5_268_480
    assert "112.9 M multiply-adds" in str(direct) and "5.3 M multiply-adds" in str(through)


def test_three_small_kernels_see_what_a_large_one_sees_with_fewer_numbers():
    """VGG's argument: three 3x3 are one 7x7, 81 numbers where 147 are (one filter on three channels)."""
    one = describe_model(model_of(keras.layers.Conv2D(3, 7, use_bias=False)))
    three = describe_model(model_of(*(keras.layers.Conv2D(3, 3, use_bias=False) for _ in range(3))))
    assert one.totals.receptive_field == three.totals.receptive_field == (7, 7)
    assert (one.totals.parameters, three.totals.parameters) == (3 * 147, 3 * 81)


@given(
    side=some.integers(1, 64),
    kernel=some.integers(1, 7),
    stride=some.integers(1, 4),
    dilation=some.integers(1, 3),
    padding=some.sampled_from(["same", "valid"]),
)
def test_the_output_is_what_keras_says(side, kernel, stride, dilation, padding):
    if dilation > 1:
        stride = 1  # Keras allows only one of the two
    if padding == "valid" and side < reach(kernel, dilation):
        return
    layer = keras.layers.Conv2D(2, kernel, stride, padding, dilation_rate=dilation)
    expected = layer.compute_output_shape((None, side, side, 3))[1]
    pads = same_padding(side, kernel, stride, dilation) if padding == "same" else (0, 0)
    assert (side - reach(kernel, dilation) + sum(pads)) // stride + 1 == expected


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs", "groups", "bias"),
    [
        (keras.layers.Conv2D(8, (3, 5), padding="same"), 6, 8, 1, True),
        (keras.layers.Conv2D(8, 3, groups=2, use_bias=False, padding="same"), 6, 8, 2, False),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 6, 6, 6, True),
    ],
)
def test_parameters_and_operations_follow_the_formulas(layer, inputs, outputs, groups, bias):
    model = model_of(layer, side=10, channels=inputs)
    row = describe_model(model).layers[-1]
    kernel = tuple(layer.kernel_size)
    assert row.kernel == kernel
    assert row.parameters == layer.count_params()
    weights = math.prod(kernel) * (inputs // groups) * outputs
    assert row.parameters == weights + (outputs if bias else 0)
    assert row.multiply_adds == 10 * 10 * weights
    assert row.activation_bytes == 10 * 10 * outputs * 4


def test_a_transposed_convolution_multiplies_once_per_position_of_its_input():
    layer = keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same")
    model = model_of(layer, side=10)
    assert describe_model(model).totals.multiply_adds == layer_macs(layer) == 3 * 3 * 3 * 4 * 10 * 10


def test_a_dense_layer_multiplies_each_input_by_each_output():
    model = model_of(keras.layers.Flatten(), keras.layers.Dense(10), side=4)
    row = describe_model(model).layers[-1]
    assert (row.multiply_adds, row.parameters) == (480, 490)
    assert row.receptive_field == "image"


# Araujo, Norris, Sim 2019, Computing Receptive Fields of Convolutional Neural Networks (Distill), table of results.
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "field"), [("vgg16", 212), ("mobilenet", 315), ("resnet50", 483), ("inception_v3", 1311)]
)
def test_receptive_fields_are_those_in_print(name, field):
    found = describe_model(load_backbone(name, weights="none"))
    assert found.totals.receptive_field == (field, field)


def test_a_receptive_field_is_where_gradients_come_from():
    """Measured: the pixels that change the middle of the output span the described field."""
    layers = [
        keras.layers.Conv2D(4, 3, strides=2),
        keras.layers.MaxPooling2D(3, 2),
        keras.layers.DepthwiseConv2D(3, dilation_rate=2),
    ]
    model = model_of(*layers, side=63)
    (height, width) = describe_model(model).totals.receptive_field
    rng = np.random.default_rng(0)
    base = rng.normal(size=(1, 63, 63, 3)).astype("float32")
    before = np.asarray(model(base))
    middle = before.shape[1] // 2
    rows = []
    for y in range(63):
        changed = base.copy()
        changed[0, y] += 5
        if np.any(np.asarray(model(changed))[0, middle, middle] != before[0, middle, middle]):
            rows.append(y)
    assert rows[-1] - rows[0] + 1 == height == width


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "convnext_tiny", "xception"])
def test_every_layer_of_a_network_adds_up(name):
    model = load_backbone(name, weights="none", image_size=96)
    found = describe_model(model)
    assert found.totals.parameters == model.count_params()
    assert sum(block.parameters for block in found.blocks) == model.count_params()
    assert sum(block.layers for block in found.blocks) == len(found.layers) == len(model.operations)
    assert not found.not_counted and not found.no_field
    shapes = {operation.name: tuple(operation.output.shape[1:]) for operation in model.operations}
    assert {row.name: row.output_shape for row in found.layers} == shapes
    inputs = {
        op.name: op.input.shape for op in model.operations if len(op._inbound_nodes[0].input_tensors) == 1
    }
    for row in found.layers:
        if row.kernel is None:
            continue
        dilation = getattr(model.get_layer(row.name), "dilation_rate", (1, 1))
        for i in (0, 1):
            left = inputs[row.name][i + 1] - reach(row.kernel[i], dilation[i]) + sum(row.padding[i])
            assert left // row.stride[i] + 1 == row.output_shape[i], row
    assert found.totals.peak_bytes <= found.totals.activation_bytes
    json.dumps(found.to_dict())


@pytest.mark.slow
def test_published_multiply_adds():
    """Howard et al. 2017: MobileNet has 569 M with its classifier; Simonyan and Zisserman's VGG-16 15.5 G."""
    assert describe_model(load_backbone("mobilenet", weights="none")).totals.multiply_adds == pytest.approx(
        568e6, rel=0.005
    )
    assert describe_model(load_backbone("vgg16", weights="none")).totals.multiply_adds == pytest.approx(
        15.35e9, rel=0.005
    )


class Foreign(keras.layers.Layer):
    """Code nobody here knows."""

    def call(self, inputs):
        return inputs * 2


def test_unknown_layers_are_said_not_guessed():
    found = describe_model(
        model_of(keras.layers.Conv2D(4, 3), Foreign(name="mine"), keras.layers.Conv2D(4, 3, name="after"))
    )
    assert found.not_counted == found.no_field == ("mine (Foreign)",)
    mine, after = found.layers[-2:]
    assert mine.multiply_adds is None and mine.receptive_field == after.receptive_field == "unknown"
    assert after.multiply_adds == 26**2 * 0 + 28 * 28 * 9 * 4 * 4
    assert "mine (Foreign)" in str(found) and "at least" in str(found)


@pytest.mark.slow
def test_nested_models_are_opened_and_left_alone():
    backbone = load_backbone("efficientnet_lite0", weights="none", image_size=64)
    flat = describe_model(backbone)
    pool = keras.layers.GlobalAveragePooling2D(name="pool")
    nested = keras.Sequential([keras.Input((64, 64, 3)), backbone, pool, keras.layers.Dense(3)])
    before = [layer.name for layer in nested.layers]
    found = describe_model(nested)
    assert [row.name for row in found.layers if row.kind != "InputLayer"][: len(flat.layers) - 1] == [
        row.name for row in flat.layers[1:]
    ]
    assert found.totals.parameters == nested.count_params()
    assert found.totals.multiply_adds == flat.totals.multiply_adds + 1280 * 3
    assert [layer.name for layer in nested.layers] == before
    pixels = np.zeros((1, 64, 64, 3), "float32")
    assert np.asarray(nested(pixels)).shape == (1, 3)


def test_a_layer_used_twice_multiplies_twice_and_weighs_once():
    shared = keras.layers.Conv2D(3, 3, padding="same")
    found = describe_model(model_of(shared, shared))
    assert [row.parameters for row in found.layers] == [0, 84, 0]
    assert found.totals.multiply_adds == 2 * 32 * 32 * 81


def test_what_cannot_be_described_is_refused_in_a_sentence():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UsageError, match="Functional or a built Sequential"):
        describe_model(Own())
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(UsageError, match="--image-size"):
        describe_model(free)
    assert describe_model(free, 20).layers[-1].output_shape == (18, 18, 2)
    with pytest.raises(UsageError, match="does not fit"):
        describe_model(model_of(keras.layers.ReLU()), 20)
