"""How ``auto`` decides, from the number of training images alone, and what it says."""

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.settings import FitSettings, GradientSettings
from keras_transfer.training.strategy import choose


@pytest.fixture(scope="module")
def table(photo_folder):
    return load_data(photo_folder, val_fraction=0.0, test_fraction=0.0)


def of(table, *counts):
    """The same real images, repeated until each class has so many training images."""
    rows = [np.resize(np.flatnonzero(table.labels == label), count) for label, count in enumerate(counts)]
    return table.take(np.concatenate(rows))


def chosen(table, **fit):
    return choose(FitSettings(**fit), GradientSettings(), table)


@pytest.mark.parametrize(
    ("count", "name", "rule"),
    [(199, "probe", "none"), (200, "finetune", "30%"), (1999, "finetune", "30%"), (2000, "full", "all")],
)
def test_the_number_of_images_decides_and_is_said(table, count, name, rule):
    strategy = chosen(of(table, count, count))
    assert (strategy.name, strategy.rule) == (name, rule)
    assert (
        f"{count} training images in the median class" in strategy.why and "docs/training.md" in strategy.why
    )


def test_the_median_class_counts_and_only_training_images_do(table):
    assert chosen(of(table, 20, 600)).name == "finetune"  # the median of 20 and 600 is 310
    held_out = load_data(table.source, val_fraction=0.5, test_fraction=0.0)
    assert (
        f"{int(np.median(np.bincount(held_out.labels[held_out.indices('train')])))} training"
        in chosen(held_out).why
    )


def test_what_was_asked_for_is_done(table):
    many = of(table, 2000, 2000)
    assert chosen(many, strategy="probe").why == "asked for"
    assert chosen(many, strategy="finetune", unfreeze="blocks:2").rule == "blocks:2"
    assert chosen(many, deploy="int8").name == "probe"
    taught = chosen(of(table, 20, 20), teacher="run")
    assert taught.name == "finetune" and "teacher" in taught.why


def test_the_optimizer_has_its_own_rate(table):
    few = of(table, 20, 20)
    adamw = choose(FitSettings(strategy="full"), GradientSettings(), few).learning_rate
    sgd = choose(FitSettings(strategy="full"), GradientSettings(optimizer="sgd"), few).learning_rate
    assert (adamw, sgd) == (2e-4, pytest.approx(4e-3))
    assert choose(FitSettings(strategy="scratch"), GradientSettings(), few).learning_rate == 1e-3
    given = GradientSettings(optimizer="sgd", learning_rate=0.5)
    assert choose(FitSettings(strategy="full"), given, few).learning_rate == 0.5
