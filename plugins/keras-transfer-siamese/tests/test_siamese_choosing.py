"""Few classes: the head is chosen on classes held out in turn, and learned from all of them."""

import numpy as np
import pytest
from keras_transfer_siamese import choosing
from keras_transfer_siamese.choosing import (
    Trial,
    can_fold,
    choose,
    choose_by_folds,
    few_classes,
    found_among,
    paired_trials,
)
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.heads import closed_forms
from keras_transfer_siamese.metrics import OneShot
from keras_transfer_siamese.verification import Roc, pairs

from keras_transfer.errors import DataError

LOUD = np.random.default_rng(7).normal(size=(6, 24))
"""Directions in which all images vary, whatever they show."""


def features(classes, each, seed):
    """Class means in all directions, images near them, and far from them in a few directions: whitening is best."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    x = rng.normal(size=(classes, 24))[labels] + 0.4 * rng.normal(size=(len(labels), 24))
    return (x + rng.normal(size=(len(labels), 6)) @ LOUD).astype(np.float32), labels


def directions(classes, each, seed):
    """Classes are directions from 0, images of any length along them: a mean or a root only distorts."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    means = rng.normal(size=(classes, 4))
    x = 0.2 * rng.normal(size=(len(labels), 24))
    x[:, :4] += 3 * (means / np.linalg.norm(means, axis=1, keepdims=True))[labels]
    return (x * rng.uniform(0.3, 3, size=(len(labels), 1))).astype(np.float32), labels


def accuracy(form, x, labels):
    """One-shot in 300 episodes."""
    return OneShot.draw(labels, 300, 0).accuracies(form.embed(x), Comparison()).mean()


def chosen_from(x, labels, kind="cosine"):
    return choose_by_folds(x, labels, 16, kind, 0)


@pytest.mark.parametrize("classes", [6, 14])
def test_where_raw_features_are_best_they_are_taken(classes):
    assert chosen_from(*directions(classes, 4, 0)).chosen.head == "raw"


@pytest.mark.parametrize(("classes", "kind"), [(6, "cosine"), (14, "euclidean")])
def test_where_whitening_is_best_it_is_taken(classes, kind):
    x, labels = features(classes, 8, 0)
    choice = chosen_from(x, labels, kind)
    assert choice.chosen.head.endswith("wccn")
    new = features(20, 8, 1)
    raw = closed_forms(x, labels, 16, "raw")[0]
    assert accuracy(choice.fit(x, labels, 16), *new) > accuracy(raw, *new) + 0.1


def test_the_winner_is_learned_from_all_classes():
    x, labels = features(10, 8, 0)
    choice = chosen_from(x, labels)
    form = choice.fit(x, labels, 16)
    (same,) = [
        one
        for one in closed_forms(x, labels, 16)
        if (one.name, one.asked) == (choice.chosen.head, choice.chosen.shrinkage)
    ]
    assert np.array_equal(form.kernel, same.kernel)
    assert form.mean == pytest.approx(x.mean(axis=0), abs=1e-4)
    assert choice.classes == 10


@pytest.mark.parametrize(
    ("classes", "folds", "most"), [(4, 6, 2), (5, 10, 2), (10, 45, 2), (11, 20, 3), (20, 24, 4), (40, 24, 7)]
)
def test_every_class_is_held_out_as_often_and_never_learned_from_then(classes, folds, most):
    labels = np.repeat(np.arange(classes), 3)
    found = list(choosing._folds(labels, 0))
    assert len(found) == folds
    for learn, held in found:
        assert not set(labels[learn]) & set(labels[held]) and len(learn) + len(held) == len(labels)
        assert 2 <= len(set(labels[held])) <= most
    times = np.bincount(np.concatenate([held for _, held in found]), minlength=len(labels))
    assert set(times) == {classes - 1 if classes <= 10 else choosing.DIVISIONS}
    together = {tuple(np.unique(labels[held]).tolist()) for _, held in found}
    assert len(together) >= 0.9 * folds  # divided anew


def test_the_standard_error_counts_classes():
    rng = np.random.default_rng(0)
    table = np.stack([np.full(25, 0.9), 0.8 + rng.normal(0, 0.1, 25)])
    best, other = paired_trials([("raw", None), ("wccn", 0.3)], table)
    assert (best.behind, best.error) == (0, 0) and other.score == pytest.approx(table[1].mean())
    assert other.behind == pytest.approx((table[0] - table[1]).mean())
    assert other.error == pytest.approx(np.std(table[1], ddof=1) / 5)
    # Heads that go up and down with the same classes are compared class by class.
    shared = rng.uniform(0, 1, 25)
    _, near = paired_trials([("raw", None), ("wccn", 0.3)], np.stack([shared, shared - 0.01]))
    assert near.behind == pytest.approx(0.01) and near.error == pytest.approx(0, abs=1e-12)


def test_a_simpler_head_within_the_interval_is_preferred():
    def trial(head, score, error=0.02, shrinkage=None):
        return Trial(head, shrinkage, score, 0.9 - score, error)

    best, raw = trial("wccn", 0.9, 0, 0.3), trial("raw", 0.896)
    assert choose([raw, best])[0] is raw
    assert choose([raw, best], within=0)[0] is best
    assert choose([trial("raw", 0.8), trial("centred", 0.896), best])[0].head == "centred"
    # Among the matrices the best is taken: none is simpler than another.
    assert choose([trial("wccn", 0.896, shrinkage="auto"), best])[0] is best
    assert choose([raw, best])[1] is best


def test_the_score_is_the_mean_over_all_draws():
    rng = np.random.default_rng(0)
    labels = np.array([1, 0, 0, 0, 1, 2, 2, 2, 2])
    scores = rng.normal(size=(9, 9))
    for ways in (2, 4):
        found = found_among(scores, labels, ways)
        for query in (0, 3, 8):
            own = [i for i in np.flatnonzero(labels == labels[query]) if i != query]
            first, second = (np.flatnonzero(labels == label) for label in set(labels) - {labels[query]})
            # Each other class as often, whatever its size.
            beaten = [
                (
                    np.mean(scores[query, a] > scores[query, first])
                    + np.mean(scores[query, a] > scores[query, second])
                )
                / 2
                for a in own
            ]
            assert found[query] == pytest.approx(np.mean(np.power(beaten, ways - 1)))
    assert found_among(np.zeros((4, 4)), np.array([0, 0, 1, 1]), 2) == pytest.approx(0.5)


def test_the_threshold_is_that_of_classes_not_learned_from():
    x, labels = features(16, 6, 1)
    choice = chosen_from(x, labels)
    assert choice.roc.same == 16 * 15  # every pair of a class once, however many folds hold it out
    assert 36 * 16 < choice.roc.different <= 36 * 16 * 15 / 2
    form = choice.fit(x, labels, 16)
    roc, learned = (
        Roc.of(*pairs(Comparison().scores(e, e), names))
        for e, names in ((form.embed(one), names) for one, names in (features(40, 6, 101), (x, labels)))
    )

    def errors(threshold):
        """False accepts and false rejects on 40 new classes."""
        accepted, found = roc.at_threshold(threshold)
        return accepted, 1 - found

    accepted, rejected = errors(choice.roc.equal_error[1])
    assert abs(accepted - rejected) < 0.05
    accepted, rejected = errors(learned.equal_error[1])
    assert (
        rejected - accepted > 0.05
    )  # images of classes that were learned are more alike than those of new ones


def test_each_pair_is_scored_by_a_head_that_has_learned_from_neither_class():
    x, labels = features(6, 4, 0)
    choice = chosen_from(x, labels)
    rest, held = labels > 1, labels < 2
    wanted = (choice.chosen.head, choice.chosen.shrinkage)
    (form,) = [one for one in closed_forms(x[rest], labels[rest], 16) if (one.name, one.asked) == wanted]
    embeddings = form.embed(x[held])
    for score in Comparison().scores(embeddings, embeddings)[:4, 4:].ravel():  # classes 0 and 1
        assert np.abs(choice.roc.thresholds - score).min() < 1e-6


def test_few_images_and_classes_of_one_image():
    x, labels = features(9, 2, 0)
    assert chosen_from(x, labels).classes == 9
    x, labels = features(8, 4, 0)
    alone, names = features(5, 1, 1)
    choice = chosen_from(np.concatenate([x, alone]), np.concatenate([labels, 8 + names]))
    assert choice.classes == 8 and choice.roc.same == 8 * 6 and choice.roc.different == 8 * 7 / 2 * 16
    for learn, held in choosing._folds(np.concatenate([labels, 8 + names]), 0):
        assert set(range(len(x), len(x) + 5)) <= set(learn) and held.max() < len(x)


def test_how_many_classes_folds_need():
    for several, enough in ((2, False), (3, False), (4, True)):
        labels = np.concatenate([np.repeat(np.arange(several), 3), 100 + np.arange(9)])
        assert can_fold(labels) == enough and few_classes(labels)
    assert chosen_from(*features(4, 5, 0)).classes == 4
    assert few_classes(np.repeat(np.arange(59), 2)) and not few_classes(np.repeat(np.arange(60), 2))


def test_features_that_tell_nothing():
    labels = np.repeat(np.arange(6), 4)
    with pytest.raises(DataError, match=r"All 24 images have the same features.*--weights"):
        chosen_from(np.ones((24, 8), np.float32), labels)
    # Images of one class alike to the last bit: nothing varies that could be taken out.
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)[labels]
    choice = chosen_from(x, labels)
    assert choice.chosen.head == "raw" and choice.chosen.score == 1
    assert {trial.head for trial in choice.trials} == {"raw", "centred", "power", "power+centred"}
    with pytest.raises(DataError, match="--head wccn learns how images of one class differ"):
        closed_forms(x, labels, 4, "wccn")


@pytest.mark.slow
def test_lda_is_tried_from_thirty_classes_on():
    for classes, tried in ((29, False), (30, True)):
        trials = chosen_from(*features(classes, 2, 0)).trials
        assert any("lda" in trial.head for trial in trials) == tried


@pytest.mark.slow
def test_one_seed_fixes_the_choice_and_more_images_than_are_looked_at_are_thinned(monkeypatch):
    x, labels = features(12, 6, 0)
    first, second = chosen_from(x, labels), chosen_from(x, labels)
    assert first.trials == second.trials and first.roc.equal_error == second.roc.equal_error
    assert first.trials != choose_by_folds(x, labels, 16, "cosine", 1).trials
    monkeypatch.setattr(choosing, "MOST", 36)
    assert chosen_from(x, labels).roc.same == 12 * 3  # three images of each class
