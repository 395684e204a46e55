"""Networks without pretrained weights: trained from nothing on real crops, exported, and proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import keras_transfer as ktr
from keras_transfer.catalog import CATALOG
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.run import open_run
from keras_transfer.testing.command import call
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.train import train

HISTORIC = [spec for spec in CATALOG.values() if not spec.pretrained]
EPOCHS = {"resnet34": 20}
"""Of four steps each: the deepest network needs more of them."""


@pytest.mark.nightly
@pytest.mark.parametrize("spec", HISTORIC, ids=lambda spec: spec.name)
def test_it_learns_from_nothing_and_exports_with_parity(spec, photo_folder, tmp_path):
    """Two photographs are told apart by their crops; the float32 TFLite file gives the same probabilities."""
    run = train(
        photo_folder,
        tmp_path / "run",
        backbone=spec.name,
        strategy="scratch",
        image_size=max(spec.min_size, 64),
        epochs=EPOCHS.get(spec.name, 8),
        batch_size=8,
        patience=20,
        augment="alexnet",
    )
    found = evaluate(run, split="all")
    assert found["images"] >= 40
    assert found["accuracy"] >= 0.75  # by chance: one in a thousand
    assert run.info["backbone"]["weights"] == "none"
    model = run.load_model()
    pixels = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(
        LiteRTModel(convert(model)).predict(pixels), model(pixels, training=False), atol=1e-4
    )


@pytest.mark.nightly
def test_by_command_to_a_verified_bundle(photo_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--image-size", 67, "--epochs", 4, "--batch-size", 8)
    call("train", photo_folder, "--backbone", "alexnet", "--strategy", "scratch", "--output", "run", *small)
    assert open_run(Path("run")).info["training"]["strategy"] == "scratch"
    call("export", "run", "--to", "edge", "--format", "keras", "--format", "tflite", "--quantize", "float32")
    call("verify", "edge")
    call(
        "benchmark", "edge", "--seconds", "0.2", "--threads", "1"
    )  # opens model.keras in a process of its own
    answers = ktr.load_bundle("edge").predict([str(next((photo_folder / "china").iterdir()))])
    np.testing.assert_allclose(np.sum(answers), 1, atol=1e-4)


def test_without_weights_the_way_out_is_named(photo_folder, tmp_path):
    """Asked for what nobody has, the command says what can be done instead."""
    _, told = call("train", photo_folder, "--backbone", "alexnet", "--output", tmp_path / "run", code=1)
    for words in ("ImageNet weights for alexnet", "--strategy scratch", "weights none"):
        assert words in " ".join(told.split())
    assert not (tmp_path / "run").exists()
