"""The guard: the same images, the same metric, in pairs."""

import numpy as np
import pytest

from keras_transfer.training.guard import Verdict, deciding, paired_verdict


def accuracy(labels):
    return lambda outputs, rows: float(np.mean(outputs == labels[rows]))


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 2, 300)


def wrong(labels, count):
    outputs = labels.copy()
    outputs[:count] = 1 - outputs[:count]
    return outputs


def test_a_clear_gain_is_certain_and_a_small_one_is_within_chance(labels):
    clear = paired_verdict(
        accuracy(labels), wrong(labels, 60), wrong(labels, 20), metric="accuracy", higher=True
    )
    assert clear.better and clear.low > 0 and "certain" in str(clear)
    small = paired_verdict(
        accuracy(labels), wrong(labels, 21), wrong(labels, 20), metric="accuracy", higher=True
    )
    assert small.better and small.low <= 0 and "within chance" in str(small)


def test_equal_is_not_better_and_lower_may_be(labels):
    same = paired_verdict(
        accuracy(labels), wrong(labels, 9), wrong(labels, 9), metric="accuracy", higher=True
    )
    assert not same.better and (same.low, same.high) == (0.0, 0.0)
    loss = paired_verdict(
        lambda o, r: float(np.mean(o)), np.full(9, 2.0), np.full(9, 1.0), metric="loss", higher=False
    )
    assert loss.better


def test_pairs_make_the_interval_narrow(labels):
    """Two models that differ on ten images of 300: unpaired, chance would be several times wider."""
    verdict = paired_verdict(
        accuracy(labels), wrong(labels, 50), wrong(labels, 40), metric="accuracy", higher=True
    )
    unpaired = 1.96 * np.sqrt(2 * 0.15 * 0.85 / 300)
    assert verdict.high - verdict.low < unpaired


def test_the_same_seed_gives_the_same_interval(labels):
    arguments = (accuracy(labels), wrong(labels, 30), wrong(labels, 25))
    first, again = (paired_verdict(*arguments, metric="accuracy", higher=True, seed=3) for _ in range(2))
    assert first == again


def test_the_main_metric_decides_unless_a_finer_one_is_more_certain():
    def verdict(metric, tuned, low, high, higher=True):
        return Verdict(metric, 0.5, tuned, 100, low, high, tuned > 0.5 if higher else tuned < 0.5)

    sure, unsure = verdict("accuracy", 0.6, 0.05, 0.15), verdict("accuracy", 0.52, -0.02, 0.06)
    tie = verdict("accuracy", 0.5, -0.03, 0.03)
    worse, maybe_worse = (
        verdict("log_loss", 0.7, 0.1, 0.3, False),
        verdict("log_loss", 0.51, -0.1, 0.1, False),
    )
    assert deciding([sure]) is sure and deciding([unsure]) is unsure
    assert deciding([unsure, worse]) is worse and not worse.better
    assert deciding([unsure, maybe_worse]) is unsure and unsure.better
    assert deciding([tie, maybe_worse]) is maybe_worse
    same = verdict("log_loss", 0.5, -0.1, 0.1, False)
    assert deciding([tie, same]) is tie and not tie.better
    lower = verdict("accuracy", 0.48, -0.06, 0.02)
    surely_better = verdict("log_loss", 0.3, -0.3, -0.1, False)
    assert lower.worse and not tie.worse and not unsure.worse
    assert deciding([unsure, surely_better]) is surely_better is deciding([tie, surely_better])
    assert deciding([lower, surely_better]) is lower and not lower.better, "never worse on the main metric"
