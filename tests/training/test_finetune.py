"""Gradient training: what is frozen stays, what was interrupted goes on alike, what diverges keeps good weights."""

import logging
import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_transfer.data import batches, load_data
from keras_transfer.data.balance import class_weights
from keras_transfer.errors import DataError, KerasTransferError, UsageError
from keras_transfer.features.boundary import find_boundary
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.heads import add_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import GradientSettings
from keras_transfer.training import finetune
from keras_transfer.training.callbacks import CloseEpoch, Record
from keras_transfer.training.feeds import Boundary, make_feed
from keras_transfer.training.finetune import fine_tune
from keras_transfer.training.objective import Objective
from keras_transfer.training.phases import Phase

PIXELS = Preprocessing((32, 32))


@pytest.fixture(scope="module")
def table(photo_folder):
    return load_data(photo_folder, val_fraction=0.2, test_fraction=0.0)


def network(dropout=0.2):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(image)
    for block in (1, 2, 3):
        x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False, name=f"block{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
    return add_head(keras.Model(image, x, name="small"), 2, dropout=dropout)


def train(table, rule="blocks:1", model=None, phases=None, **values):
    model = model or network()
    phases = phases or [
        Phase(0, FreezePlan.for_model(model, rule, layer_decay=values.pop("layer_decay", 1.0)))
    ]
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, **values}
    return model, fine_tune(model, table, PIXELS, phases=phases, **values)


def weights(model):
    return {variable.path: np.asarray(variable).copy() for variable in model.weights}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


EVERYTHING = {
    "optimizer": "sgd",
    "schedule": "onecycle",
    "ema": 0.9,
    "accumulate": 2,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "augment": "light",
    "balance": "sampling",
    "layer_decay": 0.5,
}


@pytest.mark.parametrize(
    ("values", "cache"),
    [
        pytest.param(EVERYTHING, "on", id="everything-on", marks=pytest.mark.nightly),
        pytest.param(EVERYTHING, "off", id="everything-off", marks=pytest.mark.nightly),
        pytest.param({}, "on", id="plain-on", marks=pytest.mark.slow),
        pytest.param({}, "off", id="plain-off", marks=pytest.mark.nightly),
    ],
)
def test_taken_up_after_any_epoch_it_ends_with_the_same_weights(table, tmp_path, monkeypatch, values, cache):
    """Interrupted in both phases of a progressive unfreezing, with every kind of state there is."""

    def attempt(folder):
        model = network()
        decay = values.get("layer_decay", 1.0)
        plans = [FreezePlan.for_model(model, rule, layer_decay=decay) for rule in ("blocks:1", "blocks:2")]
        rest = {name: value for name, value in values.items() if name != "layer_decay"}
        result = fine_tune(
            model,
            table,
            PIXELS,
            phases=[Phase(0, plans[0]), Phase(2, plans[1])],
            boundary=Boundary(cache, views=2, engine="keras"),
            state=folder,
            epochs=4,
            batch_size=8,
            learning_rate=1e-2,
            patience=9,
            keep_start=False,
            **rest,
        )
        return weights(model), result

    whole, uninterrupted = attempt(tmp_path / "whole")
    honest = CloseEpoch.on_epoch_end
    stops = [1, 3]

    def stopping(self, epoch, logs=None):
        honest(self, epoch, logs)
        if stops and epoch + 1 == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt

    monkeypatch.setattr(CloseEpoch, "on_epoch_end", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            attempt(tmp_path / "parts")
    parts, resumed = attempt(tmp_path / "parts")
    assert resumed.resumed_at == 3 and resumed.history == uninterrupted.history
    assert same(whole, parts)
    assert not same(whole, weights(network())), "nothing was learned, so equality would prove nothing"


@pytest.mark.slow
def test_what_the_plan_freezes_is_bit_identical_and_the_rest_is_not(table):
    model = network()
    before = weights(model)
    model, result = train(table, "blocks:1", model)
    after = weights(model)
    assert result.best_epoch > 0
    changed = {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {"block3_conv", "logits"}


@pytest.mark.slow
def test_a_milestone_unfreezes_later(table):
    model = network()
    first = weights(model)
    seen = {}

    class Watch(CloseEpoch):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            now = weights(model)
            seen[epoch] = {p.split("/")[0] for p in first if not np.array_equal(first[p], now[p])}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "CloseEpoch", Watch)
        plans = [FreezePlan.for_model(model, rule) for rule in ("none", "blocks:2")]
        train(table, model=model, phases=[Phase(0, plans[0]), Phase(2, plans[1])], patience=9)
    assert seen == {0: {"logits"}, 1: {"logits"}, 2: {"logits", "block2_conv", "block3_conv"}}


@pytest.mark.nightly
def test_kept_activations_train_like_the_whole_network(table):
    """Same order, no augmentation: the same weights but for the rounding to float16."""
    (a, off), (b, on) = (
        train(table, boundary=Boundary(cache, engine="keras"), model=network()) for cache in ("off", "on")
    )
    assert not off.boundaries and "computed" in on.boundaries[0]
    start, whole, split = weights(network()), weights(a), weights(b)
    for path, value in whole.items():
        moved = np.abs(value - start[path]).max()
        assert np.abs(split[path] - value).max() <= 0.02 * moved, path


@pytest.mark.slow
def test_the_optimizer_gets_every_setting(table, monkeypatch):
    class Made(Exception):
        """The optimizer, before anything is trained."""

    genuine = finetune.make_optimizer

    def making(*arguments, **values):
        raise Made(genuine(*arguments, **values))

    monkeypatch.setattr(finetune, "make_optimizer", making)

    def optimizer_of(**values):
        with pytest.raises(Made) as made:
            train(table, "blocks:2", **values)
        return made.value.args[0]

    values = {"momentum": 0.7, "weight_decay": 0.03, "clip_norm": 0.5, "accumulate": 2, "ema": 0.8}
    optimizer = optimizer_of(optimizer="sgd", schedule="constant", warmup=0.0, layer_decay=0.5, **values)
    assert isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum == 0.7
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.03, 0.5)
    assert optimizer.gradient_accumulation_steps == 2 and optimizer.use_ema
    assert optimizer.ema_momentum == pytest.approx(0.8**0.5), "0.8 a step, and a step is two batches"
    assert float(optimizer.learning_rate) == pytest.approx(1e-2)
    optimizer = optimizer_of(epochs=2, schedule="cosine")
    assert isinstance(optimizer, keras.optimizers.AdamW)
    steps = 2 * -(-len(table.indices("train")) // 8)
    optimizer.iterations.assign(steps)
    assert float(optimizer.learning_rate) < 1e-4, "the cosine has come down at the training's last step"


def moved_by_one_step(table, **values):
    """What one step of plain SGD adds to each variable: its gradient times minus its rate."""
    model = network(dropout=0.0)
    before = weights(model)
    plain = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
    once = {"epochs": 1, "batch_size": 64, "learning_rate": 1.0, "keep_start": False}
    train(table, "all", model, **once, **plain, **values)
    return {name: value - before[name] for name, value in weights(model).items()}


@pytest.fixture(scope="module")
def whole_step(table):
    return moved_by_one_step(table)


@pytest.mark.slow
def test_each_block_learns_at_its_own_rate(table, whole_step):
    halved = moved_by_one_step(table, layer_decay=0.5)
    for block, share in (
        ("logits", 1.0),
        ("block3_conv", 0.5),
        ("block2_conv", 0.25),
        ("block1_conv", 0.125),
    ):
        (kernel,) = (name for name in whole_step if name.startswith(block) and "kernel" in name)
        np.testing.assert_allclose(halved[kernel], share * whole_step[kernel], rtol=1e-3, atol=1e-7)
        assert np.any(whole_step[kernel])


@pytest.mark.slow
def test_a_long_gradient_is_shortened(table, whole_step):
    def length(moved):
        return np.sqrt(sum(np.sum(value**2) for value in moved.values()))

    assert length(whole_step) > 0.02
    assert length(moved_by_one_step(table, clip_norm=0.01)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_classes_of_unequal_size_count_the_same(table):
    """In training by weights or by sampling, and with either where the epoch is chosen."""
    china = np.flatnonzero(table.labels == 0)
    few = table.take(np.sort(np.concatenate([china[::4], np.flatnonzero(table.labels == 1)])))
    train_rows, val_rows = few.indices("train"), few.indices("val")

    def feed(balance):
        settings = GradientSettings(batch_size=8, balance=balance)
        model = network()
        model.trainable = True
        return make_feed(
            model, model, few, PIXELS, Objective(), settings, Boundary("off"), teacher=None, seed=0
        )

    def totals(batches):
        batches = [[np.asarray(part) for part in batch] for batch in batches]
        labels = np.concatenate([batch[1] for batch in batches])
        weight = np.concatenate([b[2] if len(b) > 2 else np.ones(len(b[1])) for b in batches])
        return labels.T @ weight

    counts = np.bincount(few.labels[train_rows])
    assert counts[0] < counts[1] / 2
    plain, weighted, sampled = (feed(balance) for balance in ("none", "weights", "sampling"))
    np.testing.assert_allclose(totals(plain.training(0).take(plain.steps)), counts)
    first, second = totals(weighted.training(0).take(weighted.steps))
    assert first == pytest.approx(second)
    first, second = totals(sampled.training(0).take(20 * sampled.steps))
    assert 0.8 < first / second < 1.25
    np.testing.assert_allclose(totals(plain.held_out()), np.bincount(few.labels[val_rows]))
    expected = np.bincount(few.labels[val_rows]) * class_weights(few.labels[train_rows], 2)
    for balanced in (weighted, sampled):
        np.testing.assert_allclose(totals(balanced.held_out()), expected, rtol=1e-6)


@pytest.mark.slow
def test_what_changes_a_frozen_weight_fails_the_training(table, monkeypatch):
    model = network()

    class Meddling(CloseEpoch):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            kernel = model.get_layer("block1_conv").kernel
            kernel.assign(kernel + 1e-7)

    monkeypatch.setattr(finetune, "CloseEpoch", Meddling)
    with pytest.raises(KerasTransferError, match="block1_conv"):
        train(table, "blocks:1", model)


def test_more_accumulation_than_batches_is_refused(table):
    with pytest.raises(
        UsageError, match=r"--accumulate 99 was given, and the whole training has \d+ batches"
    ):
        train(table, accumulate=99)


@pytest.mark.nightly
def test_a_loss_that_leaves_the_numbers_later_keeps_a_trained_epoch_and_names_a_rate(
    table, caplog, monkeypatch
):
    """The second epoch's images are no numbers; the weights are those of the first, the rate is one that trains."""
    genuine, broken = finetune.make_feed, []

    def feeding(*arguments, **values):
        feed = genuine(*arguments, **values)
        if broken:
            return feed
        broken.append(True)
        poison = feed.training(0).map(lambda x, *rest: (x * np.nan, *rest))
        sound = feed.training(0).take(feed.steps)
        return replace(feed, training=lambda first: sound.concatenate(poison))

    monkeypatch.setattr(finetune, "make_feed", feeding)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        model, result = train(table, "all", learning_rate=3e-3, keep_start=False)
    assert result.diverged == 2 and result.best_epoch == 1
    assert all(np.all(np.isfinite(value)) for value in weights(model).values())
    assert not same(weights(network()), weights(model))
    said = next(record.message for record in caplog.records if "became NaN or infinite" in record.message)
    assert "of epoch 1" in said
    suggested = re.search(r"suggests --learning-rate (\S+)\. ", said)
    assert suggested and 1e-6 < float(suggested[1]) < 1


@pytest.mark.nightly
def test_the_finder_measures_the_optimizer_that_then_trains_at_the_rate_it_found(table, monkeypatch):
    seen = {}
    genuine = finetune.find_learning_rate

    def watching(*arguments, **values):
        seen.update(values)
        return genuine(*arguments, **values)

    monkeypatch.setattr(finetune, "find_learning_rate", watching)
    values = {"optimizer": "sgd", "momentum": 0.5, "clip_norm": 1.0, "layer_decay": 0.5}
    _, result = train(table, "blocks:2", find_lr=True, learning_rate=1e-9, epochs=1, batch_size=16, **values)
    assert (seen["optimizer"], seen["momentum"], seen["clip_norm"]) == ("sgd", 0.5, 1.0)
    assert set(seen["multipliers"].values()) == {0.5, 0.25}
    assert result.finding is not None
    assert result.learning_rate == result.finding.suggestion > 1e-9


@pytest.mark.slow
def test_a_loss_that_leaves_the_numbers_keeps_the_last_good_weights_and_advises(table, caplog):
    model = network()
    before = weights(model)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        model, result = train(table, "all", model, optimizer="sgd", learning_rate=1e30, warmup=0.0)
    assert result.diverged == 1 and result.best_epoch == 0
    assert same(before, weights(model))
    said = next(record.message for record in caplog.records if "became NaN or infinite" in record.message)
    assert "learning-rate" in said


ALONE = (
    {"focal": 2.0},
    {"balance": "weights"},
    {"augment": "standard"},
    {"precision": "mixed_bfloat16"},
    {"monitor": "accuracy", "patience": 1},
    {"schedule": "step", "layer_decay": 0.5},
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        pytest.param({**ALONE[0], **ALONE[1], **ALONE[2]}, id="loss and images"),
        pytest.param({**ALONE[3], **ALONE[4], **ALONE[5]}, id="precision, monitor and rates"),
        *(pytest.param(values, marks=pytest.mark.nightly) for values in ALONE),
    ],
)
def test_every_setting_trains(table, values):
    model, result = train(table, **{"epochs": 2, **values})
    assert len(result.history) >= 2
    assert not same(weights(network()), weights(model)) or result.best_epoch == 0
    assert all(layer.compute_dtype == "float32" for layer in model.layers)


@pytest.mark.nightly
def test_the_start_may_be_kept_or_not(table):
    values = {"learning_rate": 1e-30, "epochs": 1}
    assert train(table, **values)[1].best_epoch == 0
    assert train(table, keep_start=False, **values)[1].best_epoch == 1


@pytest.mark.slow
def test_single_image_batches_with_trained_statistics_are_warned_of(table, caplog):
    model = network()
    plan = FreezePlan.for_model(model, "blocks:1", batchnorm="train")
    few = table.take(np.arange(0, len(table), 8))
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        fine_tune(model, few, PIXELS, phases=[Phase(0, plan)], epochs=1, batch_size=1)
    assert "one image per batch" in caplog.text


@pytest.mark.slow
def test_contradictions_and_unknown_names_are_refused(table):
    with pytest.raises(UsageError, match="Known"):
        train(table, monitor="average_precision")
    with pytest.raises(UsageError, match="epoch"):
        train(table, epoch=3)
    with pytest.raises(UsageError, match="cache-boundary"):
        train(table, boundary=Boundary("on"), augment="strong")
    with pytest.raises(UsageError, match="no frozen part"):
        train(table, "all", boundary=Boundary("on"))
    model = network()
    model.trainable = False
    with pytest.raises(UsageError, match="Nothing is trainable"):
        fine_tune(model, table, PIXELS, epochs=1)
    with pytest.raises(DataError, match="training split"):
        fine_tune(network(), table.take(table.indices("val")), PIXELS, epochs=1)


def test_the_boundary_is_below_what_trains():
    model = network()
    FreezePlan.for_model(model, "blocks:1").apply(model)
    assert find_boundary(model) in ("block2_bn", "block2_relu", "block2_conv")


@pytest.mark.nightly
def test_a_teacher_draws_the_student_to_its_answers(table):
    """A teacher that is unsure on purpose: with it the student stays near, without it it grows sure."""
    teacher = np.where(np.eye(2)[table.labels] == 1, 0.7, 0.3)
    val = table.indices("val")

    def sureness(**values):
        model, _ = train(table, "all", epochs=6, learning_rate=3e-3, keep_start=False, patience=9, **values)
        pixels = np.concatenate(list(batches(table, PIXELS, indices=val))).astype("float32")
        return float(np.abs(np.asarray(model(pixels)) - teacher[val]).mean())

    taught = sureness(teacher=teacher, objective=Objective(temperature=2.0, mix=1.0))
    assert taught < sureness()


@pytest.mark.slow
def test_patience_counts_from_the_best_trained_epoch_of_the_last_phase(tmp_path):
    """The start may be better than the first epochs (the guard decides in the end), and every phase gets its turn."""
    model = network()
    record = Record(tmp_path, model, "val_loss", higher=False, patience=2, patient_until=3)
    record.begin({"val_loss": 0.1})
    for epoch, loss in enumerate([0.9, 0.8, 0.85, 0.82], 1):
        assert not record.finished, epoch
        record.keep_raw(keras.optimizers.SGD())
        record.close({"val_loss": loss})
    assert not record.finished and (record.best, record.best_trained) == (0, 2)
    record.keep_raw(keras.optimizers.SGD())
    record.close({"val_loss": 0.81})
    assert record.finished


@pytest.mark.slow
def test_of_an_accuracy_the_highest_epoch_is_kept(tmp_path):
    model = network()
    record = Record(tmp_path, model, "val_accuracy", higher=True, patience=9, patient_until=0)
    record.begin({"val_accuracy": 0.5})
    for accuracy in (0.7, 0.9, 0.8):
        record.keep_raw(keras.optimizers.SGD())
        record.close({"val_accuracy": accuracy})
    assert record.best == 2


def test_weights_that_are_no_numbers_are_never_the_best(tmp_path):
    model = network()
    record = Record(tmp_path, model, "loss", higher=False, patience=5)
    record.begin({"loss": 1.0})
    bias = model.get_layer("logits").bias
    bias.assign(bias * np.nan)
    record.keep_raw(keras.optimizers.SGD())
    record.close({"loss": 0.5})
    assert record.diverged == 1 and record.best == 0


@pytest.mark.nightly
def test_a_later_phase_may_freeze_what_an_earlier_one_trained(table, tmp_path):
    """Averaged weights end the first phase; what the second one freezes is sealed as it then is."""
    model = network()
    plans = [FreezePlan.for_model(model, rule) for rule in ("blocks:2", "blocks:1")]
    phases = [Phase(0, plans[0]), Phase(1, plans[1])]
    _, result = train(
        table, model=model, phases=phases, ema=0.9, keep_start=False, patience=9, state=tmp_path
    )
    assert len(result.history) == 4


@pytest.mark.slow
def test_another_training_does_not_take_an_interrupted_ones_place(table, tmp_path):
    train(table, state=tmp_path, model=network())
    again, result = train(table, state=tmp_path, model=network())
    assert result.resumed_at == 3
    with pytest.raises(UsageError, match=r"label_smoothing \(0.0 then, 0.1 now\)"):
        train(table, state=tmp_path, model=network(), label_smoothing=0.1)
    with pytest.raises(UsageError, match="starting weights"):
        train(table, state=tmp_path, model=again)
    assert (tmp_path / "state.json").is_file()
