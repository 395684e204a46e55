"""``train --task gan --dry-run``: what of the two networks learns, what their steps cost, and what is refused."""

import json
from types import SimpleNamespace

import keras
import pytest
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator
from keras_transfer_gan.planning import plan_adversarial
from keras_transfer_gan.spec import GanOptions

from keras_transfer.backbones import load_backbone
from keras_transfer.errors import DataError, UsageError
from keras_transfer.settings import GradientSettings
from keras_transfer.testing.command import call

GAN = ("--task", "gan", "--width", "4", "--batch-size", "8", "--epochs", "3")


def networks(feature_network=None, **values):
    defaults = {
        "architecture": "dcgan",
        "size": 28,
        "channels": 3,
        "noise": 8,
        "width": 8,
        "classes": ("a", "b"),
        "conditional": False,
        "normalization": "spectral",
    }
    one = Facts(**{**defaults, **values})
    backbone = None if feature_network is None else load_backbone(feature_network, weights="none")
    return make_generator(one), make_discriminator(one, backbone)


def planned(pair, images=64, epochs=3, **values):
    data = SimpleNamespace(indices=lambda split: range(images))
    return plan_adversarial(
        *pair, GanOptions(**values), data, GradientSettings(batch_size=8, epochs=epochs), 2e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "values"),
    [
        ({}, {}),
        ({"architecture": "residual", "normalization": "batch"}, {}),
        ({"feature_network": "tiny"}, {}),
        ({}, {"freeze_lower": 1}),
    ],
)
def test_the_plan_counts_what_keras_then_trains(made, values):
    generator, discriminator = networks(**made)
    plan = planned((generator, discriminator), **values)
    if values:
        discriminator.get_layer("block1_conv_sn").trainable = False
    for phase, network in zip(plan.phases, (generator, discriminator), strict=True):
        expected = sum(keras.ops.size(one.value) for one in network.trainable_variables)
        assert phase["network"] == network.name and phase["trainable"] == expected


def test_what_it_costs_goes_with_steps_and_images():
    """Steps that the images do not fill are left out; a penalty on gradients is not estimated."""
    pair = networks()
    one = planned(pair).training
    assert planned(pair, epochs=6).training == 2 * one
    assert planned(pair, images=71).training == one and planned(pair, images=128).training == 2 * one
    twice = planned(pair, critic_steps=2).training
    assert 0.5 * one < twice < one, "half as many steps, each with two of the discriminator's"
    assert planned(pair, r1=1.0).training is None
    assert planned(pair, loss="wgan-gp").training is None


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(DataError, match="4 training images are fewer than a step takes"):
        planned(networks(), images=4)
    with pytest.raises(UsageError, match="--freeze-lower 9"):
        planned(networks(), freeze_lower=9)


@pytest.mark.slow
def test_a_dry_run_tells_both_networks_and_writes_nothing(fashion_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown, _ = call("train", fashion_folder, *GAN, "--dry-run", "-o", "run")
    for said in (
        "No backbone",
        "The generator",
        "The discriminator",
        "adversarial (",
        "not estimated: the features",
        "networks/",
    ):
        assert said in shown, shown
    assert "run: run.json, model.keras" in shown and not list(tmp_path.iterdir())
    told = json.loads(call("train", fashion_folder, *GAN, "--dry-run", "--json")[0])
    assert told["network"]["outputs"] == [[None, 28, 28, 1]] and told["backbone"] is None
    assert told["cost"]["training_multiply_adds"] > 0 and not told["cost"]["complete"]
