"""Differentiable augmentation: both kinds of images, gradients through it, and a chance that adapts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_transfer_gan.augment import CHANGES, augment, next_chance, parse_changes

from keras_transfer.errors import UsageError


def images(count=6, channels=3):
    return np.random.default_rng(0).uniform(-1, 1, (count, 28, 28, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_and_lets_gradients_through(change, channels):
    given = tf.constant(images(channels=channels))
    with tf.GradientTape() as tape:
        tape.watch(given)
        changed = augment(given, (change,), 1.0, keras.random.SeedGenerator(1))
        total = tf.reduce_sum(tf.square(changed))
    assert changed.shape == given.shape
    assert not np.allclose(changed, given)
    gradient = np.asarray(tape.gradient(total, given))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_with_no_chance_nothing_changes_and_with_half_some_do():
    given = images(40)
    assert np.array_equal(augment(given, CHANGES, 0.0, keras.random.SeedGenerator(1)), given)
    half = np.asarray(augment(given, ("cutout",), 0.5, keras.random.SeedGenerator(1)))
    same = sum(np.array_equal(a, b) for a, b in zip(half, given, strict=True))
    assert 5 < same < 35


def test_translation_moves_pixels_and_invents_none():
    given = images(4)
    moved = np.asarray(augment(given, ("translation",), 1.0, keras.random.SeedGenerator(3)))
    for before, after in zip(given, moved, strict=True):
        assert set(np.round(after[after != 0], 5)) <= set(np.round(before, 5).ravel())
        assert np.mean(after == 0) < 0.3


def test_cutout_takes_at_most_a_quarter():
    given = np.ones((20, 28, 28, 1), np.float32)
    shares = np.mean(
        np.asarray(augment(given, ("cutout",), 1.0, keras.random.SeedGenerator(3))) == 0, axis=(1, 2, 3)
    )
    assert 0 < shares.max() <= 0.25


@pytest.mark.slow
def test_the_chance_falls_to_nothing_unless_the_discriminator_overfits():
    chance = 1.0
    for _ in range(400):
        chance = float(next_chance(chance, 0.1, 64))
    assert chance == 0
    for _ in range(200):
        chance = float(next_chance(chance, 0.9, 64))
    assert 0.5 < chance < 1


def test_unknown_changes_are_named():
    assert parse_changes("cutout, colour") == ("cutout", "colour")
    with pytest.raises(UsageError, match=r"rotation.*translation"):
        parse_changes("colour,rotation")
