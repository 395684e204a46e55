"""What a gradient training is fed with: pixels for the whole network, or kept activations for its upper part."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_transfer.data import ImageTable
from keras_transfer.data.augmentation import Augmenter, mixes_images
from keras_transfer.data.balance import class_weights, sampling_probabilities
from keras_transfer.data.order import Sampling
from keras_transfer.data.pipeline import tf_dataset
from keras_transfer.errors import CacheError, UsageError
from keras_transfer.features.activations import Activations, activations
from keras_transfer.features.boundary import cut_at, find_boundary
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import GradientSettings
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.split_cache import SplitFeed, worthwhile

log = logging.getLogger("keras_transfer")


@dataclass(frozen=True)
class Boundary:
    """Whether the activations at the boundary between frozen and trained layers are computed once and kept.

    Attributes:
        cache: ``"on"``, ``"off"``, or ``"auto"``: where an estimate says that it is sooner done.
        views: augmented views of each image that are kept; 1 without augmentation.
        engine, engine_precision: what computes them, as in ``features.extract``.
    """

    cache: str = "auto"
    views: int = 4
    engine: str = "auto"
    engine_precision: str = "float32"


@dataclass(frozen=True)
class Feed:
    """A network to be trained, and its batches.

    Attributes:
        network: from what the batches hold to logits; shares its layers with the whole model.
        training: the number of the first epoch -> endless batches (inputs, targets[, weights]).
        held_out: -> the validation images (the training images when there are none) once, in order.
        steps: batches an epoch.
        about: one sentence on what was computed once; empty for pixels.
    """

    network: keras.Model
    training: Callable[[int], tf.data.Dataset]
    held_out: Callable[[], tf.data.Dataset]
    steps: int
    about: str = ""


def make_feed(
    model: keras.Model,
    network: keras.Model,
    table: ImageTable,
    preprocessing: Preprocessing,
    objective: TrainingObjective,
    settings: GradientSettings,
    boundary: Boundary,
    teacher: np.ndarray | None,
    seed: int,
) -> Feed:
    """The feed that these settings ask for.

    Args:
        model: the whole model with its ``trainable`` flags set; ``network``: the same up to its logits.
        table, preprocessing: the images.
        objective: gives the targets.
        boundary: pixels, or kept activations.
        teacher: a teacher's probabilities, for a distillation.
        seed: of order and augmentation.

    Raises:
        UsageError: settings that contradict each other.
    """
    train, val = table.indices("train"), table.indices("val")
    targets = objective.targets(table, teacher)
    weights, judged = _weights(table, settings), balancing_weights(table, settings.balance)
    sampling: Sampling = objective.order(table, settings.batch_size)
    if settings.balance == "sampling":
        sampling = sampling_probabilities(table.labels[train])
    augmenter = None if settings.augment == "none" else objective.augmenter(settings, preprocessing, seed)
    watched = objective.arranged(table, val if len(val) else train, settings.batch_size)
    steps = math.ceil(len(train) / settings.batch_size)
    order: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "shuffle": True,
        "seed": seed,
        "repeat": True,
        "sampling": sampling,
    }
    of_images = augmenter if isinstance(augmenter, Augmenter) else None
    if hasattr(targets, "load") or of_images is not augmenter:
        boundary = Boundary("off")  # targets move with the image: its activations cannot be kept
    name, about = _choose_boundary(model, boundary, of_images, len(train), settings)
    if name is not None:
        lower, upper = cut_at(model, name)
        made = partial(
            activations,
            table,
            lower,
            preprocessing=preprocessing,
            engine=boundary.engine,
            engine_precision=boundary.engine_precision,
        )
        views = boundary.views if of_images is not None else 1
        try:
            learned, plain = (
                made(indices=train, augmenter=of_images, views=views, seed=seed),
                made(indices=watched),
            )
        except CacheError as error:
            if boundary.cache == "on":
                raise
            log.warning("%s Images go through the whole network in every epoch instead.", error)
        else:
            return Feed(
                upper,
                lambda first: SplitFeed(learned).dataset(
                    targets, weights, rows=train, first_epoch=first, **order
                ),
                lambda: SplitFeed(plain).dataset(
                    targets, judged, rows=watched, batch_size=settings.batch_size
                ),
                steps,
                f"Activations at {name}: {_told(learned, plain)}. {about}",
            )
    return Feed(
        network,
        lambda first: tf_dataset(
            table,
            preprocessing,
            indices=train,
            first_epoch=first,
            labels=targets,
            weights=weights,
            augment=augmenter,
            **order,
        ),
        lambda: tf_dataset(
            table, preprocessing, settings.batch_size, indices=watched, labels=targets, weights=judged
        ),
        steps,
    )


def _told(*parts: Activations) -> str:
    computed, cached = sum(part.computed for part in parts), sum(part.cached for part in parts)
    seconds = sum(part.seconds for part in parts)
    return f"{computed} computed, {cached} from the cache ({parts[0].engine}, {seconds:.1f} s)"


def _weights(table: ImageTable, settings: GradientSettings) -> np.ndarray | None:
    """float32 (N,): the table's weights, times the class's with ``balance="weights"``; None when all are 1."""
    weights = table.weights.astype(np.float32)
    if settings.balance != "none" and table.label_mode != "classes":
        raise UsageError(
            f"--balance {settings.balance} is for single classes, not for {table.label_mode} labels."
        )
    balance = balancing_weights(table, settings.balance)
    if settings.balance == "weights" and balance is not None:
        weights = weights * balance
    return weights if np.any(weights != 1) else None


def balancing_weights(table: ImageTable, balance: str) -> np.ndarray | None:
    """float32 (N,): with ``--balance`` (either kind) the weights that make classes count the same; else None.

    Where something is chosen (the probe's strength, the epoch) they count alone: the table's own weights say what to
    learn from.
    """
    if balance == "none":
        return None
    return class_weights(table.labels[table.indices("train")], len(table.classes))[table.labels]


def refuse_kept_mixing(cache: str, settings: GradientSettings) -> None:
    """Raise ``UsageError`` where activations must be kept and the augmentation mixes images."""
    if cache == "on" and mixes_images(settings.augment):
        raise UsageError(
            f"--cache-boundary on keeps each image's activations, and --augment {settings.augment} mixes images. "
            "Use --augment standard, or --cache-boundary off."
        )


def _choose_boundary(
    model: keras.Model,
    boundary: Boundary,
    augmenter: Augmenter | None,
    images: int,
    settings: GradientSettings,
) -> tuple[str | None, str]:
    """Where to cut (None: not at all) and why."""
    if boundary.cache == "off":
        return None, ""
    if augmenter is not None and augmenter.mixes:
        refuse_kept_mixing(boundary.cache, settings)
        return None, ""
    name = find_boundary(model)
    if name is None:
        if boundary.cache == "on":
            raise UsageError(
                "--cache-boundary on: there is no frozen part below the trained layers to compute once."
            )
        return None, ""
    views = boundary.views if augmenter is not None else 1
    pays, why = worthwhile(model, name, images, views, settings.epochs)
    return (name, why) if pays or boundary.cache == "on" else (None, "")
