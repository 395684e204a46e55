"""A probe that is kept learns from validation images last, and everything that asks who learned from what knows it."""

from types import SimpleNamespace

import numpy as np
import pytest
from keras_transfer_tests import SMALL

from keras_transfer.features import extract
from keras_transfer.heads import add_head, split_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.tasks.transfer import Seen, Transferred, refit_probe_kept
from keras_transfer.training.probe import fit_probe, refit_probe
from keras_transfer.workflow.evaluate import evaluate, run_table
from keras_transfer.workflow.export import _as_learned
from keras_transfer.workflow.train import train


@pytest.fixture(scope="module")
def unrefitted(photo_folder, tmp_path_factory):
    return train(
        photo_folder, tmp_path_factory.mktemp("plain") / "run", strategy="probe", refit=False, **SMALL
    )


def cached(run):
    """Table, features of all its images from the cache, and an empty head on the run's network."""
    table, model = run_table(run), run.load_model()
    pixels = Preprocessing.from_dict(run.info["preprocessing"])
    found = extract(table, split_head(model)[0], preprocessing=pixels, engine="keras")
    return table, found.values, pixels, model


@pytest.mark.slow
def test_the_head_is_the_probe_of_training_and_validation_images_and_never_of_test_images(
    finished_run, unrefitted
):
    table, features, pixels, model = cached(finished_run)
    train_rows, val = table.indices("train"), table.indices("val")
    notes = finished_run.info["training"]
    assert notes["refit"] == {"images": 32, "train": 26, "val": 6}
    blind = features.copy()
    blind[table.indices("test")] = np.nan  # scikit-learn refuses a NaN that it is given
    fresh = add_head(split_head(model)[0], 2)
    first = fit_probe(fresh, blind, table.labels, train=train_rows, val=val)
    assert first.trials == notes["probe"]["trials"] and first.c == notes["probe"]["C"]
    for a, b in zip(
        fresh.get_layer("logits").get_weights(),
        unrefitted.load_model().get_layer("logits").get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    refit_probe(fresh, blind, table.labels, rows=np.concatenate([train_rows, val]), c=first.c)
    for a, b in zip(
        fresh.get_layer("logits").get_weights(), model.get_layer("logits").get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    images = np.stack([table.images.load(row, pixels) for row in range(8)])
    logits = np.asarray(split_head(model)[1](features[:8]))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(images)), chances, atol=1e-5)


@pytest.mark.slow
def test_who_measures_on_validation_images_is_told_that_they_were_learned_from(finished_run, unrefitted):
    assert finished_run.learned_from == ("train", "val") and unrefitted.learned_from == ("train",)
    assert evaluate(finished_run, split="val")["trained_on"] == 6
    assert evaluate(unrefitted, split="val")["trained_on"] == 0
    table = run_table(finished_run)
    assert len(_as_learned(finished_run, table).indices("val")) == 0
    assert len(_as_learned(unrefitted, table).indices("val")) == 6
    assert len(_as_learned(finished_run, table).indices("test")) == 8


@pytest.mark.slow
def test_without_test_images_validation_images_are_the_measure_and_are_not_learned_from(
    photo_folder, tmp_path
):
    run = train(photo_folder, tmp_path / "run", strategy="probe", test_fraction=0.0, **SMALL)
    assert run.info["training"]["refit"]["images"] == 0 and run.learned_from == ("train",)
    assert list(run.info["metrics"]) == ["val"]


def asked(strategy, kept=None, *, refit=True, val=3, test=2, strength=0.5):
    """Whether the probe is fitted again, what is noted of it, and what is said."""
    splits = {"train": 5, "val": val, "test": test}
    data = SimpleNamespace(
        indices=lambda split: np.arange(splits[split]), labels=np.zeros(10), weights=np.ones(10)
    )
    said, fitted = [], []
    context = SimpleNamespace(
        settings=SimpleNamespace(fit=SimpleNamespace(refit=refit)),
        say=said.append,
    )
    rows = np.arange(5 + val)
    done = Transferred(
        SimpleNamespace(name=strategy),
        {"guard": {"kept": kept}} if kept else {},
        seen=None if strategy == "scratch" else Seen(np.zeros((len(rows), 2)), rows),
    )

    def fit(model, features, labels, **given):
        fitted.append((len(features), given["c"], len(given["sample_weight"])))

    refit_probe_kept(done, context, fit, None, data, c=strength)
    assert fitted in ([], [(5 + val, strength, 5 + val)])
    return bool(fitted), done.notes.get("refit"), said


def test_only_a_probe_that_is_kept_is_fitted_again():
    assert asked("probe")[:2] == (True, {"images": 8, "train": 5, "val": 3})
    assert asked("finetune", "probe")[0]
    assert asked("finetune", "fine-tuned") == (False, None, [])
    assert asked("scratch") == (False, None, [])
    assert asked("probe", refit=False) == (False, None, [])
    assert asked("probe", val=0) == (False, None, [])
    assert len(asked("probe")[2]) == 1 and "from before" in asked("probe")[2][0]
    assert asked("probe", strength=None) == (False, None, [])
    assert not asked("probe", test=0)[0] and "measure" in asked("probe", test=0)[1]["why"]
