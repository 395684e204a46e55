"""What the built-in tasks leave: models that need Keras and nothing else, and that answer alike when converted."""

import subprocess
import sys

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing

PROGRAM = """
import sys

for name in ("keras_transfer", "keras_transfer_tests", "keras_cv"):
    sys.modules[name] = None
import keras
import numpy as np

for folder, model in zip(sys.argv[1::2], sys.argv[2::2]):
    pixels = np.load(f"{folder}/pixels.npy")
    np.save(f"{folder}/answers.npy", keras.models.load_model(model).predict(pixels, verbose=0))
"""


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(("classification",), marks=pytest.mark.slow),
        pytest.param(("multilabel", "regression"), marks=pytest.mark.nightly),
    ],
)
def test_models_of_every_task_load_with_keras_alone_and_answer_alike_when_converted(
    tasks, request, multilabel_crops, regression_crops, tmp_path
):
    deviation = load_data(regression_crops / "both.csv").labels.std(axis=0)
    units = {  # the fixture of a run, the unit of its answers, and by how many they differ among the images at least
        "classification": ("finished_run", 1.0, 0.1),
        "multilabel": ("multilabel_run", 1.0, 0.1),
        "regression": ("regression_run", deviation, 1 / deviation),
    }
    cases = {name: (request.getfixturevalue(units[name][0]), *units[name][1:]) for name in tasks}
    arguments, expected = [], {}
    for name, (run, unit, least) in cases.items():
        model = run.load_model()
        preprocessing = Preprocessing(size=model.input_shape[1:3])
        loaded = [preprocessing.load(multilabel_crops.parent / f"{i}.png") for i in range(24)]
        pixels = np.stack(loaded).astype("float32")
        expected[name] = model.predict(pixels, verbose=0) / unit
        assert (np.ptp(expected[name], axis=0) > least).all()
        converted = LiteRTModel(convert(model)).predict(pixels) / unit
        np.testing.assert_allclose(converted, expected[name], atol=1e-4)
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "pixels.npy", pixels)
        arguments += [tmp_path / name, run.model_path]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True)
    for name, (_, unit, _) in cases.items():
        atol = 1e-6 if name == "classification" else 1e-4  # another process, perhaps with other threads
        np.testing.assert_allclose(np.load(tmp_path / name / "answers.npy") / unit, expected[name], atol=atol)
