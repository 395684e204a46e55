"""Episodes, verification, retrieval and open set against their definitions, and what cannot be measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.episodes import (
    Episodes,
    Likeness,
    Setting,
    accuracies,
    draw_episodes,
    fitting,
    interval,
)
from keras_transfer_siamese.metrics import Compared, Protocol, _writers, measure, require_possible, thinned
from keras_transfer_siamese.retrieval import open_set, retrieval
from keras_transfer_siamese.verification import Roc, pairs

from keras_transfer.data.table import ArrayImages, ImageTable, PathImages
from keras_transfer.errors import DataError, UsageError

COMPARISONS = [
    Comparison("cosine"),
    Comparison("euclidean"),
    Comparison("weighted_l1", np.linspace(0, 1, 6).astype(np.float32), 0.5),
]


def points(sizes, spread, seed=0, width=6):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return (
        rng.normal(size=(len(sizes), width))[labels] + spread * rng.normal(size=(len(labels), width))
    ).astype(np.float32), labels


def table(labels, names=None):
    count = len(labels)
    return ImageTable(
        source="arrays",
        images=ArrayImages(np.zeros((count, 2, 2), np.uint8), np.arange(count)),
        label_mode="classes",
        classes=names or tuple(f"c{i}" for i in range(labels.max() + 1)),
        labels=labels.astype(np.int32),
        splits=np.full(count, "test"),
        groups=None,
        weights=np.ones(count, np.float32),
        sha256=tuple(map(str, range(count))),
    )


def slow_accuracy(x, comparison, episodes):
    found = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        right = []
        for way, rows in enumerate(query):
            for row in rows:
                if comparison.kind == "weighted_l1":
                    likeness = [comparison.scores(x[[row]], x[members]).mean() for members in support]
                else:
                    unit = x / np.linalg.norm(x, axis=1, keepdims=True) if comparison.kind == "cosine" else x
                    prototypes = np.stack([unit[members].mean(axis=0) for members in support])
                    likeness = comparison.scores(unit[[row]], prototypes)[0]
                right.append(int(np.argmax(likeness)) == way)
        found.append(np.mean(right))
    return np.array(found)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda one: one.kind)
@pytest.mark.parametrize("shots", [1, 3])
def test_an_episode_is_what_the_papers_say(comparison, shots):
    x, labels = points([6, 5, 9, 7, 6], 0.9)
    episodes = draw_episodes(labels, Setting(4, shots), 20, 0)
    fast = accuracies(Likeness(x, comparison), episodes)
    assert fast == pytest.approx(slow_accuracy(x, comparison, episodes))
    assert 0.3 < fast.mean() < 1


@given(
    sizes=st.lists(st.integers(1, 8), min_size=3, max_size=8), shots=st.integers(1, 3), seed=st.integers(0, 9)
)
def test_support_and_query_are_different_images_of_one_class(sizes, shots, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    usable = sum(size > shots for size in sizes)
    if usable < 2:
        with pytest.raises(DataError, match="Ask for fewer"):
            draw_episodes(labels, Setting(2, shots), 5, seed)
        return
    episodes = draw_episodes(labels, Setting(usable, shots), 5, seed)
    assert episodes.support.shape == (5, usable, shots)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        both = np.concatenate([support, query], axis=1)
        assert len(np.unique(both)) == both.size
        assert (labels[both] == labels[both][:, :1]).all()
        assert len(np.unique(labels[support[:, 0]])) == usable
    again = draw_episodes(labels, Setting(usable, shots), 5, seed)
    assert np.array_equal(episodes.support, again.support) and np.array_equal(episodes.query, again.query)


def test_the_omniglot_protocol_stays_in_one_alphabet_and_changes_the_writer():
    alphabets = np.repeat(["greek", "thai"], 30)
    labels = np.repeat(np.arange(20), 3)
    writers = np.tile(["01", "02", "03"], 20)
    episodes = draw_episodes(labels, Setting(10, 1), 50, 0, alphabets=alphabets, writers=writers)
    for support, query in zip(episodes.support[..., 0], episodes.query[..., 0], strict=True):
        assert len(set(alphabets[support]) | set(alphabets[query])) == 1
        assert len(set(writers[support])) == len(set(writers[query])) == 1
        assert writers[support[0]] != writers[query[0]]
    with pytest.raises(DataError, match="No alphabet has 11 classes"):
        draw_episodes(labels, Setting(11, 1), 5, 0, alphabets=alphabets)
    with pytest.raises(UsageError, match="one-shot"):
        draw_episodes(labels, Setting(5, 2), 5, 0, alphabets=alphabets)


@pytest.mark.parametrize(
    ("names", "writers"),
    [
        (["0001_07.png", "0001_08.png"], ["07", "08"]),
        (["greek/small_alpha_w-1.png", "greek/small_alpha_w-2.png"], ["w-1", "w-2"]),
        (["0001_07.png", "0002.png"], None),
        (["0001_.png", "0001_.png"], None),
    ],
)
def test_the_writer_stands_behind_the_last_underscore(names, writers):
    images = PathImages(Path(), tuple(names))
    found = _writers(replace(table(np.zeros(len(names), np.int64)), images=images))
    assert (found is None) if writers is None else (found.tolist() == writers)


@pytest.mark.parametrize("text", ["20", "x1", "20x0", "1x1", "20 x 1", "axb"])
def test_settings_of_episodes_are_understood_or_refused(text):
    assert Setting.parse("20x5") == Setting(20, 5)
    with pytest.raises(UsageError, match="WAYSxSHOTS"):
        Setting.parse(text)


def test_defaults_shrink_and_what_is_asked_for_does_not():
    labels = np.repeat(np.arange(4), [3, 3, 2, 1])
    assert fitting([Setting(20, 1), Setting(20, 5)], labels) == [Setting(3, 1), Setting(2, 2)]
    with pytest.raises(DataError, match="4 classes, 3 of them"):
        draw_episodes(labels, Setting(4, 1), 5, 0)
    with pytest.raises(DataError, match="at least two classes with at least two"):
        fitting([Setting(5, 1)], np.array([0, 0, 1, 2]))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        mean, half = interval(rng.random(300) < 0.7)
        inside += abs(mean - 0.7) <= half
    assert 180 <= inside <= 199


def test_thresholds_mean_what_they_say():
    rng = np.random.default_rng(0)
    same = rng.random(20000) < 0.3
    scores = rng.normal(size=20000) + 1.5 * same
    roc = Roc.of(scores, same)
    error, threshold = roc.equal_error
    assert np.mean(scores[~same] >= threshold) == pytest.approx(error, abs=2e-3)
    assert np.mean(scores[same] < threshold) == pytest.approx(error, abs=2e-3)
    assert roc.auc == pytest.approx(0.856, abs=0.01)  # Phi(1.5 / sqrt(2))
    for rate in (0.1, 0.01, 0.001):
        accepted, at = roc.at_false_accepts(rate)
        assert np.mean(scores[~same] >= at) <= rate
        assert np.mean(scores[same] >= at) == pytest.approx(accepted)
        assert roc.at_threshold(at) == pytest.approx((np.mean(scores[~same] >= at), accepted))
    assert Roc.of(scores[:600], same[:600]).at_false_accepts(0.001) is None  # too few pairs to tell
    assert Roc.of(scores[same], same[same]) is None


def test_equal_scores_accept_nobody_rather_than_everybody():
    roc = Roc.of(np.zeros(400), np.arange(400) < 200)
    accepted, threshold = roc.at_false_accepts(0.1)
    assert accepted == 0 and threshold > 0


def test_retrieval_is_leave_one_out():
    x = np.array([[0.0], [0.1], [1.0], [1.2], [5.0]], np.float32)
    labels = np.array([0, 0, 1, 0, 1])
    found = retrieval(Comparison("euclidean").scores(x, x), labels)
    # by image: 0 -> 1 (right), 1 -> 0 (right), 2 -> 3 (wrong), 3 -> 2 (wrong), 4 -> 3 (wrong)
    assert found["recall_at_1"] == pytest.approx(2 / 5)
    assert found["recall_at_5"] == 1
    firsts = [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 1 / 4, (1 / 2 + 2 / 3) / 2, 1 / 2]
    assert found["mean_average_precision"] == pytest.approx(np.mean(firsts))
    assert retrieval(np.eye(3), np.arange(3))["recall_at_1"] is None


def test_strangers_are_told_apart_by_good_embeddings_and_not_by_noise():
    good, labels = points([8] * 10, 0.05)
    bad = np.random.default_rng(1).normal(size=good.shape).astype(np.float32)
    clear, noise = (open_set(Comparison().scores(x, x), labels, 0) for x in (good, bad))
    assert clear["auroc"] > 0.95 and clear["identified_at_false_alarms"]["0.1"] > 0.9
    assert 0.4 < noise["auroc"] < 0.6
    curve = clear["curve"]
    assert curve["identified"] == sorted(curve["identified"])


def test_collapsed_embeddings_are_worth_chance():
    _, labels = points([6] * 5, 0)
    measured = measure(np.ones((30, 4), np.float32), table(labels), Comparison(), Protocol(episodes=200))
    assert measured["one_shot_accuracy"] == pytest.approx(0.2)
    assert measured["verification_auc"] == pytest.approx(0.5, abs=0.02)


def test_embeddings_that_are_no_numbers_are_refused():
    x, labels = points([4, 4], 0.1)
    x[5, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 8 embeddings.*\[5\]"):
        measure(x, table(labels), Comparison(), Protocol())


def test_a_large_set_is_thinned_evenly_and_alike():
    labels = np.repeat(np.arange(3), [5000, 100, 10])
    rows = thinned(labels, 300, 0)
    assert np.bincount(labels[rows]).tolist() == [190, 100, 10]
    assert np.array_equal(rows, thinned(labels, 300, 0))


@pytest.mark.slow
def test_a_thousand_episodes_take_seconds():
    import time

    x, labels = points([20] * 40, 1.0, width=64)
    started = time.process_time()
    measure(x, table(labels), Comparison(), Protocol())
    assert time.process_time() - started < 20


def test_pairs_are_each_pair_once():
    scores, same = pairs(np.arange(16).reshape(4, 4), np.array([0, 1, 0, 1]))
    assert scores.tolist() == [1, 2, 3, 6, 7, 11]
    assert same.tolist() == [False, True, False, False, True, False]


def test_episodes_know_their_setting():
    assert Episodes(np.zeros((3, 5, 2), int), np.zeros((3, 5, 1), int)).setting == Setting(5, 2)


def test_what_cannot_be_measured_is_known_before_anything_is_trained():
    few = table(np.repeat(np.arange(4), 3))
    for settings in ((), (Setting(4, 2),)):
        require_possible(few, Protocol(settings))
    with pytest.raises(DataError, match="5 ways and 1 shots need 5 classes"):
        require_possible(few, Protocol((Setting(5, 1),)))
    with pytest.raises(DataError, match="No alphabet has 20 classes"):
        require_possible(few, Protocol(omniglot=True))
    with pytest.raises(UsageError, match="one-shot; 20x5"):
        Protocol((Setting(20, 5),), omniglot=True)


def test_thresholds_of_other_classes_are_judged_on_these():
    x, labels = points([20] * 6, 0.5)
    measured = measure(
        x, table(labels), Comparison(), Protocol(episodes=2), {"0.1": 0.5, "0.01": 0.9, "0.001": None}
    )
    found = measured["at_chosen_thresholds"]
    assert set(found) == {"0.1", "0.01"}
    compared = Compared.of(x, table(labels), Comparison(), 0)
    scores, same = pairs(compared.scores, compared.labels)
    for row in found.values():
        accepted = scores >= row["threshold"]
        assert row["true_accept_rate"] == pytest.approx(accepted[same].mean())
        assert row["false_accept_rate"] == pytest.approx(accepted[~same].mean())
    assert found["0.1"]["false_accept_rate"] > found["0.01"]["false_accept_rate"] > 0
