"""Mixed precision for a while: a network computes in bfloat16 inside the block, and in float32 again after it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import keras

from keras_transfer.backbones.blocks import leaf_layers


@contextlib.contextmanager
def computing_in(model: keras.Model, precision: str, head: Collection[str]) -> Iterator[None]:
    """Compute the backbone's layers in ``precision`` (``float32`` or ``mixed_bfloat16``); the weights stay float32.

    The head stays in float32, as the loss wants its logits exact (Micikevicius et al. 2018, arXiv:1710.03740, keep
    such parts in single precision too). bfloat16 has float32's range, so no loss scaling is needed. ``head``: names of
    its layers.
    """
    if precision == "float32":
        yield
        return
    layers = [layer for layer in leaf_layers(model) if layer.name not in head]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy(precision)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
