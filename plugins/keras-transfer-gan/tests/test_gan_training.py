"""What a training promises: it learns, goes on where it was killed, and keeps what was good."""

import json
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_transfer_gan.adversarial import Adversarial, Recipe
from keras_transfer_gan.keeping import ROWS
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator
from keras_transfer_gan.spec import LOSSES
from keras_transfer_gan.training import EndOfEpoch, Material, Schedule, train

from keras_transfer.errors import DataError, RunError


def material(fashion, conditional=False):
    images = np.concatenate([part[:20] for part in fashion.values()])[..., np.newaxis]
    held_out = np.concatenate([part[20:] for part in fashion.values()])[..., np.newaxis]
    labels, others = (
        np.repeat(np.arange(3), len(part) // 3).astype(np.int32) * conditional for part in (images, held_out)
    )
    return Material(images, labels, held_out, others)


def model(seed=0, rate=2e-4, conditional=False, normalization="spectral", width=4, **recipe):
    keras.utils.set_random_seed(seed)
    facts = Facts("dcgan", 28, 1, 8, width, ("a", "b", "c"), conditional, normalization)
    generator, discriminator, average = (
        make_generator(facts),
        make_discriminator(facts),
        make_generator(facts),
    )
    average.set_weights(generator.get_weights())
    found = Adversarial(generator, discriminator, average, facts, Recipe(**recipe), seed)
    found.compile(*(keras.optimizers.Adam(rate, beta_1=0.5) for _ in range(2)))
    return found


def schedule(folder, epochs=2, batch_size=10, stop=False):
    return Schedule(epochs, batch_size, 0, 0, stop, Path(folder) / "grids")


def values(adversarial):
    return {name: np.asarray(variable) for name, variable in adversarial.state.items()}


@pytest.mark.parametrize(
    ("loss", "others"),
    [
        *((loss, {}) for loss in LOSSES),
        ("non-saturating", {"r1": 1.0, "smoothing": 0.1, "critic_steps": 2, "conditional": True}),
        ("wgan-gp", {"critic_steps": 3, "normalization": "none"}),
        (
            "hinge",
            {"normalization": "batch", "changes": ("colour", "translation", "cutout"), "adaptive": True},
        ),
    ],
)
def test_both_networks_learn_under_every_loss(tmp_path, fashion, loss, others):
    adversarial = model(loss=loss, rate=1e-3, **others)
    before = values(adversarial)
    keeper = train(
        adversarial, material(fashion, others.get("conditional", False)), schedule(tmp_path), tmp_path
    )
    assert keeper.done == 2 and keeper.ended is None
    after = values(adversarial)
    assert all(np.isfinite(value).all() for value in after.values())
    moved = {name.rsplit(" ", 1)[0] for name in before if not np.array_equal(before[name], after[name])}
    assert {
        "generator",
        "discriminator",
        "average",
        "generator optimizer",
        "discriminator optimizer",
    } <= moved
    assert int(adversarial.steps) == 2 * (60 // (10 * others.get("critic_steps", 1)))


def test_the_discriminator_learns_to_tell_and_both_play(tmp_path, fashion):
    keeper = train(model(rate=1e-3, width=8), material(fashion), schedule(tmp_path, epochs=8), tmp_path)
    right = [(row["real_accuracy"] + row["made_accuracy"]) / 2 for row in keeper.rows]
    assert max(right) > 0.7
    assert all(0 <= row["held_out_accuracy"] <= 1 for row in keeper.rows)
    assert len(list((tmp_path / "grids").glob("*.png"))) == 8


class Killed(Exception):
    """What a killed process does not see."""


@pytest.mark.parametrize("when", ["while it is kept", "before it is kept"])
def test_a_killed_training_ends_like_one_that_was_not(tmp_path, fashion, monkeypatch, when):
    """Weights, averages, both optimizers, steps, random state and pictures: bit for bit."""
    options = {"changes": ("colour", "cutout"), "adaptive": True, "rate": 1e-3, "conditional": True}
    whole, begun, again = (tmp_path / name for name in ("whole", "begun", "again"))
    for folder in (whole, begun):
        folder.mkdir()
    uninterrupted = model(**options)
    train(uninterrupted, material(fashion, True), schedule(whole, 4), whole)

    ends = EndOfEpoch.on_epoch_end

    def kill(self, epoch, logs=None):
        if when == "while it is kept":
            ends(self, epoch, logs)
        if epoch == 2:
            raise Killed
        if when == "before it is kept":
            ends(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(EndOfEpoch, "on_epoch_end", kill)
        with pytest.raises(Killed):
            train(model(**options), material(fashion, True), schedule(begun, 4), begun)
    resumed = model(seed=0, **options)
    keeper = train(resumed, material(fashion, True), schedule(begun, 4), begun)
    expected, found = values(uninterrupted), values(resumed)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert keeper.rows == json.loads((whole / ROWS).read_text())["rows"]
    for path in (whole / "grids").glob("*.png"):
        assert path.read_bytes() == (begun / "grids" / path.name).read_bytes()
    assert not again.exists()


def test_numbers_that_are_none_end_it_and_the_last_good_epoch_is_kept(tmp_path, fashion, caplog):
    adversarial = model()
    steps = [12]  # two epochs of six
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(steps, [1e-3, 1e38])
    adversarial.compile(keras.optimizers.Adam(rate), keras.optimizers.Adam(1e-3))
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        keeper = train(adversarial, material(fashion), schedule(tmp_path, 5), tmp_path)
    assert keeper.ended == "diverged"
    assert keeper.done == 2
    assert int(adversarial.steps) == 12
    assert all(np.isfinite(value).all() for value in values(adversarial).values())
    assert "epoch 3" in caplog.text and "epoch 2 are kept" in caplog.text and "--learning-rate" in caplog.text
    # Taken up again, it does not run into the same wall.
    again = train(adversarial, material(fashion), schedule(tmp_path, 5), tmp_path)
    assert again.ended == "diverged" and again.done == 2


def test_numbers_that_are_none_from_the_start_are_an_error(tmp_path, fashion):
    with pytest.raises(DataError, match=r"before one epoch was done.*--learning-rate"):
        train(model(rate=float("nan")), material(fashion), schedule(tmp_path), tmp_path)


@pytest.mark.parametrize("stop", [True, False])
def test_a_collapse_is_told_and_ends_the_training_where_asked(tmp_path, fashion, caplog, stop):
    adversarial = model(rate=1e-7)
    for network in (adversarial.generator, adversarial.average):
        last = network.get_layer("image")
        last.set_weights([0.01 * value for value in last.get_weights()])
    train(adversarial, material(fashion), schedule(tmp_path, 1), tmp_path)
    kept = values(adversarial)
    state = json.loads((tmp_path / ROWS).read_text())
    assert state["rows"][0]["pixel_diversity"] < 0.1  # such a generator makes grey images; say it did not
    state["rows"][0]["pixel_diversity"] = 0.9
    (tmp_path / ROWS).write_text(json.dumps(state))
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        keeper = train(model(rate=1e-7), material(fashion), schedule(tmp_path, 3, stop=stop), tmp_path)
    assert "mode collapse" in caplog.text and "--diff-augment" in caplog.text
    assert keeper.ended == ("collapsed" if stop else None)
    assert keeper.done == (1 if stop else 3)
    if stop:
        assert all(np.array_equal(kept[name], value) for name, value in values(keeper.model).items())


def test_a_damaged_state_is_said(tmp_path, fashion):
    train(model(), material(fashion), schedule(tmp_path, 1), tmp_path)
    (tmp_path / "epoch-1.npz").write_bytes(b"PK damaged")
    with pytest.raises(RunError, match=r"epoch-1.npz is damaged.*--overwrite"):
        train(model(), material(fashion), schedule(tmp_path, 2), tmp_path)


def test_fewer_images_than_a_step_takes_is_said(tmp_path, fashion):
    with pytest.raises(
        DataError, match=r"60 training images are fewer .*--batch-size 32 times 2 critic steps.*at most 30"
    ):
        train(model(critic_steps=2), material(fashion), schedule(tmp_path, batch_size=32), tmp_path)


def test_memory_does_not_grow_over_the_steps(tmp_path, fashion):
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        pytest.skip("the resident size is read from /proc")
    adversarial, sizes = model(changes=("colour", "cutout"), adaptive=True), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            sizes.append(int(statm.read_text().split()[1]) * 4096 / 1e6)

    images = material(fashion)
    pixels = images.pixels[:10].astype(np.float32)
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((pixels, images.labels[:10])).repeat(500)
    adversarial.fit(data, verbose=0, callbacks=[Watch()])
    assert len(sizes) == 500
    # A step holds about 1 MB here; kept, 400 of them could not be overlooked.
    assert np.median(sizes[-20:]) - np.median(sizes[80:100]) < 40
