"""What a network of the catalog is, read off one build of it: shapes, names, counts, no weights."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import keras
import pytest

FAST = ("efficientnet_lite0", "mobilenet", "alexnet", "resnet18")
EACH_WAY = (
    *(
        "mobilenet_v2",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "resnet50",
        "resnet50_v2",
    ),
    *(
        "densenet121",
        "vgg16",
        "vgg11_bn",
        "inception_v3",
        "xception",
        "nasnet_mobile",
        "convnext_tiny",
        "zfnet",
    ),
    *("googlenet", "googlenet_bn"),
)
"""One network for each way of building: the others are built in ``make nightly``."""


def how_often(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """The mark of a test for each network of the catalog."""
    if name in FAST:
        return ()
    return (pytest.mark.slow,) if name in EACH_WAY else (pytest.mark.nightly,)


@contextlib.contextmanager
def shapes_only():
    """Networks built inside have shapes and parameter counts but no weights: 140 million cost nothing."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.backend.clear_session()


def facts_of(name: str) -> dict:
    """Facts of the backbone ``name`` at its default size, as JSON has them."""
    from keras_transfer.backbones import blocks, pyramid_model
    from keras_transfer.backbones.building import build
    from keras_transfer.backbones.cost import macs
    from keras_transfer.catalog import CATALOG

    spec = CATALOG[name]
    with shapes_only():
        model = build(spec, (spec.default_size, spec.default_size))
        pyramid = pyramid_model(model, spec).output
    return {
        "name": model.name,
        "inputs": [[tensor.name, list(tensor.shape), tensor.dtype] for tensor in model.inputs],
        "output": list(model.output.shape),
        "parameters": model.count_params(),
        "multiply_adds": macs(model),
        "pyramid": {level: list(tensor.shape) for level, tensor in pyramid.items()},
        "operations": [
            [one.name, type(one).__module__, type(one).__name__, isinstance(one, keras.Model)]
            for one in model.operations
        ],
        "layers": [[layer.name, bool(layer.weights)] for layer in model.layers],
        "blocks": blocks(model),
        "convolutions": {
            layer.name: {key: layer.get_config().get(key) for key in ("filters", "kernel_size", "strides")}
            for layer in model.layers
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        },
    }


def write_facts(name: str, folder: Path) -> None:
    """``facts.json`` of a network."""
    (folder / "facts.json").write_text(json.dumps(facts_of(name)))
