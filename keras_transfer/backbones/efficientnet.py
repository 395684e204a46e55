"""The trap in EfficientNet B0 to B7 of ``keras.applications``, and the way round it.

With ``weights="imagenet"`` Keras builds one layer more than with ``weights=None``, a rescaling by
``1 / sqrt(std)`` behind the normalization (tensorflow#49930, #62193). The same weights in the other
architecture give other, worse answers. Here the architecture never has that layer: its effect is
moved in front of the network's own scaling, so the function equals the one Keras builds for ImageNet.

With mean m and deviation s of a channel, Keras computes ``((x/255 - m) / s) / sqrt(s)``. The layers that both
architectures have compute ``(y/255 - m) / s``, which is the same for ``y = x / sqrt(s) + 255 m (1 - 1 / sqrt(s))``.
"""

from __future__ import annotations

import keras
import numpy as np

from .scaling import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

_MEAN = np.array(IMAGENET_MEAN_RGB)
_STD = np.array(IMAGENET_STD_RGB)
_FACTOR = 1 / np.sqrt(_STD)


def compensate(image: keras.KerasTensor) -> keras.KerasTensor:
    """Pixels ``(B, H, W, 3)`` in [0, 255] to the ``y`` of the module's docstring, in a layer named ``scaling``."""
    offset = 255 * _MEAN * (1 - _FACTOR)
    return keras.layers.Rescaling(_FACTOR.tolist(), offset.tolist(), name="scaling")(image)


def set_statistics(model: keras.Model) -> None:
    """Give the normalization the ImageNet statistics, which Keras's files carry and a fresh network lacks."""
    _set(model, _MEAN, _STD**2)


def adapt_statistics(model: keras.Model) -> bool:
    """After loading weights: make the model right for a file whose network was built with ``weights=None``.

    Such a network normalizes with mean 0 and variance 1 and has no rescaling, so it computes ``x / 255``.
    Returns whether that was the case.
    """
    mean, variance, _ = _layer(model).get_weights()
    if not (np.all(mean == 0) and np.all(variance == 1)):
        return False
    _set(model, _MEAN * (1 - _FACTOR), _FACTOR**2)
    return True


def _set(model: keras.Model, mean: np.ndarray, variance: np.ndarray) -> None:
    _layer(model).set_weights([mean, variance, np.array(0)])
    _layer(model).finalize_state()


def _layer(model: keras.Model) -> keras.layers.Normalization:
    return model.get_layer("normalization")
