"""What a training of two networks at odds would do and cost, for ``train --dry-run``."""

from __future__ import annotations

from typing import Any

import keras

from keras_transfer.backbones.cost import macs
from keras_transfer.data import ImageTable
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.settings import GradientSettings
from keras_transfer.tasks.base import TrainingPlan
from keras_transfer.tasks.planning import BACKWARD
from keras_transfer_gan.training import steps_an_epoch
from keras_transfer_gan.transfer import NETWORKS, discriminator_plan

STRATEGY = "adversarial"


def plan_adversarial(
    generator: keras.Model,
    discriminator: keras.Model,
    options: Any,
    data: ImageTable,
    gradient: GradientSettings,
    learning_rate: float,
) -> TrainingPlan:
    """The plan of a training with these networks.

    Measuring (features of Lite0, of real images and made ones) is not estimated, nor are steps with a penalty on
    gradients, whose gradients are taken once more.

    Args:
        generator, discriminator: as built.
        options: of the task.
        data: of the training.
        gradient: settings. learning_rate: of the generator.

    Raises:
        DataError: fewer images than a step takes.
        UsageError: more blocks to freeze than there are.
    """
    steps = steps_an_epoch(len(data.indices("train")), gradient.batch_size, options.critic_steps)
    frozen = discriminator_plan(discriminator, options.freeze_lower)
    plans = {
        "generator": FreezePlan.for_model(generator, "all", batchnorm="train"),
        "discriminator": frozen
        or FreezePlan.for_model(discriminator, _rule(discriminator), batchnorm="train"),
    }
    penalised = options.loss == "wgan-gp" or options.r1 > 0
    total = steps * gradient.epochs * gradient.batch_size * _an_image(generator, discriminator, options)
    return TrainingPlan(
        strategy=STRATEGY,
        why=f"steps an epoch: {steps}; epochs: {gradient.epochs}; loss: {options.loss}",
        phases=[{"network": name, "epoch": 0, **plan.to_dict()} for name, plan in plans.items()],
        learning_rate=learning_rate,
        extraction=None,
        fitting=0.0,
        training=None if penalised else total,
        files=(f"{NETWORKS}/",),
    )


def _rule(discriminator: keras.Model) -> Any:
    """Everything; where it looks through a frozen network, what is above that."""
    inner = [layer for layer in discriminator.layers if isinstance(layer, keras.Model)]
    return "all" if all(layer.trainable for layer in inner) else learns


def learns(layer: keras.layers.Layer) -> bool:
    """Whether a layer was built to learn."""
    return bool(layer.trainable)


def _an_image(generator: keras.Model, discriminator: keras.Model, options: Any) -> float:
    """Multiply-adds of a step for each image of its batch.

    A step of the discriminator makes an image and looks at it and at a real one; one of the generator makes another,
    and its gradient comes back through the discriminator.
    """
    made, judged = macs(generator), macs(discriminator)
    critic = made + 2 * (1 + BACKWARD) * judged
    return options.critic_steps * critic + (1 + BACKWARD) * made + 2 * judged
