"""Both networks in one ``keras.Model`` with its own training step, so that ``fit`` and its callbacks work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_transfer_gan.augment import augment, next_chance
from keras_transfer_gan.losses import discriminator_loss, generator_loss, threshold
from keras_transfer_gan.networks import Facts

WARM_UP = 10
"""The average's decay grows as (1 + step) / (WARM_UP + step): early weights are soon forgotten."""
SMOOTH = 0.9
"""Of the mean sign that the chance of augmentation follows."""


@dataclass(frozen=True)
class Recipe:
    """How the two networks are trained.

    Attributes:
        loss: see :mod:`keras_transfer_gan.losses`.
        r1: weight of the penalty on the squared gradient at real images (Mescheder et al. 2018, arXiv:1801.04406).
        gradient_penalty: of wgan-gp.
        smoothing: of the label of real images.
        critic_steps: the discriminator's steps for each of the generator's.
        decay: of the average of the generator's weights; 0: none.
        changes: what differentiable augmentation changes, () for nothing.
        adaptive: whether its chance adapts.
    """

    loss: str = "non-saturating"
    r1: float = 0.0
    gradient_penalty: float = 10.0
    smoothing: float = 0.0
    critic_steps: int = 1
    decay: float = 0.999
    changes: tuple[str, ...] = ()
    adaptive: bool = False


class Adversarial(keras.Model):
    """A generator and a discriminator at odds, and the average of the generator's weights.

    One step takes a batch of ``critic_steps`` parts, its size fixed: ``(images float32 (B, H, W, C) in [0, 255], labels
    int32 (B,))``.
    Every random number comes from one seed generator, whose state belongs to :attr:`state`.

    Args:
        generator: inputs ``(B, Z)`` to images in [-1, 1].
        discriminator: images (and classes) to answers ``(B, 1)``.
        average: a copy of the generator; it takes the average of its weights.
        facts: what the networks are.
        recipe: how they are trained.
        seed: of noise and augmentation.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        average: keras.Model,
        facts: Facts,
        recipe: Recipe,
        seed: int = 0,
    ) -> None:
        super().__init__(name="adversarial")
        self.generator, self.discriminator, self.average = generator, discriminator, average
        self.facts, self.recipe = facts, recipe
        self.random = keras.random.SeedGenerator(seed)
        self.steps = keras.Variable(0, dtype="int32", trainable=False, name="steps")
        self.chance = keras.Variable(1.0 if recipe.changes else 0.0, trainable=False, name="chance")
        self.sign = keras.Variable(0.0, trainable=False, name="sign")
        names = ("discriminator_loss", "generator_loss", "real_accuracy", "made_accuracy")
        self.means = {name: keras.metrics.Mean(name=name) for name in names}
        average.trainable = False

    def compile(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        discriminator_optimizer: keras.optimizers.Optimizer,
    ) -> None:
        """Both optimizers, built at once, so that their state is part of every checkpoint."""
        super().compile(jit_compile=False)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)

    @property
    def metrics(self) -> list[Any]:
        """Means over an epoch."""
        return list(self.means.values())

    @property
    def state(self) -> dict[str, Any]:
        """Everything a training is continued from, by name: the networks, both optimizers, steps, random state."""
        groups = {
            "generator": self.generator.variables,
            "discriminator": self.discriminator.variables,
            "average": self.average.variables,
            "generator optimizer": self.generator_optimizer.variables,
            "discriminator optimizer": self.discriminator_optimizer.variables,
            "training": [self.steps, self.chance, self.sign, self.random.state],
        }
        return {f"{name} {i}": variable for name, found in groups.items() for i, variable in enumerate(found)}

    def train_step(self, data: Any) -> dict[str, Any]:
        """``critic_steps`` steps of the discriminator, one of the generator."""
        images, labels = data
        parts = self.recipe.critic_steps
        images = ops.split(images / 127.5 - 1.0, parts)
        labels = ops.split(labels, parts)
        for real, classes in zip(images, labels, strict=True):
            self._discriminator_step(real, self._one_hot(classes))
        self._generator_step(ops.shape(images[-1])[0], self._one_hot(labels[-1]))
        self.steps.assign_add(1)
        self._take_average()
        return {name: mean.result() for name, mean in self.means.items()}

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs to images of the average generator."""
        return self.average(inputs, training=False)

    def judge(self, images: Any, classes: Any, training: bool = False) -> Any:
        """The discriminator's answers ``(B, 1)`` to images in [-1, 1]; ``classes`` one-hot where it is told them."""
        given = [images, classes] if self.facts.conditional else images
        return self.discriminator(given, training=training)

    def _one_hot(self, labels: Any) -> Any:
        return ops.one_hot(labels, len(self.facts.classes)) if self.facts.conditional else None

    def _make(self, count: Any, classes: Any, training: bool) -> Any:
        noise = keras.random.normal((count, self.facts.noise), seed=self.random)
        inputs = noise if classes is None else ops.concatenate([noise, classes], axis=-1)
        return self.generator(inputs, training=training)

    def _seen(self, images: Any) -> Any:
        recipe = self.recipe
        return augment(images, recipe.changes, self.chance, self.random) if recipe.changes else images

    def _discriminator_step(self, real: Any, classes: Any) -> None:
        recipe = self.recipe
        fake = ops.stop_gradient(self._make(ops.shape(real)[0], classes, training=True))
        real, fake = self._seen(real), self._seen(fake)
        together = self.facts.normalization != "batch"
        with tf.GradientTape() as tape:
            if together and not recipe.r1:
                both = None if classes is None else ops.concatenate([classes, classes])
                answers = self.judge(ops.concatenate([real, fake]), both, training=True)
                on_real, on_fake = ops.split(answers, 2)
                penalty = 0.0
            else:
                on_fake = self.judge(fake, classes, training=True)
                with tf.GradientTape() as inner:
                    inner.watch(real)
                    on_real = self.judge(real, classes, training=True)
                    total = ops.sum(on_real)
                penalty = self._r1(inner.gradient(total, real)) if recipe.r1 else 0.0
            if recipe.loss == "wgan-gp":
                penalty += self._gradient_penalty(real, fake, classes)
            loss = discriminator_loss(recipe.loss, on_real, on_fake, recipe.smoothing) + penalty
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(loss, variables), variables)
        limit = threshold(recipe.loss, on_real, on_fake)
        self.means["discriminator_loss"].update_state(loss)
        self.means["real_accuracy"].update_state(ops.cast(on_real > limit, "float32"))
        self.means["made_accuracy"].update_state(ops.cast(on_fake <= limit, "float32"))
        if recipe.adaptive:
            sign = ops.mean(ops.sign(on_real - limit))
            self.sign.assign(SMOOTH * self.sign + (1 - SMOOTH) * sign)
            self.chance.assign(next_chance(self.chance, self.sign, real.shape[0]))

    def _generator_step(self, count: Any, classes: Any) -> None:
        with tf.GradientTape() as tape:
            fake = self._seen(self._make(count, classes, training=True))
            # Spectral norms are of the step before; batch normalization has to see a batch of its own, and its moving
            # statistics stay those of the discriminator's steps.
            training = self.facts.normalization == "batch"
            with keras.StatelessScope():
                answers = self.judge(fake, classes, training=training)
            loss = generator_loss(self.recipe.loss, answers)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        self.means["generator_loss"].update_state(loss)

    def _r1(self, gradient: Any) -> Any:
        return self.recipe.r1 / 2 * ops.mean(ops.sum(ops.square(gradient), axis=(1, 2, 3)))

    def _gradient_penalty(self, real: Any, fake: Any, classes: Any) -> Any:
        share = keras.random.uniform((ops.shape(real)[0], 1, 1, 1), seed=self.random)
        between = share * real + (1 - share) * fake
        with tf.GradientTape() as inner:
            inner.watch(between)
            total = ops.sum(self.judge(between, classes))
        gradient = inner.gradient(total, between)
        norm = ops.sqrt(ops.sum(ops.square(gradient), axis=(1, 2, 3)) + 1e-12)
        return self.recipe.gradient_penalty * ops.mean(ops.square(norm - 1))

    def _take_average(self) -> None:
        step = ops.cast(self.steps, "float32")
        decay = ops.minimum(self.recipe.decay, (1.0 + step) / (WARM_UP + step))
        for kept, new in zip(self.average.weights, self.generator.weights, strict=True):
            kept.assign(decay * kept + (1 - decay) * new)
