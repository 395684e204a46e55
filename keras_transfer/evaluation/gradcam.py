"""What a classifier looks at: Grad-CAM, and the test that hiding what it looked at hurts.

Source: Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
arXiv:1610.02391.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from scipy.ndimage import gaussian_filter

from keras_transfer.backbones.building import applied, distinct_names
from keras_transfer.backbones.ending import last_map, output_of
from keras_transfer.errors import UsageError
from keras_transfer.heads import LOGITS

HIDDEN_SHARE = 0.2
"""Of the image's pixels, the highlighted ones that are hidden."""
_SMALLEST = 1e-12


class GradCam:
    """Heat maps of a classifier, made ready once.

    Args:
        model: pixels ``(B, H, W, 3)`` in [0, 255] to outputs ``(B, C)``.
        layer: whose map is looked at; None: the last map before the head.

    Raises:
        UsageError: another kind of model, no such layer, or none that is a map.
    """

    def __init__(self, model: keras.Model, layer: str | None = None) -> None:
        with distinct_names(model):
            self._prepare(model, layer)

    def _prepare(self, model: keras.Model, layer: str | None) -> None:
        image = keras.Input(tuple(model.inputs[0].shape[1:]))
        flat = keras.Model(image, applied(model, image), name=model.name)
        if len(flat.outputs) != 1 or len(flat.outputs[0].shape) != 2:
            raise UsageError(
                f"{model.name} gives {[tuple(o.shape) for o in flat.outputs]}; "
                "one score per class, (B, C), is expected."
            )
        maps = last_map(flat) if layer is None else output_of(flat, layer)
        if maps is None or len(maps.shape) != 4:
            what = "a layer whose output is a map" if layer is None else f"the layer {layer!r} with a map"
            raise UsageError(
                f"{model.name} has not {what} (B, h, w, D) to look at. Name one with --layer; `keras-transfer "
                "describe` lists them."
            )
        self.layer = maps._keras_history.operation.name
        logits = output_of(flat, LOGITS)
        # A plugin's layer of that name may be something else than one score per output.
        separate = logits is not None and tuple(logits.shape) == tuple(flat.outputs[0].shape)
        scores = logits if separate else flat.outputs[0]
        # Without separate logits the logarithm of a probability is followed: its gradient does not vanish near 1.
        self._logarithm = _is_probability(scores)
        self._model = keras.Model(image, [maps, scores])

    def __call__(self, pixels: np.ndarray, column: int) -> np.ndarray:
        """The heat map of one output for one image.

        Args:
            pixels: ``(H, W, 3)`` in [0, 255].
            column: which output.

        Returns:
            float32 ``(H, W)`` in [0, 1]: 1 where the map speaks most for the output; all 0 where nothing does.

        Raises:
            UsageError: no gradient comes back to the map.
        """
        image = tf.constant(pixels[None], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(image)  # where every layer below is frozen nothing else is
            maps, outputs = self._model(image, training=False)
            score = outputs[0, column]
            if self._logarithm:
                score = tf.math.log(tf.maximum(score, _SMALLEST))
        gradients = tape.gradient(score, maps)
        if gradients is None:
            raise UsageError(
                f"No gradient comes from the outputs back to the layer {self.layer!r}: something above it stops it. "
                "Name a layer above that with --layer."
            )
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))[0].numpy()
        if heat.max() > 0:
            heat = heat / heat.max()
        height, width = pixels.shape[:2]
        large = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(large, np.float32)


def _is_probability(output: keras.KerasTensor) -> bool:
    """Whether scores come out of a softmax or sigmoid; a model of the user's may end in logits."""
    operation = output._keras_history.operation
    activation = getattr(getattr(operation, "activation", None), "__name__", "")
    return activation in ("softmax", "sigmoid") or type(operation).__name__ in ("Softmax", "Sigmoid")


def hide(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image ``(H, W, 3)`` with the pixels under ``mask`` (bool ``(H, W)``) so blurred that nothing is recognised."""
    side = max(pixels.shape[:2])
    blurred = gaussian_filter(pixels.astype(np.float32), sigma=(side / 8, side / 8, 0))
    return np.where(mask[..., None], blurred, pixels).round().astype(np.uint8)


def masking(
    predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, heat: np.ndarray, column: int
) -> dict[str, float]:
    """How much an output falls when the highlighted region is hidden, and when equal regions elsewhere are.

    Args:
        predict: pixels ``(B, H, W, 3)`` to outputs ``(B, C)``.
        pixels: uint8 ``(H, W, 3)``.
        heat: the heat map ``(H, W)``.
        column: which output.

    Returns:
        ``output``: as it is; ``hidden``: with the hottest fifth of the pixels blurred away, of those that speak for the
        output at all (none where the map is 0: then nothing is hidden); ``elsewhere``: the mean with the same shape
        moved by half the image along one side, the other, and both (around the edge).
    """
    count = round(HIDDEN_SHARE * heat.size)
    order = np.argsort(heat, axis=None, kind="stable")
    chosen = np.zeros(heat.size, bool)
    chosen[order[-count:]] = True
    mask = chosen.reshape(heat.shape) & (heat > 0)
    height, width = heat.shape
    moved = [
        np.roll(mask, shift, (0, 1))
        for shift in ((height // 2, 0), (0, width // 2), (height // 2, width // 2))
    ]
    views = np.stack([pixels, *(hide(pixels, each) for each in (mask, *moved))])
    outputs = predict(views)[:, column]
    return {
        "output": float(outputs[0]),
        "hidden": float(outputs[1]),
        "elsewhere": float(outputs[2:].mean()),
    }


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image ``(H, W, 3)`` with its heat map over it, uint8: warm colours where the model looks."""
    from matplotlib import colormaps

    colours = colormaps["turbo"](heat)[..., :3] * 255
    strength = 0.6 * heat[..., None]
    return ((1 - strength) * pixels + strength * colours).round().astype(np.uint8)
