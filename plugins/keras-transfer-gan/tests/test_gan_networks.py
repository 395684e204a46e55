"""What the networks promise: sizes, ranges, classes that matter, and layers that stay frozen."""

import keras
import numpy as np
import pytest
from keras_transfer_gan.drawing import COLUMNS, draw, grid_labels, make
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator, to_bytes
from keras_transfer_gan.transfer import frozen_discriminator

from keras_transfer.errors import UsageError


def facts(**values):
    defaults = {
        "architecture": "dcgan",
        "size": 28,
        "channels": 1,
        "noise": 8,
        "width": 8,
        "classes": ("a", "b", "c"),
        "conditional": False,
        "normalization": "spectral",
    }
    return Facts(**{**defaults, **values})


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["dcgan", "residual"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1)])
def test_images_have_the_size_and_the_discriminator_takes_them(architecture, size, channels):
    one = facts(architecture=architecture, size=size, channels=channels)
    generator, discriminator = make_generator(one), make_discriminator(one)
    images = np.asarray(generator(draw(one, 2, 0), training=False))
    assert images.shape == (2, size, size, channels)
    assert np.abs(images).max() <= 1
    assert np.asarray(discriminator(images, training=True)).shape == (2, 1)


def test_a_size_that_cannot_be_made_lists_those_that_can():
    with pytest.raises(UsageError, match=r"48: .* 28, 32, 64, 128"):
        facts(size=48)


@pytest.mark.parametrize("normalization", ["spectral", "batch", "none"])
def test_both_networks_hear_the_class(normalization):
    one = facts(conditional=True, normalization=normalization)
    generator, discriminator = make_generator(one), make_discriminator(one)
    noise = np.repeat(draw(facts(), 1, 0), 2, axis=0)
    inputs = np.concatenate([noise, np.eye(3, dtype=np.float32)[[0, 1]]], axis=1)
    images = np.asarray(generator(inputs, training=False))
    assert not np.allclose(images[0], images[1])
    same = np.repeat(images[:1], 2, axis=0)
    answers = np.asarray(discriminator([same, np.eye(3, dtype=np.float32)[[0, 1]]], training=True))
    assert answers[0] != answers[1]
    with pytest.raises(ValueError, match=r"labels"):
        draw(one, 2, 0)


@pytest.mark.slow
def test_spectral_normalization_brings_the_largest_singular_value_to_one():
    discriminator = make_discriminator(facts())
    images = np.random.default_rng(0).uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32)
    for _ in range(50):
        discriminator(images, training=True)
    for layer in discriminator.layers:
        if isinstance(layer, keras.layers.SpectralNormalization):
            kernel = np.asarray(layer.layer.kernel)
            largest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
            assert largest == pytest.approx(1, abs=0.05)


def test_what_is_frozen_stays_though_its_norm_is_spectral():
    discriminator = make_discriminator(facts(size=32))
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)
    with frozen_discriminator(discriminator, 2) as plan:
        before = [np.asarray(weight) for weight in discriminator.layers[1].weights]
        assert [row.block for row in plan.rows if not row.trainable and row.parameters] == [
            "block1",
            "block2",
        ]
        discriminator(images, training=True)
    after = [np.asarray(weight) for weight in discriminator.layers[1].weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert "block3_conv" in "".join(weight.path for weight in discriminator.trainable_weights)


def test_freezing_everything_is_refused():
    with pytest.raises(UsageError, match=r"2 blocks"), frozen_discriminator(make_discriminator(facts()), 2):
        pass


@pytest.mark.parametrize("architecture", ["dcgan", "residual"])
def test_the_exported_model_gives_the_bytes_of_the_images(architecture):
    one = facts(architecture=architecture)
    generator = make_generator(one)
    inputs = draw(one, 5, 0)
    images = np.asarray(to_bytes(generator, one)(inputs))
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - make(generator, inputs)).max() <= 1


def test_the_first_images_of_a_seed_do_not_depend_on_their_number():
    assert np.array_equal(draw(facts(), 3, 5), draw(facts(), 30, 5)[:3])
    assert not np.array_equal(draw(facts(), 3, 5), draw(facts(), 3, 6))


@pytest.mark.parametrize("classes", [2, 8, 10, 16, 17, 100])
def test_pictures_show_every_class(classes):
    names = tuple(f"c{number}" for number in range(classes))
    labels = grid_labels(facts(classes=names, conditional=True)).reshape(-1, COLUMNS)
    assert set(labels.ravel()) == set(range(classes))
    assert len(labels) <= 16
    if classes <= 16:
        assert all(len(set(row)) == 1 for row in labels)
    assert grid_labels(facts(classes=names)).tolist() == [0] * 64


@pytest.mark.parametrize("name", ["tiny", pytest.param("efficientnet_lite0", marks=pytest.mark.nightly)])
def test_a_projected_discriminator_looks_through_a_network_that_stays(name):
    from keras_transfer.backbones import load_backbone

    backbone = load_backbone(name, image_size=96)
    one = facts(size=32, channels=1, feature_network=name)
    discriminator = make_discriminator(one, backbone)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    before = backbone.get_weights()
    assert np.asarray(discriminator(images, training=True)).shape == (2, 1)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights(), strict=True))
    assert sum(weight.shape.num_elements() for weight in discriminator.trainable_weights) < 500_000
