"""The network and its weights: a bank of Gabor filters, which answer to stripes of one direction and width."""

import keras
import numpy as np

SIDE, DIRECTIONS, WIDTHS = 11, 8, (3.0, 5.0, 8.0)
"""Pixels of a filter, directions, and widths of the stripes in pixels; each with two phases: 48 filters."""


def gabor(*, input_tensor):
    """Put the layers on ``input_tensor`` ``(B, H, W, 3)`` in [0, 1]; returns the map ``(B, H/32, W/32, 48)``."""
    filters = 2 * DIRECTIONS * len(WIDTHS)
    x = keras.layers.Conv2D(filters, SIDE, strides=2, padding="same", use_bias=False, name="texture_conv")(
        input_tensor
    )
    x = keras.layers.ReLU(name="texture_relu")(x)
    x = keras.layers.AveragePooling2D(2, padding="same", name="texture_pool")(x)
    for stride in (8, 16, 32):
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{stride}")(x)
    return x


def weights():
    """Layer name to arrays: the filters, ``(11, 11, 3, 48)``, the same for the three colours, each of mean 0."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    bank = []
    for width in WIDTHS:
        envelope = np.exp(-(x**2 + y**2) / (2 * (0.56 * width) ** 2))
        for direction in range(DIRECTIONS):
            angle = np.pi * direction / DIRECTIONS
            along = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / width
            for phase in (0, np.pi):
                wave = envelope * np.cos(along + phase)
                wave -= envelope * wave.sum() / envelope.sum()
                bank.append(wave / np.abs(wave).sum())
    filters = np.stack(bank, axis=-1)[:, :, None, :].repeat(3, axis=2)
    return {"texture_conv": [filters.astype(np.float32)]}
