"""Every network of the catalog is built, and what the catalog says about it is checked."""

from __future__ import annotations

import ast
import inspect
import math
import re
import sys

import keras
import numpy as np
import pytest
from helpers_backbones import IMAGENET_MEAN, IMAGENET_STD, keras_constructor, random_images, randomise
from keras_transfer_tests.networks import FAST, how_often

from keras_transfer.backbones import blocks, load_backbone, pyramid_model
from keras_transfer.backbones.building import constructor_of
from keras_transfer.backbones.scaling import INPUT_MODES, scale_pixels
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import UsageError

SMALLEST = (*FAST, "mobilenet_v3_small", "efficientnet_b0")
# One network for each way of building: plain, hard-coded names, own scaling, numbered names, nested parts ...
GOLDEN = {
    "mobilenet": 64,
    "efficientnet_b0": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_v2_b0": 64,
    "resnet50": 64,
    "densenet121": 64,
    "vgg16": 64,
    "inception_v3": 96,
    "convnext_tiny": 64,
}
UNPADDED = ("inception_v3", "inception_resnet_v2", "xception", "alexnet", "zfnet")
OWN_LAYERS = {"LocalResponseNormalization": ("alexnet", "zfnet", "googlenet")}
"""Layers that Keras does not have, and the networks that need them."""
EVERY = [pytest.param(spec, id=spec.name, marks=how_often(spec.name)) for spec in CATALOG.values()]
WITH_WEIGHTS = [
    pytest.param(spec, id=spec.name, marks=pytest.mark.slow if spec.name in SMALLEST else pytest.mark.nightly)
    for spec in CATALOG.values()
]


@pytest.fixture
def _forget_networks():
    """Free what Keras remembers of large networks afterwards."""
    yield
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("spec", EVERY)
def test_the_facts_are_true(spec, network_facts):
    size, facts = spec.default_size, network_facts(spec.name)
    assert facts["name"] == spec.name
    assert facts["inputs"] == [["image", [None, size, size, 3], "float32"]]
    assert facts["parameters"] == spec.params
    assert len(facts["output"]) == 4
    assert facts["output"][-1] == spec.feature_dim
    levels = facts["pyramid"]
    assert list(levels) == ["P2", "P3", "P4", "P5"]
    assert levels["P5"] == facts["output"]
    for name, stride in (("P2", 4), ("P3", 8), ("P4", 16), ("P5", 32)):
        short = math.ceil(size / stride) - np.array(levels[name][1:3])
        assert np.all((short >= 0) & (short <= (4 if spec.name in UNPADDED else 0))), (name, levels[name])

    for name, module, kind, nested in facts["operations"]:
        assert not nested, f"{name} is nested"
        if spec.name not in OWN_LAYERS.get(kind, ()):
            assert module.startswith("keras.src."), f"{name} is not Keras's own"

    grouped, layers = facts["blocks"], facts["layers"]
    names = [name for _, members in grouped for name in members]
    assert sorted(names) == sorted(name for name, _ in layers)
    assert len({block for block, _ in grouped}) == len(grouped) >= 6
    first_weights = next(name for name, weighted in layers if weighted)
    assert first_weights in grouped[0][1] + grouped[1][1]
    assert layers[-1][0] in grouped[-1][1]


@pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.name)
def test_a_smaller_size_than_the_smallest_is_refused(spec):
    size = spec.min_size - 1
    with pytest.raises(UsageError, match=rf"at least {spec.min_size} pixels.* is {size}\b"):
        load_backbone(spec.name, "none", size)
    constructor = constructor_of(spec)
    if "input_shape" in inspect.signature(constructor).parameters:
        with pytest.raises((ValueError, UsageError), match=r"at least"):
            constructor(include_top=False, weights=None, input_shape=(size, size, 3))


@pytest.mark.nightly
@pytest.mark.usefixtures("_forget_networks")
@pytest.mark.parametrize("spec", WITH_WEIGHTS)
def test_the_smallest_size_is_built_with_weights(spec):
    size = spec.min_size
    model = load_backbone(spec.name, "none", size)
    assert model.input.shape == (None, size, size, 3)
    assert model.count_params() == spec.params == sum(weight.size for weight in model.get_weights())
    levels = pyramid_model(model, spec).output
    for (name, level), stride in zip(levels.items(), (4, 8, 16, 32), strict=True):
        short = math.ceil(size / stride) - np.array(level.shape[1:3])
        assert np.all((short >= 0) & (short <= (4 if spec.name in UNPADDED else 0))), (name, level.shape)
    assert np.isfinite(np.asarray(model(np.zeros((1, size, size, 3), "float32"), training=False))).all()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "spec", [pytest.param(CATALOG[name], id=name) for name in ("mobilenet_v2", "efficientnet_lite0")]
)
def test_rectangles_and_pooling(spec):
    model = load_backbone(spec.name, "none", (96, 160))
    levels = pyramid_model(model, spec).output
    assert [tensor.shape[1:3] for tensor in levels.values()] == [(24, 40), (12, 20), (6, 10), (3, 5)]
    pooled = load_backbone(spec.name, "none", (96, 160), pooling="avg")
    assert pooled.output.shape == (None, spec.feature_dim)
    assert pooled.name == spec.name


@pytest.mark.slow
def test_the_default_size():
    assert load_backbone("mobilenet_v2", "none").input.shape == (None, 224, 224, 3)


@pytest.mark.parametrize("size", ["96", (96,), (96, 96, 3), 96.0, 5000, (96, 0)])
def test_impossible_sizes(size):
    with pytest.raises(UsageError, match="image_size"):
        load_backbone("mobilenet_v2", "none", size)


def test_unknown_names():
    with pytest.raises(UsageError, match="Did you mean mobilenet_v2"):
        load_backbone("mobilenet_v22", "none")
    with pytest.raises(UsageError, match="no pooling 'max'"):
        load_backbone("mobilenet_v2", "none", pooling="max")


@pytest.mark.slow
def test_pyramid_of_another_model():
    with pytest.raises(UsageError, match=r"no layer 'conv2_block3_out'.*load_backbone\('resnet50'\)"):
        pyramid_model(load_backbone("mobilenet_v2", "none", 96), CATALOG["resnet50"])


@pytest.mark.slow
def test_names_do_not_depend_on_what_was_built_before():
    first = [operation.name for operation in load_backbone("mobilenet_v3_small", "none", 32).operations]
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1), keras.layers.ReLU()])
    second = [operation.name for operation in load_backbone("mobilenet_v3_small", "none", 32).operations]
    assert first == second
    assert "re_lu" in first  # a name that Keras numbers


# ------------------------------------------------------------------ input modes


def preprocess_input(spec, pixels: np.ndarray) -> np.ndarray:
    """Keras's own, on a copy (it overwrites its argument)."""
    return sys.modules[keras_constructor(spec).__module__].preprocess_input(pixels.copy())


FROM_KERAS = [spec for spec in CATALOG.values() if spec.constructor.startswith("keras.applications:")]


@pytest.mark.parametrize("spec", FROM_KERAS, ids=lambda spec: spec.name)
def test_the_mode_is_what_keras_does(spec):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype("float32")
    before = pixels.copy()
    image = keras.Input((5, 7, 3))
    model = keras.Model(image, keras.layers.Identity()(scale_pixels(image, spec.input_mode)))
    np.testing.assert_allclose(model(pixels), preprocess_input(spec, pixels), atol=2e-5)
    np.testing.assert_array_equal(pixels, before)


def test_the_other_modes():
    image = keras.Input((1, 2, 3))
    pixels = np.array([[[[0, 127, 255], [255, 0, 127]]]], "float32")
    torch = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    for mode, expected in (("unit", pixels / 255), ("lite", (pixels - 127) / 128), ("torch", torch)):
        np.testing.assert_allclose(keras.Model(image, scale_pixels(image, mode))(pixels), expected, atol=2e-6)
    with pytest.raises(UsageError, match=r"no input mode 'caffee'.*Did you mean caffe"):
        scale_pixels(image, "caffee")
    assert {spec.input_mode for spec in CATALOG.values()} <= set(INPUT_MODES)


# ------------------------------------------------------------------ the same function as Keras's


@pytest.mark.usefixtures("_forget_networks")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n == "mobilenet" else pytest.mark.nightly) for n in GOLDEN],
)
def test_with_imagenet_weights_it_answers_like_keras(name, tmp_path, monkeypatch):
    """Pixels through our model = Keras's preprocess_input + Keras's constructor with weights="imagenet".

    Nothing is downloaded: the network that Keras builds gets random weights with fitting normalization statistics
    (without them a fresh network gives the same answer to every image), and is saved under the name Keras asks for.
    """
    spec, size = CATALOG[name], GOLDEN[name]
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr("keras.src.utils.file_utils.get_file", lambda fname, *_, **__: asked.append(fname))
        patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
        constructor = keras_constructor(spec)
        reference = constructor(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    assert asked == [spec.weights_file]
    randomise(reference, preprocess_input(spec, random_images(8, size, seed=0)))
    file = tmp_path / "models" / spec.weights_file
    file.parent.mkdir()
    reference.save(file)

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    model = load_backbone(name, "imagenet", size, offline=True)
    pixels = random_images(2, size, seed=1)
    expected = np.asarray(reference(preprocess_input(spec, pixels), training=False))
    answer = np.asarray(model(pixels, training=False))
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * scale, "the two images give the same answer"
    np.testing.assert_allclose(answer, expected, atol=2e-4 * scale)


# ------------------------------------------------------------------ blocks


def members(model) -> dict[str, list[str]]:
    return dict(blocks(model))


@pytest.mark.slow
def test_blocks_of_lite0():
    model = load_backbone("efficientnet_lite0", "none", 64)
    names = [name for name, _ in blocks(model)]
    assert names[:3] == ["input", "stem", "block1a"]
    assert names[-2:] == ["block7a", "top"]
    assert len(names) == 2 + 16 + 1
    assert members(model)["block6a"][0] == "block6a_expand_conv"
    assert members(model)["top"] == ["top_conv", "top_bn", "top_activation"]


@pytest.mark.slow
def test_blocks_of_mobilenet_and_resnet():
    assert members(load_backbone("mobilenet", "none", 32))["block_12"] == [
        *("conv_pad_12", "conv_dw_12", "conv_dw_12_bn", "conv_dw_12_relu"),
        *("conv_pw_12", "conv_pw_12_bn", "conv_pw_12_relu"),
    ]
    resnet = members(load_backbone("resnet50", "none", 32))
    assert [name for name in resnet if name.startswith("conv5")] == [
        "conv5_block1",
        "conv5_block2",
        "conv5_block3",
    ]
    assert resnet["conv5_block3"][-1] == "conv5_block3_out"


@pytest.mark.nightly
def test_blocks_of_the_historic_networks():
    assert members(load_backbone("alexnet", "none", 67)) == {
        "input": ["image", "scaling"],
        "conv1": ["conv1", "conv1_relu", "conv1_pool", "conv1_norm"],
        "conv2": ["conv2", "conv2_relu", "conv2_pool", "conv2_norm"],
        "conv3": ["conv3", "conv3_relu"],
        "conv4": ["conv4", "conv4_relu"],
        "conv5": ["conv5", "conv5_relu", "conv5_pool"],
    }
    googlenet = members(load_backbone("googlenet_bn", "none", 32))
    modules = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    assert list(googlenet) == ["input", "conv1", "conv2", *(f"inception_{module}" for module in modules)]
    assert googlenet["inception_4a"][0] == "inception_4a_downsample"
    assert googlenet["inception_4a"][-1] == "inception_4a_output"
    resnet = list(members(load_backbone("resnet18", "none", 32)))
    assert resnet[:3] == ["input", "conv1", "pool1"]
    assert resnet[3:] == [f"conv{stage}_block{number}" for stage in range(2, 6) for number in (1, 2)]


@pytest.mark.nightly
def test_blocks_of_inception_hold_their_automatic_layers():
    """A block's layers are those between the previous block's output and its own: exactly what its output needs."""
    model = load_backbone("inception_v3", "none", 75)
    found = members(model)
    assert list(found) == ["input", *(f"mixed{i}" for i in range(11))]
    for i in range(1, 11):
        lower, upper = model.get_layer(f"mixed{i - 1}").output, model.get_layer(f"mixed{i}").output
        between = {layer.name for layer in keras.Model(lower, upper).layers[1:]}
        assert set(found[f"mixed{i}"]) == between


def test_blocks_of_any_model():
    layers = keras.layers
    stack = [
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 3),
        layers.ReLU(),
    ]
    automatic = keras.Sequential([keras.Input((16, 16, 3)), *stack, layers.Flatten(), layers.Dense(3)])
    shape = [[re.sub(r"_\d+$", "", name) for name in names] for _, names in blocks(automatic)]
    assert shape == [["conv2d", "batch_normalization", "re_lu"], ["conv2d", "re_lu", "flatten"], ["dense"]]

    bottom = [layers.Conv2D(4, 3, name="a_conv"), layers.ReLU(name="a_relu")]
    middle = [layers.Conv2D(4, 3, name="b_conv"), layers.ReLU()]
    named = keras.Sequential(
        [keras.Input((16, 16, 3)), *bottom, *middle, layers.Conv2D(4, 3, name="a_again")]
    )
    relu = named.layers[3].name
    assert blocks(named) == [("a", ["a_conv", "a_relu"]), ("b", ["b_conv", relu]), ("a_2", ["a_again"])]
    assert blocks(keras.Sequential([layers.Dense(2, name="only")])) == [("only", ["only"])]


@pytest.mark.parametrize("spec", FROM_KERAS, ids=lambda spec: spec.name)
def test_the_constructors_are_what_we_rely_on(spec):
    constructor = keras_constructor(spec)
    parameters = inspect.signature(constructor).parameters
    assert {"include_top", "weights", "input_tensor", "input_shape"} <= set(parameters)
    if "include_preprocessing" in parameters:
        assert parameters["include_preprocessing"].default is True
        assert spec.input_mode == "none"
    # Where Keras writes a file name out, it is the catalog's. (The others are checked by the test above.)
    source = ast.parse(inspect.getsource(sys.modules[constructor.__module__]))
    texts = [n.value for n in ast.walk(source) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    written_out = {name for text in texts for name in re.findall(r"[\w.-]+no_?top\.h5$", text)} - {
        "_notop.h5"
    }
    if spec.family in ("vgg", "densenet", "nasnet", "xception", "inception_v3", "inception_resnet_v2"):
        assert spec.weights_file in written_out
