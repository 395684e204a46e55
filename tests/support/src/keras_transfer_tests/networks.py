"""What a network of the catalog is, read off one build of it: shapes, names, counts, no weights."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import keras


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
