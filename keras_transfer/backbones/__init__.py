"""first version"""
from __future__ import annotations
from ..catalog import get_spec
from .building import build
from .weights import load_weights
import keras

def load_backbone(name, weights="auto", image_size=None, *, offline=None, pooling=None):
    spec = get_spec(name)
    size = image_size or spec.default_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    model = build(spec, size)
    load_weights(model, spec, weights, offline)
    if pooling == "avg":
        model = keras.Model(model.input, keras.layers.GlobalAveragePooling2D(name="avg_pool")(model.output), name=model.name)
    return model
