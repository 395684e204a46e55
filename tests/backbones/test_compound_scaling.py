"""The compound-scaling rule gives the EfficientNets that Keras builds."""

from __future__ import annotations

import re

import keras
import pytest
from keras_transfer_tests.networks import how_often, shapes_only

from keras_transfer.backbones.compound_scaling import (
    PUBLISHED,
    Coefficients,
    compound_coefficients,
    compound_scaling,
)
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import UsageError

# B0 to B7: blocks of each stage, channels of each stage, stem, head, resolution.
FACTS = {
    "B0": ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 32, 1280, 224),
    "B1": ((2, 3, 3, 4, 4, 5, 2), (16, 24, 40, 80, 112, 192, 320), 32, 1280, 240),
    "B2": ((2, 3, 3, 4, 4, 5, 2), (16, 24, 48, 88, 120, 208, 352), 32, 1408, 260),
    "B3": ((2, 3, 3, 5, 5, 6, 2), (24, 32, 48, 96, 136, 232, 384), 40, 1536, 300),
    "B4": ((2, 4, 4, 6, 6, 8, 2), (24, 32, 56, 112, 160, 272, 448), 48, 1792, 380),
    "B5": ((3, 5, 5, 7, 7, 9, 3), (24, 40, 64, 128, 176, 304, 512), 48, 2048, 456),
    "B6": ((3, 6, 6, 8, 8, 11, 3), (32, 40, 72, 144, 200, 344, 576), 56, 2304, 528),
    "B7": ((4, 7, 7, 10, 10, 13, 4), (32, 48, 80, 160, 224, 384, 640), 64, 2560, 600),
}


@pytest.mark.parametrize("name", FACTS)
def test_depths_widths_and_resolutions(name):
    repeats, filters, stem, head, resolution = FACTS[name]
    scaled = compound_scaling(name)
    assert tuple(stage.repeats for stage in scaled.stages) == repeats
    assert tuple(stage.filters for stage in scaled.stages) == filters
    assert (scaled.stem, scaled.head, scaled.resolution) == (stem, head, resolution)
    assert scaled.blocks == sum(repeats)
    row = CATALOG[f"efficientnet_{name.lower()}"]
    assert (row.feature_dim, row.default_size) == (head, resolution)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=how_often(f"efficientnet_{name.lower()}")) for name in FACTS]
)
def test_keras_builds_the_same_layers(name, network_facts):
    scaled, facts = compound_scaling(name), network_facts(f"efficientnet_{name.lower()}")
    layers = facts["convolutions"]
    assert facts["output"][-1] == scaled.head
    assert layers["stem_conv"]["filters"] == scaled.stem
    assert layers["top_conv"]["filters"] == scaled.head
    for number, stage in enumerate(scaled.stages, 1):
        blocks = [
            layer
            for found, layer in layers.items()
            if re.fullmatch(rf"block{number}[a-z]_project_conv", found)
        ]
        assert len(blocks) == stage.repeats
        assert {layer["filters"] for layer in blocks} == {stage.filters}
        depthwise = layers[f"block{number}a_dwconv"]
        assert depthwise["kernel_size"] == [stage.kernel, stage.kernel]
        assert depthwise["strides"] == [stage.strides, stage.strides]


@pytest.mark.nightly
@pytest.mark.parametrize("name", FACTS)
def test_keras_takes_images_of_that_resolution(name):
    with shapes_only():
        model = getattr(keras.applications, f"EfficientNet{name}")(weights=None)
    assert model.input.shape[1:3] == (compound_scaling(name).resolution,) * 2


@pytest.mark.parametrize(("name", "phi"), [("B0", 0), ("B1", 0.5), ("B2", 1), ("B3", 2)])
def test_the_rule_gives_the_published_coefficients(name, phi):
    rule, published = compound_coefficients(phi), PUBLISHED[name]
    assert round(rule.width - 1e-9, 1) == published.width
    assert round(rule.depth, 1) == published.depth
    assert rule.resolution == pytest.approx(published.resolution, rel=0.015)


@pytest.mark.parametrize("phi", [1, 2, 3, 4])
def test_a_step_doubles_the_cost(phi):
    rule = compound_coefficients(phi)
    cost = rule.depth * rule.width**2 * (rule.resolution / 224) ** 2
    assert cost == pytest.approx(2**phi, rel=0.04 * phi)


def test_lite_networks_keep_their_ends():
    for lite, whole in (("Lite0", "B0"), ("Lite1", "B1"), ("Lite2", "B2")):
        small, large = compound_scaling(lite), compound_scaling(whole)
        assert (small.stem, small.head) == (32, 1280)
        assert [stage.filters for stage in small.stages] == [stage.filters for stage in large.stages]
        assert [stage.repeats for stage in small.stages] == [
            1,
            *(stage.repeats for stage in large.stages[1:-1]),
            1,
        ]


def test_impossible_arguments():
    with pytest.raises(UsageError, match="no scale of EfficientNet 'B8'"):
        compound_scaling("B8")
    with pytest.raises(UsageError, match="above 0"):
        compound_scaling(Coefficients(0.0, 1.0, 224))
    for arguments in ({"phi": -1}, {"phi": 1, "alpha": 0.9}):
        with pytest.raises(UsageError, match="phi of at least 0"):
            compound_coefficients(**arguments)
