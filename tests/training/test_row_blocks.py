"""A probe on a table that lies on the disk: the head that the same table in memory gives, and no class is forgotten."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_transfer.heads import LOGITS, add_head
from keras_transfer.training import probe, row_blocks
from keras_transfer.training.row_blocks import StandardisedBlocks
from keras_transfer.training.standardising import standardisation

COUNT, FEATURES = 600, 20


def table(classes, seed=0):
    """Overlapping clouds far from 0, whose axes differ in scale by a factor of a hundred."""
    rng = np.random.default_rng(seed)
    labels = np.arange(COUNT) % classes
    centres = rng.normal(size=(classes, FEATURES))
    x = (3 + centres[labels] + rng.normal(size=(COUNT, FEATURES))) * np.logspace(-1, 1, FEATURES)
    return x.astype(np.float32), labels


@pytest.fixture
def on_disk(tmp_path):
    def put(x):
        path = tmp_path / "features.npy"
        np.save(path, x)
        return np.load(path, mmap_mode="r")

    return put


def classifier(classes):
    features = keras.Input((FEATURES,))
    return add_head(keras.Model(features, keras.layers.Identity()(features)), classes)


@pytest.mark.parametrize("rows", [np.arange(100, 400), np.arange(0, 600, 3)], ids=["joined", "scattered"])
def test_products_are_those_of_standardised_rows(rows, on_disk, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK", 64)
    x, _ = table(3)
    weight = np.random.default_rng(1).uniform(0.2, 2.0, len(rows))
    blocks = StandardisedBlocks(on_disk(x), rows, weight)
    mean, deviation = standardisation(x[rows].astype(np.float64), weight)
    np.testing.assert_allclose(blocks.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(blocks.deviation, deviation, rtol=1e-7)
    z, rng = (x[rows] - mean) / deviation, np.random.default_rng(2)
    w, r = rng.normal(size=(FEATURES, 4)), rng.normal(size=(len(rows), 4)).astype(np.float32)
    parts = list(blocks.blocks())
    assert len(parts) > 2
    times = np.concatenate([blocks.times(block, w) for _, block in parts])
    back = sum(blocks.back(block, r[part]) for part, block in parts)
    squares = np.concatenate([blocks.squares(block) for _, block in parts])
    np.testing.assert_allclose(times, z @ w, atol=1e-3)
    np.testing.assert_allclose(back, z.T @ r, atol=1e-3)
    np.testing.assert_allclose(squares, (z * z).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_minimum_is_scikit_learns(classes, on_disk, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK", 64)
    monkeypatch.setattr(probe, "MANY", 100)
    x, y = table(classes)
    weight = np.random.default_rng(1).uniform(0.2, 2.0, COUNT)
    model = classifier(classes)
    probe.refit_probe(model, on_disk(x), y, rows=np.arange(COUNT), c=0.1, sample_weight=weight)
    mean, deviation = standardisation(x.astype(np.float64), weight)
    fitted = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000).fit((x - mean) / deviation, y, weight)
    given = model.predict(x, verbose=0)
    np.testing.assert_allclose(given, fitted.predict_proba((x - mean) / deviation), atol=2e-3)


def test_a_sample_chooses_and_everything_is_learned_from(on_disk, monkeypatch):
    """A class of eight images is among those that choose, and the head is that of all images at the chosen strength."""
    x, y = table(3)
    y = y.copy()
    y[:8] = 3
    train, val = np.arange(400), np.arange(400, 600)
    monkeypatch.setattr(probe, "MANY", 100)
    monkeypatch.setattr(probe, "_SAMPLE", 60)
    model = classifier(4)
    found = probe.fit_probe(model, on_disk(x), y, train=train, val=val, seed=3)
    assert probe._sample(train, y, 60, 3).tolist() == sorted(set(probe._sample(train, y, 60, 3).tolist()))
    assert np.isin(np.arange(8), probe._sample(train, y, 60, 3)).all()
    monkeypatch.setattr(probe, "MANY", 10_000)
    whole = classifier(4)
    probe.refit_probe(whole, x, y, rows=train, c=found.c)
    np.testing.assert_allclose(model.predict(x, verbose=0), whole.predict(x, verbose=0), atol=2e-3)
    assert model.get_layer(LOGITS).get_weights()[1].max() < 1e3
