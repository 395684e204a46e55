"""What the plugin's tests share: no downloads, a cache of their own, and properties without a deadline."""

from __future__ import annotations

import os

os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from hypothesis import settings

# A busy machine must not fail a property.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, nor another test's."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))


NOTES = {
    "comparison": {"kind": "cosine", "weights": None, "bias": 0.0, "threshold": 0.9},
    "embedding_dim": 8,
    "trained_on": ["559aead08264d579"],
}
"""Of a training on the class A, whose name is kept as a hash."""


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory):
    """16 characters, a folder each, in 10 typefaces."""
    from keras_transfer_siamese.sample import glyphs

    return glyphs(tmp_path_factory.mktemp("glyphs"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder of the task, with the small network in it."""
    import json

    from keras_transfer.preprocessing import Preprocessing

    folder = tmp_path_factory.mktemp("runs") / "letters"
    folder.mkdir()
    from helpers_siamese import small_network

    small_network().save(folder / "model.keras")
    info = {
        "schema": 1,
        "request": {"task": "siamese", "options": {}},
        "preprocessing": Preprocessing((48, 48)).to_dict(),
        "output": {"kind": "embeddings", "shape": [8], "names": [f"d{i}" for i in range(8)]},
        "training": NOTES,
    }
    (folder / "run.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="session")
def small_bundle(small_run, glyphs, tmp_path_factory):
    """The run's bundle: float32 and int8, with the task's script. Read-only: tests change a copy."""
    import numpy as np

    from keras_transfer import load_data
    from keras_transfer.export import About, export_model
    from keras_transfer.export.parity import Judge
    from keras_transfer.features.identity import model_hash
    from keras_transfer.preprocessing import Preprocessing
    from keras_transfer.run import open_run

    model = open_run(small_run).load_model()
    table = load_data(glyphs, seed=0)
    judge = Judge(
        tuple(f"d{i}" for i in range(8)),
        task="siamese",
        kind="embeddings",
        metric="spread",
        others=(),
        drop=0.5,
        measure=lambda outputs, table: {"spread": float(np.std(outputs, axis=0).mean())},
        decide=lambda outputs: None,
        notes=NOTES,
        standalone="keras_transfer_siamese.standalone.recognise",
    )
    to = tmp_path_factory.mktemp("bundles") / "edge"
    export_model(
        model,
        to,
        formats=("keras", "tflite"),
        precisions=("none", "int8"),
        table=table,
        preprocessing=Preprocessing((48, 48)),
        classes=judge.names,
        judge=judge,
        calibration_size=20,
        about=About("letters", training={"model": model_hash(model)}),
    )
    return to


@pytest.fixture
def bundle_copy(small_bundle, tmp_path):
    """A bundle that a test may change."""
    import shutil

    return shutil.copytree(small_bundle, tmp_path / "edge")
