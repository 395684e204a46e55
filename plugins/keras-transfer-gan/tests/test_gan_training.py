"""What a training promises: it learns, goes on where it was killed, and keeps what was good."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras_transfer_gan.adversarial import Adversarial, Recipe
from keras_transfer_gan.drawing import draw
from keras_transfer_gan.keeping import ROWS, Keeper
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator
from keras_transfer_gan.spec import LOSSES
from keras_transfer_gan.training import EndOfEpoch, Material, Schedule, _feed, held_out_accuracy, train

from keras_transfer.errors import DataError, RunError


def material(fashion, conditional=False):
    images = np.concatenate([part[:20] for part in fashion.values()])[..., np.newaxis]
    held_out = np.concatenate([part[20:] for part in fashion.values()])[..., np.newaxis]
    labels, others = (
        np.repeat(np.arange(3), len(part) // 3).astype(np.int32) * conditional for part in (images, held_out)
    )
    return Material(images, labels, held_out, others)


def model(seed=0, rate=2e-4, conditional=False, normalization="spectral", width=4, eagerly=False, **recipe):
    """``eagerly``: step by step, without a graph, whose tracing takes as long as a dozen steps."""
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
    found.run_eagerly = eagerly
    return found


def schedule(folder, epochs=2, batch_size=10, stop=False, look_every=1):
    return Schedule(epochs, batch_size, 0, 0, stop, Path(folder) / "grids", look_every)


def values(adversarial):
    return {name: np.asarray(variable) for name, variable in adversarial.state.items()}


PENALTY = ("non-saturating", {"r1": 1.0, "smoothing": 0.1, "critic_steps": 2, "conditional": True})
CHANGED = (
    "hinge",
    {"normalization": "batch", "changes": ("colour", "translation", "cutout"), "adaptive": True},
)
CRITIC = ("wgan-gp", {"critic_steps": 3, "normalization": "none"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "others", "batch_size"),
    [
        (*PENALTY, 30),
        (*CHANGED, 30),
        *(
            pytest.param(*case, 10, marks=pytest.mark.nightly)
            for case in (*((loss, {}) for loss in LOSSES), PENALTY, CHANGED, CRITIC)
        ),
    ],
)
def test_both_networks_learn_under_every_loss(tmp_path, fashion, loss, others, batch_size):
    adversarial = model(loss=loss, rate=1e-3, eagerly=batch_size > 10, **others)
    before = values(adversarial)
    images = material(fashion, others.get("conditional", False))
    keeper = train(adversarial, images, schedule(tmp_path, 2, batch_size), tmp_path)
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
    assert int(adversarial.steps) == 2 * (60 // (batch_size * others.get("critic_steps", 1)))


@pytest.mark.slow
def test_the_discriminator_learns_to_tell_and_both_play(tmp_path, fashion):
    keeper = train(model(rate=1e-3, width=8), material(fashion), schedule(tmp_path, epochs=8), tmp_path)
    right = [(row["real_accuracy"] + row["made_accuracy"]) / 2 for row in keeper.rows]
    assert max(right) > 0.7
    assert all(0 <= row["held_out_accuracy"] <= 1 for row in keeper.rows)
    assert len(list((tmp_path / "grids").glob("*.png"))) == 8


class Killed(Exception):
    """What a killed process does not see."""


@pytest.mark.nightly
def test_between_looks_nothing_is_written_and_a_row_has_the_means(tmp_path, fashion):
    """Few images make short epochs, and a picture and a checkpoint of each would take longer than the training."""
    every, some = tmp_path / "every", tmp_path / "some"
    every.mkdir()
    some.mkdir()
    each = train(model(eagerly=True), material(fashion), schedule(every, 3, 60), every)
    keeper = train(model(eagerly=True), material(fashion), schedule(some, 3, 60, look_every=2), some)
    assert [row["epoch"] for row in keeper.rows] == [2, 3] and keeper.done == 3
    assert sorted(path.stem for path in (some / "grids").glob("*.png")) == ["0002", "0003"]
    losses = [row["generator_loss"] for row in each.rows]
    expected = [np.mean(losses[:2]), losses[2]]
    np.testing.assert_allclose([row["generator_loss"] for row in keeper.rows], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "look_every", "eagerly"),
    [
        pytest.param("before it is kept", 1, True, marks=pytest.mark.nightly),
        ("while it is kept", 2, True),
        *(
            pytest.param(when, look_every, False, marks=pytest.mark.nightly)
            for when in ("while it is kept", "before it is kept")
            for look_every in (1, 2)
        ),
    ],
)
def test_a_killed_training_ends_like_one_that_was_not(
    tmp_path, fashion, monkeypatch, when, look_every, eagerly
):
    """Weights, averages, both optimizers, steps, random state and pictures: bit for bit."""
    options = {"changes": ("colour", "cutout"), "adaptive": True, "rate": 1e-3, "conditional": True}
    options["eagerly"] = eagerly
    batch_size = 60 if eagerly else 10
    whole, begun, again = (tmp_path / name for name in ("whole", "begun", "again"))
    for folder in (whole, begun):
        folder.mkdir()
    uninterrupted = model(**options)
    asked = schedule(whole, 4, batch_size, look_every=look_every)
    train(uninterrupted, material(fashion, True), asked, whole)
    asked = schedule(begun, 4, batch_size, look_every=look_every)

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
            train(model(**options), material(fashion, True), asked, begun)
    resumed = model(seed=0, **options)
    keeper = train(resumed, material(fashion, True), asked, begun)
    expected, found = values(uninterrupted), values(resumed)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert keeper.rows == json.loads((whole / ROWS).read_text())["rows"]
    for path in (whole / "grids").glob("*.png"):
        assert path.read_bytes() == (begun / "grids" / path.name).read_bytes()
    assert not again.exists()


@pytest.mark.slow
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
    assert "after epoch 2, whose networks are kept" in caplog.text and "--learning-rate" in caplog.text
    # Taken up again, it does not run into the same wall.
    again = train(adversarial, material(fashion), schedule(tmp_path, 5), tmp_path)
    assert again.ended == "diverged" and again.done == 2


@pytest.mark.slow
def test_numbers_that_are_none_from_the_start_are_an_error(tmp_path, fashion):
    for _ in range(2):  # the same command again does not take untrained networks for a result
        with pytest.raises(DataError, match=r"before one epoch was done.*--learning-rate"):
            given = model(rate=float("nan"), eagerly=True)
            train(given, material(fashion), schedule(tmp_path, batch_size=60), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [True, False])
def test_a_collapse_is_told_and_ends_the_training_where_asked(tmp_path, fashion, caplog, stop):
    adversarial = model(rate=1e-7, eagerly=True)
    for network in (adversarial.generator, adversarial.average):
        last = network.get_layer("image")
        last.set_weights([0.01 * value for value in last.get_weights()])
    train(adversarial, material(fashion), schedule(tmp_path, 1, 60), tmp_path)
    kept = values(adversarial)
    state = json.loads((tmp_path / ROWS).read_text())
    assert state["rows"][0]["pixel_diversity"] < 0.1  # such a generator makes grey images; say it did not
    state["rows"][0]["pixel_diversity"] = 0.9
    (tmp_path / ROWS).write_text(json.dumps(state))
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        asked = schedule(tmp_path, 3, 60, stop=stop)
        keeper = train(model(rate=1e-7, eagerly=True), material(fashion), asked, tmp_path)
    assert "mode collapse" in caplog.text and "--diff-augment" in caplog.text
    assert keeper.ended == ("collapsed" if stop else None)
    assert keeper.done == (1 if stop else 3)
    if stop:
        assert all(np.array_equal(kept[name], value) for name, value in values(keeper.model).items())


def test_images_that_were_always_alike_are_told(tmp_path, fashion, caplog):
    images, now = material(fashion), schedule(tmp_path)
    keeper = Keeper(tmp_path, model())
    watch = EndOfEpoch(keeper, images, now)
    keeper.rows = [{"epoch": epoch + 1, "pixel_diversity": 0.1} for epoch in range(6)]
    assert not watch._collapsed(0.1) and not caplog.text  # still early
    keeper.rows.append({"epoch": 7, "pixel_diversity": 0.1})
    assert not watch._collapsed(0.3) and not caplog.text
    assert not watch._collapsed(0.1)
    assert "alike from the start" in caplog.text and "--diff-augment" in caplog.text
    caplog.clear()
    assert not watch._collapsed(0.1) and not caplog.text  # once


@pytest.mark.slow
def test_one_image_a_class_is_a_collapse(tmp_path, fashion):
    """Each class another image, all of a class the same: diverse on the whole, and not within the classes."""
    adversarial = model(conditional=True, rate=1e-9, eagerly=True)
    for network in (adversarial.generator, adversarial.average):
        first = network.get_layer("block0_dense")
        first.set_weights([np.concatenate([np.zeros((8, first.units)), np.ones((3, first.units))])])
        first.set_weights([first.get_weights()[0] * np.arange(11)[:, np.newaxis]])
    keeper = train(adversarial, material(fashion, True), schedule(tmp_path, 1, 60), tmp_path)
    assert keeper.rows[0]["pixel_diversity"] < 1e-3
    images = np.asarray(adversarial.average(draw(adversarial.facts, 3, 0, np.arange(3)), training=False))
    assert np.abs(images[0] - images[1]).max() > 1e-2


def sorted_by_class(count=100):
    """Three classes of ``count`` images, one after the other, as folders give them: black, grey, white."""
    labels = np.repeat(np.arange(3), count).astype(np.int32)
    pixels = np.zeros((3 * count, 28, 28, 1), np.uint8) + (127 * labels)[:, None, None, None].astype(np.uint8)
    return Material(pixels, labels, pixels, labels)


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [True, False])
def test_every_class_is_looked_at(tmp_path, conditional):
    images = sorted_by_class()
    watch = EndOfEpoch(Keeper(tmp_path, model(conditional=conditional)), images, schedule(tmp_path))
    assert np.bincount(watch.labels).min() > 20
    assert np.array_equal(watch.real[:, 0, 0, 0], 127 * watch.labels)
    assert np.array_equal(watch.watched, draw(watch.keeper.model.facts, 64, 0, watch.labels))


def test_held_out_images_of_every_class_are_judged():
    """By a discriminator that takes black for made and everything else for real."""
    images = sorted_by_class()
    judge = SimpleNamespace(
        discriminator=lambda pixels, training: pixels.mean(axis=(1, 2)) + 0.5,
        facts=model().facts,
        recipe=Recipe(),
    )
    made = np.zeros((60, 28, 28, 1), np.uint8)
    found = held_out_accuracy(judge, images, made, np.zeros(60, np.int64))
    assert found == pytest.approx((40 / 60 + 1) / 2)


def test_kid_on_the_way_is_of_every_class_and_of_no_more_images_than_asked(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "keras_transfer_gan.training.compare_kernels",
        lambda real, made: seen.update(real=real, made=made) or {},
    )
    monkeypatch.setattr("keras_transfer_gan.training.make", lambda network, inputs: inputs)
    now = Schedule(2, 10, 0, 1, False, tmp_path / "grids", most_measured=9)
    EndOfEpoch(Keeper(tmp_path, model(conditional=True)), sorted_by_class(), now)._kid()
    assert np.bincount(seen["real"][:, 0, 0, 0] // 127).tolist() == [3, 3, 3]
    assert np.array_equal(seen["made"][:, 8:].argmax(axis=1), seen["real"][:, 0, 0, 0] // 127)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epoch-1.npz", ROWS])
def test_a_damaged_state_is_said(tmp_path, fashion, name):
    state = tmp_path / "state"
    state.mkdir()
    one = model(eagerly=True)
    train(one, material(fashion), schedule(tmp_path, 1, 60), state)
    content = (state / name).read_bytes()
    for kept in (0, len(content) // 2, len(content) - 1):
        (state / name).write_bytes(content[:kept])
        with pytest.raises(RunError, match=rf"{name} is damaged.*Remove the folder .*state and repeat"):
            train(one, material(fashion), schedule(tmp_path, 2, 60), state)
    shutil.rmtree(state)
    state.mkdir()
    assert train(one, material(fashion), schedule(tmp_path, 1, 60), state).done == 1


def test_fewer_images_than_a_step_takes_is_said(tmp_path, fashion):
    with pytest.raises(
        DataError, match=r"60 training images are fewer .*--batch-size 32 times 2 critic steps.*at most 30"
    ):
        train(model(critic_steps=2), material(fashion), schedule(tmp_path, batch_size=32), tmp_path)


@pytest.mark.nightly
def test_memory_does_not_grow_over_the_steps(tmp_path, fashion):
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        pytest.skip("the resident size is read from /proc")
    adversarial, sizes = model(changes=("colour", "cutout"), adaptive=True), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            sizes.append(int(statm.read_text().split()[1]) * 4096 / 1e6)

    data, steps = _feed(material(fashion), 1, schedule(tmp_path, epochs=84), 0)
    assert steps == 6
    adversarial.fit(data, steps_per_epoch=500, shuffle=False, verbose=0, callbacks=[Watch()])
    assert len(sizes) == 500
    # A step holds about 1 MB here; kept, 400 of them could not be overlooked.
    assert np.median(sizes[-20:]) - np.median(sizes[80:100]) < 40
