"""Generators and discriminators: a vector of noise to an image in [-1, 1], and an image to one number.

DCGAN after Radford et al. 2015 (arXiv:1511.06434): transposed convolutions and batch normalization. Residual after
Gulrajani et al. 2017 (arXiv:1704.00028): nearest-neighbour resizing and convolutions, which leave no checkerboard
(Odena
et al. 2016). Conditional discriminators project (Miyato & Koyama 2018, arXiv:1802.05637): the class's vector times the
image's features is added to the answer. All layers but one are Keras's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import layers, ops

from keras_transfer.errors import UsageError
from keras_transfer.heads import LOGITS
from keras_transfer_gan.spec import SIZES

MOST_CHANNELS = 512
SLOPE = 0.2
"""Of the leaky rectifier."""


@dataclass(frozen=True)
class Facts:
    """What decides the shapes of the two networks; kept in a run's notes.

    Attributes:
        architecture: ``dcgan`` or ``residual``.
        size: side of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        noise: numbers an image is made from.
        width: channels at the largest resolution but one.
        classes: names; with ``conditional`` their places follow the noise in the generator's input.
        conditional: whether the networks are told the class.
        normalization: of the discriminator: ``spectral``, ``batch`` or ``none``.
        feature_network: the backbone through which the discriminator looks, or None.
    """

    architecture: str
    size: int
    channels: int
    noise: int
    width: int
    classes: tuple[str, ...]
    conditional: bool
    normalization: str
    feature_network: str | None = None

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(
                f"--image-size {self.size}: the networks make images of {', '.join(map(str, SIZES))} pixels per side."
            )

    @property
    def inputs(self) -> int:
        """Length of the generator's input: noise, then the class as one-hot where it is told."""
        return self.noise + (len(self.classes) if self.conditional else 0)

    @property
    def base(self) -> int:
        """Side of the smallest feature map."""
        return 7 if self.size == 28 else 4

    @property
    def doublings(self) -> int:
        """How often the base is doubled to give the size."""
        return (self.size // self.base).bit_length() - 1

    def channels_at(self, level: int) -> int:
        """Channels of the feature map after ``level`` doublings of the base."""
        return min(self.width * 2 ** (self.doublings - level) // 2, MOST_CHANNELS)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Facts:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "classes": tuple(values["classes"])})


@keras.saving.register_keras_serializable(package="keras_transfer_gan")
class SpectralNorm(layers.SpectralNormalization):
    """Keras's spectral normalization (Miyato et al. 2018, arXiv:1802.05957), which a freeze plan can freeze.

    Keras's layer divides its kernel by the largest singular value whenever it is called in training, also where it is
    not trainable.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """As Keras's, but what is frozen stays as it is."""
        return super().call(inputs, training=bool(training) and self.trainable)


def make_generator(facts: Facts) -> keras.Model:
    """Noise (and class) ``(B, inputs)`` to images ``(B, size, size, channels)`` in [-1, 1]."""
    given = keras.Input((facts.inputs,), name="inputs")
    first = facts.channels_at(0)
    x = layers.Dense(facts.base**2 * first, use_bias=False, name="block0_dense")(given)
    x = layers.Reshape((facts.base, facts.base, first), name="block0_reshape")(x)
    up = _up_transposed if facts.architecture == "dcgan" else _up_residual
    if facts.architecture == "dcgan":
        x = _norm_relu(x, "block0")
    for level in range(1, facts.doublings + 1):
        if level == facts.doublings and facts.architecture == "dcgan":
            break  # the last doubling is the image's
        x = up(x, facts.channels_at(level), f"block{level}")
    if facts.architecture == "dcgan":
        x = layers.Conv2DTranspose(
            facts.channels, 4, strides=2, padding="same", activation="tanh", dtype="float32", name="image"
        )(x)
    else:
        x = _norm_relu(x, "last")
        x = layers.Conv2D(
            facts.channels, 3, padding="same", activation="tanh", dtype="float32", name="image"
        )(x)
    return keras.Model(given, x, name="generator")


def _norm_relu(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _up_transposed(x: Any, channels: int, name: str) -> Any:
    x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return _norm_relu(x, name)


def _up_residual(x: Any, channels: int, name: str) -> Any:
    short = layers.UpSampling2D(name=f"{name}_short_up")(x)
    short = layers.Conv2D(channels, 1, name=f"{name}_short_conv")(short)
    x = _norm_relu(x, f"{name}_a")
    x = layers.UpSampling2D(name=f"{name}_up")(x)
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    x = _norm_relu(x, f"{name}_b")
    x = layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv2")(x)
    return layers.Add(name=f"{name}_add")([x, short])


def make_discriminator(facts: Facts, backbone: keras.Model | None = None) -> keras.Model:
    """Images ``(B, size, size, channels)`` in [-1, 1] (and classes, one-hot ``(B, C)``) to numbers ``(B, 1)``.

    Args:
        facts: see there.
        backbone: of the catalog, pixels ``(B, h, w, 3)`` in [0, 255] to feature maps: the discriminator looks at its
            output, and it stays as it is (after Sauer et al. 2021, arXiv:2111.01007).
    """
    image = keras.Input((facts.size, facts.size, facts.channels), name="image")
    wrap: Callable[[Any], Any] = _wrapper(facts.normalization)
    if backbone is None:
        x = image
        for level in range(1, facts.doublings + 1):
            channels, name = facts.channels_at(facts.doublings - level), f"block{level}"
            down = _down if facts.architecture == "dcgan" else _down_residual
            x = down(x, channels, name, wrap, batchnorm=facts.normalization == "batch" and level > 1)
    else:
        x = _through(backbone, image)
        channels = min(x.shape[-1], 128)
        x = wrap(layers.Conv2D(channels, 1, name="block1_mix"))(x)
        x = layers.LeakyReLU(SLOPE, name="block1_act")(x)
    if facts.architecture == "dcgan" and backbone is None:
        x = layers.Flatten(name="head_flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    answer = _dense(facts, 1, LOGITS)(x)
    if not facts.conditional:
        return keras.Model(image, answer, name="discriminator")
    label = keras.Input((len(facts.classes),), name="label")
    embedded = _dense(facts, x.shape[-1], "head_class", use_bias=False)(label)
    projected = ops.sum(embedded * x, axis=-1, keepdims=True)
    return keras.Model([image, label], answer + projected, name="discriminator")


def _dense(facts: Facts, units: int, name: str, **keywords: Any) -> Any:
    """A dense layer that is called ``name``, wrapped or not."""
    if facts.normalization != "spectral":
        return layers.Dense(units, name=name, **keywords)
    return SpectralNorm(layers.Dense(units, name=f"{name}_dense", **keywords), name=name)


def _wrapper(normalization: str) -> Callable[[Any], Any]:
    def wrap(layer: Any) -> Any:
        return SpectralNorm(layer, name=f"{layer.name}_sn") if normalization == "spectral" else layer

    return wrap


def _down(x: Any, channels: int, name: str, wrap: Callable[[Any], Any], batchnorm: bool) -> Any:
    x = wrap(layers.Conv2D(channels, 4, strides=2, padding="same", name=f"{name}_conv"))(x)
    if batchnorm:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.LeakyReLU(SLOPE, name=f"{name}_act")(x)


def _down_residual(x: Any, channels: int, name: str, wrap: Callable[[Any], Any], batchnorm: bool) -> Any:
    short = layers.AveragePooling2D(2, name=f"{name}_short_pool")(x)
    short = wrap(layers.Conv2D(channels, 1, name=f"{name}_short_conv"))(short)
    x = wrap(layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv1"))(x)
    if batchnorm:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    x = layers.LeakyReLU(SLOPE, name=f"{name}_act1")(x)
    x = wrap(layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv2"))(x)
    x = layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    x = layers.Add(name=f"{name}_add")([x, short])
    return layers.LeakyReLU(SLOPE, name=f"{name}_act2")(x)


def _through(backbone: keras.Model, image: Any) -> Any:
    """Feature maps of the frozen backbone for images in [-1, 1], enlarged to its size."""
    backbone.trainable = False
    side = backbone.input_shape[1]
    x = ops.concatenate([image] * 3, axis=-1) if image.shape[-1] == 1 else image
    x = layers.Rescaling(127.5, offset=127.5, name="pixels")(x)
    if image.shape[1] != side:
        x = layers.Resizing(side, side, interpolation="bilinear", name="enlarge")(x)
    return backbone(x, training=False)


def to_bytes(generator: keras.Model, facts: Facts) -> keras.Model:
    """The generator as it is exported: inputs ``(B, inputs)`` to images uint8 ``(B, size, size, channels)``."""
    given = keras.Input((facts.inputs,), name="inputs")
    pixels = generator(given, training=False) * 127.5 + 127.5
    return keras.Model(given, ops.cast(ops.clip(ops.round(pixels), 0, 255), "uint8"), name="gan")
