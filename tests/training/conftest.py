"""What the tests of trained models share: a process that has Keras and not this package."""

import subprocess
import sys

import numpy as np
import pytest

from keras_transfer.litert import LiteRTModel, convert

ALONE = """
import sys, keras, numpy as np
for line in sys.stdin:
    model, inputs, outputs = line.rstrip("\\n").split("\\t")
    np.save(outputs, keras.models.load_model(model)(np.load(inputs), training=False))
    print(*[name for name in sys.modules if name.startswith("keras_transfer")], sep=", ", flush=True)
"""


@pytest.fixture(scope="module")
def answers_alike_anywhere(tmp_path_factory):
    """``answers_alike_anywhere(model, x)``: as here, so in the edge runtime and where Keras alone loads the file."""
    files = [tmp_path_factory.mktemp("alone") / name for name in ("model.keras", "x.npy", "answers.npy")]

    def check(model, x):
        expected = np.asarray(model(x, training=False))
        assert np.ptp(expected, axis=0).max() > 0.01, "equal answers for all images would prove nothing"
        np.testing.assert_allclose(LiteRTModel(convert(model)).predict(x), expected, atol=1e-4)
        model.save(files[0])
        np.save(files[1], x)
        print(*files, sep="\t", file=alone.stdin, flush=True)
        said = alone.stdout.readline()
        assert said, "loading the file failed: see the standard error"
        assert said == "\n", f"loading the file imported {said}"
        np.testing.assert_allclose(np.load(files[2]), expected, atol=1e-5)

    command = [sys.executable, "-c", ALONE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alone:
        yield check
        alone.stdin.close()
