"""Batch normalization for images from elsewhere: the moving statistics are measured anew, nothing else changes.

Li et al. 2016 (AdaBN, arXiv:1603.04779): what another camera, light or blur does to a network is for a good part a
shift of the means and variances its batch normalizations expect. No labels and no gradients are needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import BatchNormalization

from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.data import ImageTable
from keras_transfer.data.pipeline import batches
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing


@dataclass(frozen=True)
class AdaptReport:
    """What an adaptation did.

    Attributes:
        layers: how many batch normalizations were adapted.
        images: how many images were looked at.
        passes: how often.
        mean_shift: how far the means moved: ``|new - old| / sqrt(old variance + epsilon)``, averaged over the channels
            of each layer, then over the layers.
        variance_shift: how far the variances moved: ``|log((new + epsilon) / (old + epsilon))|``, averaged alike.
        layer_shifts: the mean shift of each layer, bottom to top.
    """

    layers: int
    images: int
    passes: int
    mean_shift: float
    variance_shift: float
    layer_shifts: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def adapt_batchnorm(
    model: keras.Model,
    images: ImageTable | np.ndarray | Iterable[Any],
    *,
    momentum: float | None = None,
    batch_size: int = 32,
    preprocessing: Preprocessing | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
    passes: int = 1,
    seed: int = 0,
) -> AdaptReport:
    """Re-estimate the moving mean and variance of every ``BatchNormalization`` on the target images.

    The new statistics are those of all images together: the mean of the batches' means, and the mean of their
    variances plus the variance of their means, weighted by the images in each. While they are measured every layer
    normalises a batch with that batch's own statistics, as in training, so that one pass measures all layers; the
    input of all but the first therefore depends a little on how the batches are cut. Larger batches, or more
    ``passes``, each in another order, lessen that. Dropout and everything else that training changes stays off.

    The layers above learned what the old statistics gave them. Where those are from a third place, as ImageNet's are,
    adapt to the training images first, train on that, and adapt to the target images then.

    Frozen layers (``trainable = False``) are adapted as well, and stay frozen. A batch of one class says little about
    all images: tables and arrays are therefore shuffled; other batches are taken as they come.

    Args:
        model: a Functional or Sequential model, nested ones included; pixels ``(B, H, W, 3)`` in [0, 255].
        images: a table (with ``preprocessing``, and ``indices`` for some of its rows); or an array ``(N, H, W, 3)`` of
            uint8 or float; or an iterable of such arrays as batches, such as a ``tf.data.Dataset`` (of tuples the
            first member is taken).
        momentum: share of the old statistics that is kept, in [0, 1), for few target images (Schneider et al. 2020,
            arXiv:2006.16971). None keeps nothing.
        batch_size: images per batch for tables and arrays, at least 2; a few more rather than a last batch of one.
        preprocessing: brings the images of a table to the model's size.
        indices: rows of a table; all by default.
        passes: how often the images are gone through, at least 1.
        seed: fixes the order of tables and arrays.

    Raises:
        UsageError: a model without batch normalization, or an impossible argument.
        DataError: fewer than 2 images, a batch of one image, or statistics that are not finite. The model is then
            unchanged.
    """
    if momentum is not None and not 0 <= momentum < 1:
        raise UsageError(f"momentum is {momentum!r}; expected None or a number in [0, 1).")
    if batch_size < 2 or passes < 1:
        raise UsageError(
            f"batch_size={batch_size} and passes={passes} were given; expected batches of at least 2 images (one "
            "image alone has no batch statistics) and at least 1 pass."
        )
    normalizations = [layer for layer in leaf_layers(model) if isinstance(layer, BatchNormalization)]
    if not normalizations:
        raise UsageError(f"{model.name!r} has no BatchNormalization layer: there is nothing to adapt.")
    if passes > 1 and isinstance(images, Iterator):
        raise UsageError(
            f"{passes} passes over an iterator were asked for; give a list, an array or a table."
        )
    start = _source(images, batch_size, preprocessing, indices)
    pixels = itertools.chain.from_iterable(start(np.random.default_rng((seed, i))) for i in range(passes))
    kept = momentum or 0.0
    count, measured = _measure(_measuring_copy(model, kept), pixels)
    means, variances = {}, []
    for layer, (mean, variance) in zip(normalizations, measured, strict=True):
        old_mean = ops.convert_to_numpy(layer.moving_mean).astype(np.float64)
        old_variance = ops.convert_to_numpy(layer.moving_variance).astype(np.float64)
        mean = kept * old_mean + (1 - kept) * mean
        variance = kept * old_variance + (1 - kept) * variance
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        deviation = np.sqrt(old_variance + layer.epsilon)
        means[layer.name] = float(np.mean(np.abs(mean - old_mean) / deviation))
        variances.append(float(np.mean(np.abs(np.log((variance + layer.epsilon) / deviation**2)))))
    shifts = (float(np.mean(list(means.values()))), float(np.mean(variances)))
    return AdaptReport(len(normalizations), count // passes, passes, *shifts, means)


class _Measuring(BatchNormalization):
    """A batch normalization of a copied network that tells the moments of what it is given."""

    kept = 0.0

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = ops.cast(inputs, "float32")
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        mean, variance = self.moments = ops.moments(x, axes)
        # As the adapted layer will, so that the layers above are measured on what they will be given.
        mean = self.kept * self.moving_mean + (1 - self.kept) * mean
        variance = self.kept * self.moving_variance + (1 - self.kept) * variance
        y = ops.batch_normalization(
            x, mean, variance, axis=self.axis, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(y, self.compute_dtype)


def _measuring_copy(model: keras.Model, kept: float) -> keras.Model:
    """The same network with weights of its own: whatever goes wrong, the caller's is not half adapted."""

    def copy(layer: Any) -> Any:
        if not isinstance(layer, BatchNormalization):
            return type(layer).from_config(layer.get_config())
        measuring = _Measuring.from_config(layer.get_config())
        measuring.kept = kept
        return measuring

    # Around the same layers first: cloning a compiled model would compile the copy.
    plain = keras.Model(model.input, model.output)
    network = keras.models.clone_model(plain, clone_function=copy, recursive=True)
    network.set_weights(plain.get_weights())
    for layer in leaf_layers(network):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with tensors derived from its weights
    return network


def _measure(
    network: keras.Model, pixels: Iterable[np.ndarray]
) -> tuple[int, list[tuple[np.ndarray, np.ndarray]]]:
    """The number of images, and mean and variance of what each normalization was given, float64 ``(C,)``."""
    import tensorflow as tf

    layers = [layer for layer in leaf_layers(network) if isinstance(layer, _Measuring)]
    expected = network.input_shape[1:]

    @tf.function(input_signature=[tf.TensorSpec((None, *expected), tf.float32)])
    def moments(batch: Any) -> list[Any]:
        network(batch, training=False)
        return [layer.moments for layer in layers]

    count = 0
    sums: list[Any] = [(0.0, 0.0)] * len(layers)
    for batch in pixels:
        fits = [
            given for given, wanted in zip(batch.shape[1:], expected, strict=False) if wanted in (None, given)
        ]
        if batch.ndim != len(expected) + 1 or len(fits) < len(expected):
            raise UsageError(
                f"Images of shape {batch.shape} were given; {('N', *expected)} is expected. Bring them to the "
                "model's size."
            )
        size = len(batch)
        if size < 2:
            raise DataError(
                f"A batch of {size} image was given; a batch has statistics from 2 images on. Drop it, or cut the "
                "batches differently."
            )
        count += size
        for i, (mean, variance) in enumerate(moments(tf.constant(batch, tf.float32))):
            mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
            sums[i] = (sums[i][0] + size * mean, sums[i][1] + size * (variance + mean**2))
    if not count:
        raise DataError("No image was given; statistics need at least 2.")
    found = [
        (total / count, np.maximum(squares / count - (total / count) ** 2, 0)) for total, squares in sums
    ]
    if not all(np.isfinite(value).all() for pair in found for value in pair):
        raise DataError(
            "The statistics are not finite: an image holds NaN or infinite values. Check the images."
        )
    return count, found


def _source(
    images: Any,
    batch_size: int,
    preprocessing: Preprocessing | None,
    indices: Sequence[int] | np.ndarray | None,
) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
    """A function that starts a pass, in an order it draws: an iterator over batches of pixels."""
    if isinstance(images, ImageTable):
        if preprocessing is None:
            raise UsageError("A table of images needs a preprocessing, which gives the model's size.")
        rows = np.arange(len(images)) if indices is None else np.asarray(indices)
    elif indices is not None:
        raise UsageError(
            "indices go with a table; of an array or of batches, give only those that are wanted."
        )
    elif isinstance(images, np.ndarray):
        rows = np.arange(len(images))
    else:
        return lambda _: (np.asarray(batch[0] if isinstance(batch, tuple) else batch) for batch in images)
    if len(rows) < 2:
        raise DataError(f"{len(rows)} image was given; statistics need at least 2.")
    while len(rows) % batch_size == 1:
        batch_size += 1

    def start(order: np.random.Generator) -> Iterator[np.ndarray]:
        shuffled = order.permutation(rows)
        if isinstance(images, ImageTable) and preprocessing is not None:
            return batches(images, preprocessing, batch_size, indices=shuffled)
        return (images[shuffled[i : i + batch_size]] for i in range(0, len(rows), batch_size))

    return start
