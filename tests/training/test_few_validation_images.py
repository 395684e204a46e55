"""What is chosen on validation images when these are none, one, a handful, of one class, or lack one."""

import json
import math

import keras
import numpy as np
import pytest

from keras_transfer.errors import DataError
from keras_transfer.heads import add_head
from keras_transfer.training.choosing import ENOUGH
from keras_transfer.training.embedding_heads import KINDS, fit_embedding_head
from keras_transfer.training.guard import FEW, LEAST, Verdict, deciding, paired_verdict
from keras_transfer.training.multilabel_probe import best_threshold, fit_multilabel_probe, tuned_thresholds
from keras_transfer.training.probe import fit_probe
from keras_transfer.training.regression_probe import fit_regression_probe
from keras_transfer.training.temperature import PRIOR, fit_temperature

TRAIN, OTHERS = np.arange(120), np.arange(120, 240)
NONE = np.arange(0)


def clouds(classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, 240)
    return (rng.normal(size=(classes, 12))[y] + 1.5 * rng.normal(size=(240, 12))).astype("float32"), y


def bare(dimensions):
    features = keras.Input((dimensions,))
    return keras.Model(features, keras.layers.Identity()(features))


def head(dimensions, outputs, activation="softmax"):
    return add_head(bare(dimensions), outputs, activation=activation)


def few(y):
    """Validation rows that tell nothing, by what is wrong with them."""
    return {
        "one": OTHERS[:1],
        "a handful": OTHERS[: ENOUGH - 1],
        "one class": np.flatnonzero(y == 0)[np.flatnonzero(y == 0) >= 120],
    }


@pytest.mark.slow
@pytest.mark.parametrize("what", ["one", "a handful", "one class"])
def test_too_few_images_do_not_choose_the_probes_strength(what):
    """One image answered right calls for the weakest regularisation there is, one answered wrong for the strongest."""
    x, y = clouds()
    rows = few(y)[what]
    assert len(rows) == {"one": 1, "a handful": ENOUGH - 1}.get(what, len(rows)) and len(rows)
    models = [head(12, 3), head(12, 3)]
    found = [fit_probe(models[i], x, y, train=TRAIN, val=(rows, NONE)[i]) for i in range(2)]
    assert found[0].chosen_on == "cross-validation" and found[0] == found[1]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    enough = fit_probe(head(12, 3), x, y, train=TRAIN, val=OTHERS[:ENOUGH])
    assert enough.chosen_on == "validation"


@pytest.mark.slow
def test_validation_images_of_a_class_without_training_images_choose_nothing():
    x, y = clouds()
    train, val = TRAIN[y[TRAIN] != 2], np.resize(OTHERS[y[OTHERS] == 2], ENOUGH)
    result = fit_probe(head(12, 3), x, y, train=train, val=val)
    assert result.chosen_on == "cross-validation"
    assert all(math.isfinite(value) for trial in result.trials for value in trial.values())


def test_a_class_that_no_validation_image_shows_is_learned_all_the_same():
    x, y = clouds()
    model = head(12, 3)
    result = fit_probe(model, x, y, train=TRAIN, val=OTHERS[y[OTHERS] != 2])
    assert result.chosen_on == "validation"
    assert (model.predict(x[OTHERS], verbose=0).argmax(axis=1) == 2).sum() > 10


@pytest.mark.slow
def test_a_class_of_one_image_is_learned_in_every_fold_and_one_image_of_each_needs_a_validation_image():
    x, y = clouds()
    firsts = np.array([np.flatnonzero(y == one)[0] for one in range(3)])
    train = np.append(TRAIN[y[TRAIN] != 2], firsts[2])
    model = head(12, 3)
    assert fit_probe(model, x, y, train=train, val=NONE).chosen_on == "cross-validation"
    assert np.isfinite(model.predict(x, verbose=0)).all()
    with pytest.raises(DataError, match="Add images"):
        fit_probe(head(12, 3), x, y, train=firsts, val=NONE)
    assert fit_probe(head(12, 3), x, y, train=firsts, val=OTHERS[:1]).chosen_on == "validation"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_too_few_images_do_not_choose_another_heads_setting(kind):
    x, y = clouds()
    extractor = bare(12)

    def fit(val):
        return fit_embedding_head(extractor, kind, x, y, 3, train=TRAIN, val=val)

    crossed = fit(NONE)
    for rows in few(y).values():
        found = fit(rows)
        assert found.chosen_on == "cross-validation" and found.chosen == crossed.chosen
    assert fit(OTHERS[:ENOUGH]).chosen_on == "validation"


@pytest.mark.slow
def test_too_few_images_do_not_choose_for_labels_and_numbers():
    x, y = clouds()
    several = np.eye(3, dtype="uint8")[y]
    found = [
        fit_multilabel_probe(head(12, 3, "sigmoid"), x, several, train=TRAIN, val=val)
        for val in (OTHERS[:1], NONE)
    ]
    assert found[0].chosen_on == "cross-validation" and found[0].c == found[1].c
    np.testing.assert_array_equal(found[0].thresholds, found[1].thresholds)
    targets = x[:, :1] + x[:, 1:2]
    numbers = [
        fit_regression_probe(head(12, 1, "linear"), x, targets, train=TRAIN, val=val)
        for val in (OTHERS[:1], NONE)
    ]
    assert numbers[0] == numbers[1] and numbers[0].chosen_on == "cross-validation"


def verdict_on(probe, tuned, labels):
    def accuracy(outputs, rows):
        return float(np.mean(outputs == labels[rows]))

    return paired_verdict(accuracy, np.array(probe), np.array(tuned), metric="accuracy", higher=True)


def test_one_more_right_of_four_is_chance_and_the_probe_stays():
    """As three of three are: a coin shows one face three times in a row once in four times."""
    labels = np.zeros(4, int)
    one_more = verdict_on([0, 0, 1, 1], [0, 0, 0, 1], labels)
    assert one_more.better and not one_more.keeps
    for count in (1, 3, LEAST - 1):
        all_of_them = verdict_on([1] * count, [0] * count, np.zeros(count, int))
        assert all_of_them.better and not all_of_them.certain and not all_of_them.keeps
    assert verdict_on([1] * LEAST, [0] * LEAST, np.zeros(LEAST, int)).keeps


def test_from_enough_images_on_a_better_one_is_kept_as_before():
    labels = np.zeros(FEW, int)
    probe, tuned = labels.copy(), labels.copy()
    probe[:2], tuned[:1] = 1, 1
    more, fewer = verdict_on(probe, tuned, labels), verdict_on(probe[:-1], tuned[:-1], labels)
    assert not more.certain and more.keeps
    assert fewer.better and not fewer.keeps


def test_a_metric_that_the_images_do_not_tell_leaves_the_probe_and_can_be_written_down():
    verdict = paired_verdict(
        lambda outputs, rows: math.nan, np.zeros(5), np.ones(5), metric="mean_average_precision", higher=True
    )
    assert deciding([verdict]).worse and not verdict.keeps and not verdict.certain
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["tuned"] is None
    assert "do not tell" in str(verdict)


def test_few_images_make_the_interval_wider_than_their_resamples():
    values = np.random.default_rng(0).normal(size=300)

    def width(count):
        """Over that of a normal distribution with the resamples' deviation; Student's t would be 1.29 for 8 images."""
        found = []
        for seed in range(10):
            verdict = paired_verdict(
                lambda outputs, rows: float(outputs.mean()),
                np.zeros(count),
                values[:count],
                metric="gain",
                higher=True,
                seed=seed,
            )
            found.append((verdict.high - verdict.low) / (3.92 * values[:count].std() / math.sqrt(count)))
        return np.mean(found)

    assert width(8) > 1.15
    assert width(300) == pytest.approx(1, abs=0.06)


def test_a_verdict_of_another_task_says_whether_it_is_certain():
    assert Verdict("one_shot_accuracy", 0.5, 0.9, 100, 0.3, 0.5, True).keeps


def test_a_threshold_stays_where_more_images_could_put_it():
    """One image that has the label, answered with 2 %, would give the label to almost all images."""
    learned = np.zeros((40, 3), "uint8")
    learned[:10, 0], learned[:20, 1] = 1, 1
    truth = np.zeros((3, 3), "uint8")
    truth[0, :2] = 1
    probabilities = np.array([[0.02, 0.9, 0.5], [0.01, 0.8, 0.5], [0.01, 0.8, 0.5]])
    assert best_threshold(probabilities[:, 0], truth[:, 0]) < 0.02
    assert best_threshold(probabilities[:, 1], truth[:, 1]) == pytest.approx(0.85)
    np.testing.assert_allclose(tuned_thresholds(probabilities, truth, learned), [0.2, 0.5, 0.5])
    timid = tuned_thresholds(probabilities, truth, learned, calibrated=False)
    np.testing.assert_allclose(timid, [0.2, 2 / 3, 0.5])


def test_a_label_that_no_training_image_has_is_not_given_to_all_because_a_validation_image_has_it():
    x, y = clouds()
    labels = np.eye(3, dtype="uint8")[y]
    labels[TRAIN, 2] = 0
    model = head(12, 3, "sigmoid")
    result = fit_multilabel_probe(model, x, labels, train=TRAIN, val=OTHERS)
    assert result.chosen_on == "validation" and result.thresholds[2] == 0.5
    assert not (model.predict(x, verbose=0)[:, 2] >= result.thresholds[2]).any()


def test_one_answer_that_is_wrong_by_a_hair_does_not_make_all_others_certain():
    """49 of 50 are right, and 99.3 % is what they were told to be: the likelihood alone says 99.9998 % of them."""
    logits = np.tile([5.0, 0.0], (50, 1))
    labels = np.zeros(50, int)
    logits[0] = [0.0, 0.001]
    alone, held = fit_temperature(logits, labels), fit_temperature(logits, labels, prior=PRIOR)
    assert alone < 0.4
    assert 0.75 < held <= 1.0
    assert fit_temperature(logits[1:4], labels[1:4], prior=PRIOR) == 1.0, "three right answers"


def test_many_images_outweigh_what_was_expected():
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(4000, 3))
    chance = np.exp(logits / 4) / np.exp(logits / 4).sum(axis=1, keepdims=True)
    labels = (rng.random(4000)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits, labels, prior=PRIOR) == pytest.approx(4, rel=0.06)
