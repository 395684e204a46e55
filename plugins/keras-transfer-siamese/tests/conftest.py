"""What the plugin's tests share: characters in typefaces, a run and a bundle of a small network."""

from __future__ import annotations

import pytest

NOTES = {
    "comparison": {"kind": "cosine", "weights": None, "bias": 0.0, "threshold": 0.9},
    "embedding_dim": 8,
    "trained_on": ["559aead08264d579"],
}
"""Of a training on the class A, whose name is kept as a hash."""


@pytest.fixture(scope="session")
def glyphs(shared):
    """16 characters, a folder each, in 10 typefaces. Read-only: tests change a copy."""
    from keras_transfer_siamese import sample

    return shared("glyphs", sample.glyphs)


@pytest.fixture(scope="session")
def small_run(shared):
    """A run folder of the task, with the small network in it. Read-only: tests change a copy."""
    return shared("siamese_run", lambda folder: _write_run(folder / "letters")) / "letters"


def _write_run(folder):
    import json

    from keras_transfer_tests.records import run_record

    from keras_transfer.preprocessing import Preprocessing

    folder.mkdir()
    from helpers_siamese import small_network

    small_network().save(folder / "model.keras")
    record = run_record(
        preprocessing=Preprocessing((48, 48)).to_dict(),
        output={"kind": "embeddings", "shape": [8], "names": [f"d{i}" for i in range(8)]},
        training=NOTES,
    ).to_dict()
    record["request"]["task"] = "siamese"
    info = {"schema": 1, **record}
    (folder / "run.json").write_text(json.dumps(info))


@pytest.fixture(scope="session")
def small_bundle(small_run, glyphs, shared):
    """The run's bundle: float32 and int8, with the task's script. Read-only: tests change a copy."""
    return shared("siamese_bundle", lambda folder: _export(small_run, glyphs, folder / "edge")) / "edge"


def _export(run, glyphs, to):
    import numpy as np

    from keras_transfer import load_data
    from keras_transfer.export import About, export_model
    from keras_transfer.export.parity import Judge
    from keras_transfer.features.identity import model_hash
    from keras_transfer.preprocessing import Preprocessing
    from keras_transfer.run import open_run

    model = open_run(run).load_model()
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
    export_model(
        model,
        to,
        formats=("keras", "tflite"),
        precisions=("float32", "int8"),
        table=table,
        preprocessing=Preprocessing((48, 48)),
        classes=judge.names,
        judge=judge,
        calibration_size=20,
        about=About("letters", training={"model": model_hash(model)}),
    )


@pytest.fixture
def bundle_copy(small_bundle, tmp_path):
    """A bundle that a test may change."""
    import shutil

    return shutil.copytree(small_bundle, tmp_path / "edge")
