"""`export` on a finished run: artefacts, evidence, and what `evaluate` says of them afterwards."""

import json

import numpy as np
import pytest
from helpers_cli import call

from keras_transfer.errors import UsageError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory, photo_folder):
    """A run and its export, through the command line."""
    from keras_transfer.workflow.train import train

    folder = tmp_path_factory.mktemp("exported")
    run = train(photo_folder, folder / "run", image_size=64, strategy="probe", engine="keras")
    arguments = [
        "export",
        run.path,
        "--to",
        folder / "edge",
        "--quantize",
        "none",
        "--quantize",
        "int8",
        "--json",
    ]
    out, _ = call(*arguments)
    return run, folder / "edge", json.loads(out)


@pytest.mark.parametrize("name", ["saved_model", "model.tflite", "model_int8.tflite"])
def test_each_artefact_is_evaluated_and_asked_like_the_run(exported, photo_folder, name):
    from keras_transfer.workflow.evaluate import evaluate
    from keras_transfer.workflow.predict import predict

    run, edge, _ = exported
    ours = evaluate(run.path, photo_folder, split="all")
    theirs = evaluate(edge / name, photo_folder)
    assert theirs["images"] == ours["images"]
    assert abs(theirs["accuracy"] - ours["accuracy"]) <= (0.05 if "int8" in name else 0)
    image = photo_folder / "flower" / "001.png"
    (answer,), (reference,) = list(predict(edge / name, [image])), list(predict(run.path, [image]))
    assert answer["classes"][0]["label"] == "flower"
    if "int8" not in name:
        pairs = zip(answer["classes"], reference["classes"], strict=True)
        assert all(np.isclose(a["probability"], b["probability"], atol=1e-4) for a, b in pairs)


def test_data_that_moved_are_given_again_and_split_as_recorded(exported, photo_folder, tmp_path):
    import shutil

    from keras_transfer.workflow.export import export_run

    run, _, first = exported
    shutil.copytree(photo_folder, tmp_path / "moved")
    report = export_run(run, tmp_path / "edge", formats=["tflite"], data=tmp_path / "moved").to_dict()
    assert report["images"] == first["images"]
    assert report["artefacts"][0]["keras_accuracy"] == first["artefacts"][0]["keras_accuracy"]
    with pytest.raises(UsageError, match="edge"):
        export_run(run, tmp_path / "edge", formats=["tflite"], data=tmp_path / "moved")
