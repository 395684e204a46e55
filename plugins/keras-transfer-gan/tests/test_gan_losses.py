"""The losses, the penalties, the average and the generator's step: numbers worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_transfer_gan.adversarial import Adversarial, Recipe
from keras_transfer_gan.augment import CHANGES
from keras_transfer_gan.losses import discriminator_loss, generator_loss
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator
from keras_transfer_gan.spec import LOSSES

REAL, FAKE = np.array([[2.0], [0.5]], np.float32), np.array([[-1.0], [3.0]], np.float32)


def log1pexp(*values):
    return np.mean([np.log(1 + np.exp(value)) for value in values])


@pytest.mark.parametrize(
    ("name", "smoothing", "expected"),
    [
        ("non-saturating", 0.0, log1pexp(-2, -0.5) + log1pexp(-1, 3)),
        # Cross-entropy with the label 0.9: -0.9 log s(x) - 0.1 log(1 - s(x)).
        ("non-saturating", 0.1, 0.9 * log1pexp(-2, -0.5) + 0.1 * log1pexp(2, 0.5) + log1pexp(-1, 3)),
        ("hinge", 0.0, (0 + 0.5) / 2 + (0 + 4) / 2),
        ("least-squares", 0.0, 0.5 * ((1 + 0.25) / 2 + (1 + 9) / 2)),
        ("least-squares", 0.1, 0.5 * ((1.1**2 + 0.4**2) / 2 + (1 + 9) / 2)),
        ("wgan-gp", 0.0, 1.0 - 1.25),
    ],
)
def test_the_discriminators_loss(name, smoothing, expected):
    assert float(discriminator_loss(name, REAL, FAKE, smoothing)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("non-saturating", log1pexp(1, -3)),
        ("hinge", -1.0),
        ("least-squares", 0.5 * (4 + 4) / 2),
        ("wgan-gp", -1.0),
    ],
)
def test_the_generators_loss(name, expected):
    assert float(generator_loss(name, FAKE)) == pytest.approx(expected, rel=1e-5)


def facts(normalization="none"):
    return Facts("dcgan", 28, 1, 8, 4, ("a", "b"), False, normalization)


def linear():
    """A discriminator whose gradient is its weights everywhere, and the square of their norm."""
    image = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(image)
    network = keras.Model(image, keras.layers.Dense(1, use_bias=False, name="weights")(flat))
    weights = np.random.default_rng(0).normal(0, 0.1, (784, 1)).astype(np.float32)
    network.get_layer("weights").set_weights([weights])
    return network, float(np.square(weights).sum())


def opponents(discriminator=None, rate=1e-3, normalization="none", **recipe):
    keras.utils.set_random_seed(3)
    one = facts(normalization)
    generator, average = make_generator(one), make_generator(one)
    found = Adversarial(
        generator, discriminator or make_discriminator(one), average, one, Recipe(**recipe), 3
    )
    found.compile(*(keras.optimizers.Adam(rate) for _ in range(2)))
    return found


def images(count=6):
    return tf.constant(np.random.default_rng(1).uniform(-1, 1, (count, 28, 28, 1)).astype(np.float32))


@pytest.mark.slow
def test_r1_is_half_its_weight_times_the_squared_gradient_at_real_images():
    losses = []
    for r1 in (0.0, 3.0):
        network, square = linear()
        one = opponents(network, r1=r1)
        one._discriminator_step(images(), None)
        losses.append(float(one.means["discriminator_loss"].result()))
    assert losses[1] - losses[0] == pytest.approx(3.0 / 2 * square, rel=1e-4)


def test_the_gradient_penalty_pulls_the_gradients_norm_to_one():
    network, square = linear()
    one = opponents(network, loss="wgan-gp", gradient_penalty=10.0)
    found = float(one._gradient_penalty(images(), -images(), None))
    assert found == pytest.approx(10 * (np.sqrt(square) - 1) ** 2, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "decay"), [(1, 2 / 11), (10**6, 0.999)])
def test_a_step_of_the_average(steps, decay):
    """Its decay grows with the steps up to the one that was asked for."""
    one = opponents(decay=0.999)
    before, new = one.average.get_weights(), one.generator.get_weights()
    one.steps.assign(steps)
    one._take_average()
    for found, old, other in zip(one.average.get_weights(), before, new, strict=True):
        np.testing.assert_allclose(found, decay * old + (1 - decay) * other, atol=1e-6)


def test_without_an_average_the_generator_itself_is_kept():
    one = opponents(decay=0.0)
    one.steps.assign(5)
    one._take_average()
    pairs = zip(one.average.get_weights(), one.generator.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [loss if loss == "non-saturating" else pytest.param(loss, marks=pytest.mark.nightly) for loss in LOSSES],
)
def test_the_generators_steps_raise_the_answers_of_a_discriminator_that_stays(loss):
    """Through the changes of differentiable augmentation, too."""
    one = opponents(normalization="spectral", loss=loss, changes=CHANGES)
    noise = np.random.default_rng(2).standard_normal((64, 8)).astype(np.float32)
    before = one.discriminator.get_weights()

    def answer():
        return float(np.mean(one.judge(one.generator(noise, training=True), None)))

    first = answer()
    step = tf.function(lambda: one._generator_step(16, None))
    for _ in range(20):
        step()
    assert answer() > first + 0.01
    pairs = zip(before, one.discriminator.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_moving_statistics_are_of_the_discriminators_steps_alone():
    one = opponents(normalization="batch")
    moving = [weight for weight in one.discriminator.non_trainable_variables if "moving" in weight.path]
    assert moving
    before = [np.asarray(weight) for weight in moving]
    tf.function(lambda: one._generator_step(6, None))()
    assert all(np.array_equal(a, b) for a, b in zip(before, moving, strict=True))
    one._discriminator_step(images(), None)
    assert not any(np.array_equal(a, b) for a, b in zip(before, moving, strict=True))
