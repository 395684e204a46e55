"""The historic networks: shapes after every stage, and parameters, from the arithmetic of their papers."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras_transfer_tests.networks import shapes_only

from keras_transfer.backbones.classic import (
    AUXILIARY_WEIGHTS,
    VGG11,
    VGG13,
    VGG16,
    VGG19,
    AlexNet,
    GoogLeNet,
    GoogLeNetBN,
    ResNet18,
    ResNet34,
    ZFNet,
    without_auxiliary,
)
from keras_transfer.backbones.classic.googlenet import MODULES
from keras_transfer.backbones.cost import macs
from keras_transfer.errors import UsageError, WeightsError

ALL = (AlexNet, ZFNet, VGG11, VGG13, VGG16, VGG19, GoogLeNet, GoogLeNetBN, ResNet18, ResNet34)
FULLY_CONNECTED = {"fc6": (4096,), "fc7": (4096,), "predictions": (1000,)}
VGG_STAGES = {
    "block1_pool": (112, 112, 64),
    "block2_pool": (56, 56, 128),
    "block3_pool": (28, 28, 256),
    "block4_pool": (14, 14, 512),
    "block5_pool": (7, 7, 512),
    "flatten": (25088,),
    "fc1": (4096,),
    "fc2": (4096,),
    "predictions": (1000,),
}
GOOGLENET_STAGES = {
    "conv1": (112, 112, 64),
    "conv1_pool": (56, 56, 64),
    "conv2": (56, 56, 192),
    "conv2_pool": (28, 28, 192),
    "inception_3a_output": (28, 28, 256),
    "inception_3b_output": (28, 28, 480),
    "inception_4a_downsample": (14, 14, 480),
    "inception_4a_output": (14, 14, 512),
    "inception_4b_output": (14, 14, 512),
    "inception_4c_output": (14, 14, 512),
    "inception_4d_output": (14, 14, 528),
    "inception_4e_output": (14, 14, 832),
    "inception_5a_downsample": (7, 7, 832),
    "inception_5a_output": (7, 7, 832),
    "inception_5b_output": (7, 7, 1024),
    "avg_pool": (1024,),
    "predictions": (1000,),
}


def resnet_stages(*blocks: int) -> dict[str, tuple[int, ...]]:
    ends = {
        f"conv{stage}_block{count}_out": (56 >> i, 56 >> i, 64 << i)
        for i, (stage, count) in enumerate(zip(range(2, 6), blocks, strict=True))
    }
    return {"conv1_relu": (112, 112, 64), "pool1_pool": (56, 56, 64), **ends, "predictions": (1000,)}


def conv(kernel: int, inside: int, outside: int, bias: bool = True, normalized: bool = False) -> int:
    """Parameters of a convolution: kernel, biases, and four numbers per channel of a batch normalization."""
    return kernel**2 * inside * outside + outside * bias + 4 * outside * normalized


def dense(inside: int, outside: int) -> int:
    return (inside + 1) * outside


FC = dense(4096, 4096) + dense(4096, 1000)


def vgg(*blocks: int, normalized: bool = True) -> int:
    widths = [64] * blocks[0] + [128] * blocks[1] + [256] * blocks[2] + [512] * (blocks[3] + blocks[4])
    pairs = zip([3, *widths[:-1]], widths, strict=True)
    return sum(conv(3, a, b, normalized=normalized) for a, b in pairs) + dense(7 * 7 * 512, 4096) + FC


def inception(inside: int, name: str, **how: bool) -> int:
    direct, reduce3, conv3, reduce5, conv5, projection = MODULES[name]
    ones = direct + reduce3 + reduce5 + projection
    return conv(1, inside, ones, **how) + conv(3, reduce3, conv3, **how) + conv(5, reduce5, conv5, **how)


INTO = {
    **{"3a": 192, "3b": 256, "4a": 480, "4b": 512, "4c": 512},
    **{"4d": 512, "4e": 528, "5a": 832, "5b": 832},
}
"""Channels that go into each module (table 1 of the paper: the sums of the modules below)."""


def googlenet(**how: bool) -> int:
    stem = conv(7, 3, 64, **how) + conv(1, 64, 64, **how) + conv(3, 64, 192, **how)
    return stem + sum(inception(inside, name, **how) for name, inside in INTO.items()) + dense(1024, 1000)


def auxiliary(inside: int) -> int:
    return conv(1, inside, 128) + dense(4 * 4 * 128, 1024) + dense(1024, 1000)


def resnet(*blocks: int, projections: int = 3) -> int:
    """``projections``: 0 (identity alone), 3 (where places are halved), or one in every block."""
    how = {"bias": False, "normalized": True}
    total, inside = conv(7, 3, 64, **how) + dense(512, 1000), 64
    for i, count in enumerate(blocks):
        width = 64 << i
        for number in range(count):
            total += conv(3, inside, width, **how) + conv(3, width, width, **how)
            if (projections == 3 and number == 0 and i > 0) or projections == sum(blocks):
                total += conv(1, inside, width, **how)
            inside = width
    return total


ALEXNET_STAGES = {
    "conv1": (55, 55, 96),
    "conv1_pool": (27, 27, 96),
    "conv1_norm": (27, 27, 96),
    "conv2_relu": (27, 27, 256),
    "conv2_pool": (13, 13, 256),
    "conv2_norm": (13, 13, 256),
    "conv3": (13, 13, 384),
    "conv4_relu": (13, 13, 384),
    "conv5_relu": (13, 13, 256),
    "conv5_pool": (6, 6, 256),
    "flatten": (9216,),
    **FULLY_CONNECTED,
}
ALEXNET_REST = conv(11, 3, 96) + conv(3, 256, 384) + dense(9216, 4096) + FC
ZFNET_STAGES = {
    "conv1": (110, 110, 96),
    "conv1_pool": (55, 55, 96),
    "conv2": (26, 26, 256),
    "conv2_pool": (13, 13, 256),
    "conv3": (13, 13, 512),
    "conv4": (13, 13, 1024),
    "conv5": (13, 13, 512),
    "conv5_pool": (6, 6, 512),
    **FULLY_CONNECTED,
}
ZFNET = (conv(7, 3, 96) + conv(5, 96, 256) + conv(3, 256, 512) + conv(3, 512, 1024) + conv(3, 1024, 512)) + (
    dense(6 * 6 * 512, 4096) + FC
)
BN = {"bias": False, "normalized": True}

# constructor, options, shapes, parameters, what the paper says of them
NETWORKS = [
    (
        AlexNet,
        {},
        ALEXNET_STAGES,
        ALEXNET_REST + conv(5, 96, 256) + conv(3, 384, 384) + conv(3, 384, 256),
        None,
    ),
    (
        AlexNet,
        {"towers": 2},
        ALEXNET_STAGES,
        ALEXNET_REST + 2 * (conv(5, 48, 128) + conv(3, 192, 192) + conv(3, 192, 128)),
        60e6,
    ),
    (ZFNet, {}, ZFNET_STAGES, ZFNET, None),
    (
        ZFNet,
        {"conv1_padding": 3},
        {**ZFNET_STAGES, "conv1": (112, 112, 96), "conv1_pool": (56, 56, 96)},
        ZFNET,
        None,
    ),
    (VGG11, {}, VGG_STAGES, vgg(1, 1, 2, 2, 2), 133e6),
    (VGG13, {}, VGG_STAGES, vgg(2, 2, 2, 2, 2), 133e6),
    (VGG16, {}, VGG_STAGES, vgg(2, 2, 3, 3, 3), 138e6),
    (VGG19, {}, VGG_STAGES, vgg(2, 2, 4, 4, 4), 144e6),
    (VGG11, {"batch_normalization": False}, VGG_STAGES, vgg(1, 1, 2, 2, 2, normalized=False), 133e6),
    (GoogLeNet, {}, GOOGLENET_STAGES, googlenet(), 6.8e6),
    (GoogLeNetBN, {}, GOOGLENET_STAGES, googlenet(**BN), None),
    (
        GoogLeNet,
        {"auxiliary": True},
        {
            **GOOGLENET_STAGES,
            "auxiliary_4a_pool": (4, 4, 512),
            "auxiliary_4a_conv": (4, 4, 128),
            "auxiliary_4a_dense": (1024,),
            "auxiliary_4d_pool": (4, 4, 528),
            "auxiliary_4d": (1000,),
        },
        googlenet() + auxiliary(512) + auxiliary(528),
        None,
    ),
    (ResNet18, {}, resnet_stages(2, 2, 2, 2), resnet(2, 2, 2, 2), None),
    (ResNet34, {}, resnet_stages(3, 4, 6, 3), resnet(3, 4, 6, 3), None),
    (ResNet18, {"shortcut": "identity"}, resnet_stages(2, 2, 2, 2), resnet(2, 2, 2, 2, projections=0), None),
    (ResNet34, {"shortcut": "identity"}, resnet_stages(3, 4, 6, 3), resnet(3, 4, 6, 3, projections=0), None),
    (
        ResNet18,
        {"shortcut": "all_projections"},
        resnet_stages(2, 2, 2, 2),
        resnet(2, 2, 2, 2, projections=8),
        None,
    ),
]


def often(constructor, value):
    """VGG's and ResNet's other depths are built in ``make nightly``."""
    seldom = constructor in (VGG13, VGG19, ResNet34)
    return pytest.param(value, marks=pytest.mark.nightly if seldom else ())


def named(network) -> str:
    constructor, options, *_ = network
    return "-".join([constructor.__name__, *(f"{key}={value}" for key, value in options.items())])


@pytest.mark.slow
@pytest.mark.parametrize("network", [often(network[0], network) for network in NETWORKS], ids=named)
def test_every_stage_has_the_papers_shape_and_the_parameters_its_count(network):
    constructor, options, stages, parameters, published = network
    with shapes_only():
        model = constructor(**options)
    shapes = {name: model.get_layer(name).output.shape[1:] for name in stages}
    assert shapes == stages
    assert model.count_params() == parameters
    if published is not None:
        assert parameters == pytest.approx(published, rel=0.03)


def test_known_totals():
    """Counts that other implementations publish for the same networks (trainable parameters)."""
    assert NETWORKS[0][3] == 62_378_344
    assert NETWORKS[1][3] == 60_965_224
    normalizations = {16: 2 * 4224, 19: 2 * 5504}  # moving statistics, two numbers per channel
    assert vgg(2, 2, 3, 3, 3) - normalizations[16] == 138_365_992
    assert vgg(2, 2, 4, 4, 4) - normalizations[19] == 143_678_248
    assert googlenet() == 6_998_552
    assert resnet(2, 2, 2, 2) - 2 * 4800 == 11_689_512
    assert resnet(3, 4, 6, 3) - 2 * 8512 == 21_797_672


def test_inception_modules_agree_with_the_papers_table():
    """Thousands (1024) of weights, and millions of multiplications, as table 1 of GoogLeNet's paper has them."""
    published = {
        "3a": (159, 128, 28), "3b": (380, 304, 28), "4a": (364, 73, 14), "4b": (437, 88, 14), "4c": (463, 100, 14),
        "4d": (580, 119, 14), "4e": (840, 170, 14), "5a": (1072, 54, 7), "5b": (1388, 71, 7),
    }  # fmt: skip
    for name, (thousands, millions, side) in published.items():
        weights = inception(INTO[name], name, bias=False)
        assert weights / 1024 == pytest.approx(thousands, rel=0.08), name
        assert weights * side**2 / 1e6 == pytest.approx(millions, rel=0.08), name


@pytest.mark.parametrize(
    ("constructor", "billions"),
    [(GoogLeNet, 1.5), (ResNet18, 1.8), pytest.param(ResNet34, 3.6, marks=pytest.mark.nightly)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_multiply_adds_are_what_the_papers_say(constructor, billions):
    with shapes_only():
        model = constructor()
    assert macs(model) / 1e9 == pytest.approx(billions, rel=0.06)


# ------------------------------------------------------------------ the conventions of keras.applications


@pytest.mark.parametrize("constructor", ALL, ids=lambda one: one.__name__)
def test_the_signature_is_that_of_keras_applications(constructor):
    theirs = list(inspect.signature(keras.applications.VGG16).parameters.values())
    ours = list(inspect.signature(constructor).parameters.values())
    given = {
        "include_top",
        "weights",
        "input_tensor",
        "input_shape",
        "pooling",
        "classes",
        "classifier_activation",
    }
    assert [one.name for one in ours if one.name in given] == [
        one.name for one in theirs if one.name in given
    ]
    assert {one.name for one in ours} >= given
    assert all(one.kind is one.KEYWORD_ONLY for one in ours if one.name not in given)
    assert "arXiv:" in constructor.__doc__ or "NIPS" in constructor.__doc__


@pytest.mark.nightly
@pytest.mark.parametrize("constructor", [often(one, one) for one in ALL], ids=lambda one: one.__name__)
def test_without_the_classifier(constructor):
    with shapes_only():
        body = constructor(include_top=False, input_shape=(96, 128, 3))
        free = constructor(include_top=False, input_shape=(None, None, 1))
        pooled = {kind: constructor(include_top=False, pooling=kind) for kind in ("avg", "max")}
    assert len(body.output.shape) == 4 and all(body.output.shape[1:])
    assert free.output.shape[:3] == (None, None, None)
    assert free.output.shape[3] == body.output.shape[3]
    for kind, model in pooled.items():
        assert model.output.shape == (None, body.output.shape[3])
        assert model.layers[-1].name == f"{kind}_pool"


@pytest.mark.slow
@pytest.mark.parametrize("constructor", ALL, ids=lambda one: one.__name__)
def test_bad_arguments(constructor):
    def refused(words, error=UsageError, **arguments):
        with pytest.raises(error, match=words), shapes_only():
            constructor(**arguments)

    refused("at least", include_top=False, input_shape=(20, 20, 3))
    refused("height, width, channels", input_shape=(96, 96))
    refused("of one size", input_shape=(None, None, 3))
    refused("no pooling 'mean'", include_top=False, pooling="mean")
    refused("There are no ImageNet weights", WeightsError, weights="imagenet", include_top=False)
    refused("neither None nor an existing file", weights="nothing.weights.h5", include_top=False)


@pytest.mark.parametrize(
    ("constructor", "arguments", "words"),
    [
        (AlexNet, {"towers": 3}, "1 or 2"),
        (ZFNet, {"conv1_padding": 2}, "1 or 3"),
        (GoogLeNet, {"auxiliary": True, "include_top": False}, "go with the top"),
        (GoogLeNet, {"auxiliary": True, "input_shape": (64, 64, 3)}, "at least 65"),
        (ResNet18, {"shortcut": "none"}, "identity, projection"),
        (ResNet34, {"merge": "add"}, "sum"),
    ],
)
def test_bad_options(constructor, arguments, words):
    with pytest.raises(UsageError, match=words):
        constructor(**arguments)


@pytest.mark.nightly
def test_weights_of_a_file_and_an_input_of_ones_own(tmp_path):
    first = ResNet18(classes=3, input_shape=(32, 32, 3))
    first.save_weights(tmp_path / "ours.weights.h5")
    image = keras.Input((32, 32, 3))
    again = ResNet18(
        classes=3, weights=tmp_path / "ours.weights.h5", input_tensor=keras.layers.Rescaling(1.0)(image)
    )
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again(pixels), first(pixels), atol=1e-6)
    np.testing.assert_allclose(np.sum(first(pixels), axis=1), 1, atol=1e-5)
    with pytest.raises(WeightsError, match="do not fit resnet18"):
        ResNet18(classes=4, weights=tmp_path / "ours.weights.h5", input_shape=(32, 32, 3))


# ------------------------------------------------------------------ what is particular to one


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")


@pytest.mark.slow
def test_an_identity_shortcut_passes_its_input_on(noise):
    """With the last normalization of every block at zero, a block gives the ReLU of what its shortcut carries."""
    model = ResNet18(include_top=False, input_shape=(64, 64, 3), shortcut="identity")
    for layer in model.layers:
        if layer.name.endswith("_2_bn"):
            layer.gamma.assign(np.zeros(layer.gamma.shape))
    pooled = keras.Model(model.input, model.get_layer("pool1_pool").output)(noise)
    kept = np.asarray(model(noise))
    np.testing.assert_allclose(kept[..., :64], np.asarray(pooled)[:, ::8, ::8], atol=1e-5)
    assert not kept[..., 64:].any() and kept.any()


@pytest.mark.slow
def test_concatenation_keeps_input_and_change(noise):
    model = ResNet18(include_top=False, input_shape=(64, 64, 3), merge="concatenate")
    widths = [
        model.get_layer(f"conv{stage}_block{n}_out").output.shape[-1] for stage in (2, 3, 5) for n in (1, 2)
    ]
    assert widths == [64 + 64, 128 + 64, 128 + 128, 256 + 128, 512 + 512, 1024 + 512]
    layers = ("conv2_block1_out", "conv2_block2_out")
    before, after = keras.Model(model.input, [model.get_layer(name).output for name in layers])(noise)
    np.testing.assert_array_equal(np.asarray(after)[..., :128], before)
    identity = ResNet18(include_top=False, input_shape=(64, 64, 3), merge="concatenate", shortcut="identity")
    assert identity.output.shape[-1] == 64 + 2 * (64 + 128 + 256 + 512)


@pytest.mark.nightly
def test_auxiliary_classifiers_train_and_are_left_out(noise):
    """They pass gradient into the middle of the network; what is left gives the same answers without their weights."""
    keras.utils.set_random_seed(0)
    model = GoogLeNet(classes=2, input_shape=(72, 72, 3), auxiliary=True)
    images = np.pad(noise, ((0, 0), (0, 8), (0, 0), (0, 0)), mode="wrap")
    images = np.pad(images, ((0, 0), (0, 0), (0, 8), (0, 0)), mode="wrap")
    labels = np.array([0, 1, 0, 1])
    losses = dict.fromkeys(AUXILIARY_WEIGHTS, "sparse_categorical_crossentropy")
    model.compile("sgd", losses, loss_weights={**AUXILIARY_WEIGHTS, "predictions": 0.0}, run_eagerly=True)
    middle, top = (model.get_layer(f"inception_{name}_1x1") for name in ("4a", "5b"))
    before = [layer.get_weights()[0] for layer in (middle, top)]
    model.fit(images, dict.fromkeys(AUXILIARY_WEIGHTS, labels), verbose=0)
    assert not np.array_equal(middle.get_weights()[0], before[0]), (
        "no gradient through the auxiliary classifiers"
    )
    assert np.array_equal(top.get_weights()[0], before[1])
    lean = without_auxiliary(model)
    assert not [layer.name for layer in lean.layers if layer.name.startswith("auxiliary")]
    assert lean.count_params() == GoogLeNet(classes=2, input_shape=(72, 72, 3)).count_params()
    np.testing.assert_array_equal(lean(images), model(images)["predictions"])
    with pytest.raises(UsageError, match="no auxiliary classifiers"):
        without_auxiliary(lean)
