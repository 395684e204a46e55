"""What is frozen, in one number: bit-identical before and after a training."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from keras_transfer.backbones.blocks import leaf_layers


def frozen_fingerprint(model: keras.Model) -> str:
    """SHA-256 over every frozen variable, moving statistics included: equal before and after training.

    Variables of trainable layers that the optimizer does not touch (the statistics of a training batch
    normalization, seed states) are not frozen and not part of it.
    """
    digest = hashlib.sha256()
    for layer in leaf_layers(model):
        if layer.trainable:
            continue
        for variable in layer.weights:
            digest.update(variable.path.encode())
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()
