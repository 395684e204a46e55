"""Training images varied at random, as a pure function of a seed and a key.

The operations are Keras's own layers. KerasCV's are stateful: its RandAugment draws from TensorFlow's global
generator, so that an interrupted training could not be taken up with the same images. Keras's RandAugment computes
every operation for every image and then applies the same ones to the whole batch; here each image draws its own, as
in the paper, and only those are computed.

Sources: RandAugment, Cubuk et al. 2019 (arXiv:1909.13719); random erasing, Zhong et al. 2017 (arXiv:1708.04896);
MixUp, Zhang et al. 2017 (arXiv:1710.09412); CutMix, Yun et al. 2019 (arXiv:1905.04899); AlexNet's crops, Krizhevsky
et al. 2012 (section 4.1).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.errors import UsageError, unknown_name

POLICIES = ("none", "light", "standard", "strong", "alexnet")
FLIPS = {"none": None, "horizontal": "horizontal", "both": "horizontal_and_vertical"}

Operation = tuple[str, dict[str, Any]]
"""A layer of ``keras.layers`` and its strength."""

CROP = (0.85, 1.0)
"""The sides of the random crop, as a share of the image's."""
ALEXNET_CROP = (227 / 256, 227 / 256)
"""The same for ``alexnet``: 227 pixels of 256."""
# Keras reads RandomContrast's pair as "down by" and "up by"; 0.5 leaves RandomSaturation's images as they are.
# In the HSV images it makes of 0..255, saturation still goes from 0 to 1: that is its value_range here.
# What a rotation leaves empty is filled with the mirrored image, Keras's default.
STANDARD: list[Operation] = [
    ("RandomRotation", {"factor": 10 / 360}),
    ("RandomBrightness", {"factor": 0.15}),
    ("RandomContrast", {"factor": (0.25, 0.25)}),
    ("RandomSaturation", {"factor": (0.4, 0.6), "value_range": (0, 1)}),
]
# Not among them: Equalization (Keras takes one histogram over the whole batch) and Solarization (Keras does not
# scale the threshold's lower bound, so that nearly all images would become negatives).
RAND_AUGMENT: list[Operation] = [
    ("RandomShear", {"x_factor": 0.2, "y_factor": 0.2}),
    ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.2}),
    ("RandomRotation", {"factor": 30 / 360}),
    ("RandomBrightness", {"factor": 0.3}),
    ("RandomContrast", {"factor": (0.5, 0.5)}),
    ("RandomColorDegeneration", {"factor": (0.0, 0.8)}),
    ("RandomSharpness", {"factor": (0.0, 1.0)}),
    ("RandomPosterization", {"factor": (3, 8)}),
    ("AutoContrast", {}),
]
PER_IMAGE = 2
"""How many operations of ``RAND_AUGMENT`` an image gets."""
ERASING: list[Operation] = [
    ("RandomErasing", {"factor": (0.25, 0.25), "scale": (0.02, 0.2), "fill_value": 128})
]
# A pair of ones is Beta(1, 1), the paper's; a plain 1.0 would draw alpha, too, down to 0, where Beta gives NaN.
MIXING: list[Operation] = [("CutMix", {"factor": (1.0, 1.0)}), ("MixUp", {"alpha": 0.2})]

_IMAGES, _MIX = 1, 2  # two streams of random numbers for the same key


class Augmenter:
    """Varies batches of training images. May be used from several threads.

    ``light``: a random crop and flip. ``standard``: light, a small rotation, brightness, contrast and saturation.
    ``strong``: light, RandAugment, random erasing, and CutMix and MixUp by turns. ``alexnet``: AlexNet's recipe, a crop
    of 227/256 of each side at a random place, and flips. ``none``: nothing.

    The same (policy, size, flips, seed, key, pixels) give the same result, bit by bit, in every new process on the same
    kind of machine, whatever was augmented before: a training taken up again sees the images it would have seen. After
    other TensorFlow work in the same process the last digits have been seen to differ.

    Args:
        policy: one of ``POLICIES``.
        size: (height, width) of the images in pixels.
        seed: at least 0.
        flips: ``horizontal``; ``both`` (vertically, too) for images without an upright, such as cells under a
            microscope; ``none`` where left and right matter, such as letters.

    Raises:
        UsageError: an unknown policy or flip, an impossible size or seed.
    """

    def __init__(
        self, policy: str, size: tuple[int, int], *, seed: int = 0, flips: str = "horizontal"
    ) -> None:
        if policy not in POLICIES:
            raise unknown_name("augmentation policy", str(policy), POLICIES)
        if flips not in FLIPS:
            raise unknown_name("kind of flips", str(flips), FLIPS)
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"size is {size!r}; expected (height, width) in pixels, at least 1 each.")
        self.policy, self.flips = policy, flips
        self.size = (int(size[0]), int(size[1]))
        self.seed = _whole("seed", seed)
        self._crop = None if policy == "none" else ALEXNET_CROP if policy == "alexnet" else CROP
        mode = FLIPS[flips]
        flip: list[Operation] = [("RandomFlip", {"mode": mode})] if mode else []
        strong = policy == "strong"
        # Applied in this order, after the crop; `choice` is what each image draws from in between.
        self._before = [] if policy == "none" else [*flip, *(STANDARD if policy == "standard" else [])]
        self._choice = RAND_AUGMENT if strong else []
        self._after = ERASING if strong else []
        self._mixing = MIXING if mixes_images(policy) else []
        # A layer's random state is set before each call: one call at a time.
        self._lock = threading.Lock()
        images = tf.TensorSpec((None, *self.size, 3), tf.float32)
        self._chains = {"before": _Chain(self._before, images), "after": _Chain(self._after, images)}
        self._choices = [_Chain([operation], images) for operation in self._choice]
        labels = tf.TensorSpec((None, None), tf.float32)
        self._mixers = [_Chain([one], {"images": images, "labels": labels}) for one in self._mixing]

    @property
    def mixes(self) -> bool:
        """Whether :meth:`mix` does anything."""
        return bool(self._mixers)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the policy and every operation (a layer of Keras) with its strength, in order."""
        return {
            "policy": self.policy,
            "size": list(self.size),
            "flips": self.flips,
            "seed": self.seed,
            "crop": None if self._crop is None else list(self._crop),
            "operations": _described(self._before + self._after),
            "choice": {"per_image": PER_IMAGE if self._choice else 0, "of": _described(self._choice)},
            "mixing": {"by_turns": _described(self._mixing)},
        }

    def images(self, pixels: np.ndarray, key: Sequence[int]) -> np.ndarray:
        """Vary each image of a batch.

        Args:
            pixels: uint8 or float32 (B, H, W, 3), RGB in [0, 255]; not changed.
            key: whole numbers of at least 0 that say which draw this is, such as (epoch, step).

        Returns:
            A new array: float32 (B, H, W, 3) in [0, 255].

        Raises:
            UsageError: another shape or an impossible key.
        """
        random = self._generator(_IMAGES, key)
        images = self._checked(pixels)
        if self._crop is None or not len(images):
            return images
        with self._lock:
            images = self._chains["before"](_crop(images, self._crop, random), random)
            for _ in range(PER_IMAGE if self._choices else 0):
                drawn = random.integers(len(self._choices), size=len(images))
                for place, chain in enumerate(self._choices):
                    rows = np.flatnonzero(drawn == place)
                    if len(rows):
                        images[rows] = chain(images[rows], random)
            if self._after:
                images = self._chains["after"](images, random)
        return np.clip(images, 0.0, 255.0, out=images)

    def mix(
        self, pixels: np.ndarray, labels: np.ndarray, key: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix the images of a batch with each other, and their labels in the same proportion.

        CutMix when the key's last number is even, MixUp when it is odd. CutMix's proportion is that of the
        rectangle before it is rounded to whole pixels.

        Args:
            pixels: uint8 or float32 (B, H, W, 3), RGB in [0, 255]; not changed.
            labels: float (B, C), one-hot, soft, or 0/1 for several labels per image; not changed.
            key: as in :meth:`images`.

        Returns:
            New arrays: float32 (B, H, W, 3) in [0, 255]; float32 (B, C), whose rows add up to what they did.
            Without :attr:`mixes` they hold what was given.

        Raises:
            UsageError: labels that are not float (B, C), another shape, or an impossible key.
        """
        random = self._generator(_MIX, key)
        images = self._checked(pixels)
        given = np.asarray(labels)
        if given.ndim != 2 or len(given) != len(images) or not np.issubdtype(given.dtype, np.floating):
            raise UsageError(
                f"labels are {given.dtype} {given.shape}; float ({len(images)}, classes) is expected. "
                "Make class indices one-hot before mixing."
            )
        soft = np.array(given, np.float32)
        if not self._mixers or not len(images):
            return images, soft
        with self._lock:
            mixer = self._mixers[int(key[-1]) % len(self._mixers)]
            mixed = mixer({"images": images, "labels": soft}, random)
        return np.clip(mixed["images"], 0.0, 255.0), mixed["labels"]

    def _generator(self, stream: int, key: Sequence[int]) -> np.random.Generator:
        numbers = [_whole("A number of the key", number) for number in key]
        if not numbers:
            raise UsageError("The key is empty; expected whole numbers such as (epoch, step).")
        # The length, because NumPy draws the same from (1,) and (1, 0).
        return np.random.default_rng((self.seed, stream, len(numbers), *numbers))

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        shape = np.shape(pixels)
        if len(shape) != 4 or shape[1:] != (*self.size, 3):
            raise UsageError(f"The images are {shape}; expected (B, {self.size[0]}, {self.size[1]}, 3).")
        return np.array(pixels, np.float32)


def mixes_images(policy: str) -> bool:
    """Whether a policy mixes the images of a batch, and their labels, with each other."""
    return policy == "strong"


class _Chain:
    """Keras layers one after the other, compiled, on the CPU, drawing from the generator of the call."""

    def __init__(self, operations: Sequence[Operation], signature: Any) -> None:
        with tf.device("CPU"):
            # The user's default type (float16 in mixed precision) is not for pixels.
            fixed = {"dtype": "float32", "data_format": "channels_last"}
            self._layers = [getattr(keras.layers, name)(**fixed, **values) for name, values in operations]
        self._signature = signature

    @functools.cached_property
    def _run(self) -> Any:
        def apply(batch: Any) -> Any:
            for layer in self._layers:
                batch = layer(batch, training=True)
            return batch

        return tf.function(apply).get_concrete_function(self._signature)

    def __call__(self, batch: Any, random: np.random.Generator) -> Any:
        with tf.device("CPU"):
            for layer in self._layers:
                if hasattr(layer, "generator"):
                    layer.generator.state.assign(random.integers(2**31, size=2))
            return tf.nest.map_structure(np.array, self._run(tf.nest.map_structure(tf.constant, batch)))


def _crop(images: np.ndarray, sides: tuple[float, float], random: np.random.Generator) -> Any:
    """A random part of each image, between ``sides`` of its own, at the image's size."""
    side = random.uniform(*sides, (len(images), 1))
    corner = random.uniform(0, 1, (len(images), 2)) * (1 - side)
    boxes = np.concatenate([corner, corner + side], axis=1)
    with tf.device("CPU"):
        return tf.image.crop_and_resize(images, boxes, np.arange(len(images)), images.shape[1:3])


def _described(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return [
        {"layer": name, **{key: plain(value) for key, value in values.items()}} for name, values in operations
    ]


def _whole(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise UsageError(f"{what} is {value!r}; expected a whole number of at least 0.")
    return int(value)
