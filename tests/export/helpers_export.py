"""Two classifiers, and running a bundle's script: in a process without TensorFlow, or in the test's."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_transfer.backbones import load_backbone
from keras_transfer.data import batches


def small_network():
    """A network that converts in a second and whose answers depend on the image."""
    keras.utils.set_random_seed(0)
    image = keras.Input((96, 96, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x), name="small")


def lite_classifier(table, preprocessing):
    """EfficientNet-Lite0 with its real weights, and a logistic regression of the table's two classes.

    There is dropout inside, to see that it is off.
    """
    backbone = load_backbone("efficientnet_lite0", image_size=preprocessing.size[0])
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    rows = table.indices("train")
    pixels = np.concatenate(list(batches(table, preprocessing, indices=rows)))
    features = np.asarray(keras.Model(backbone.inputs, pooled)([pixels.astype(np.float32)]))
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    fit = LogisticRegression(C=1e-2).fit((features - mean) / deviation, table.labels[rows])
    scores = keras.layers.Dense(2, name="logits")
    outputs = keras.layers.Softmax()(scores(keras.layers.Dropout(0.5)(pooled)))
    model = keras.Model(backbone.inputs, outputs)
    weight = fit.coef_[0] / deviation
    bias = fit.intercept_[0] - mean @ weight
    scores.set_weights([np.stack([-weight / 2, weight / 2], axis=1), np.array([-bias / 2, bias / 2])])
    return model


def run_script(folder, *arguments, script="classify.py", python=sys.executable, code=0, block=True):
    """Run the bundle's script; TensorFlow, Keras and this package cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"}
    if block:
        start = (
            "import os, runpy, sys\n"
            "for name in ('tensorflow', 'keras', 'keras_transfer'): sys.modules[name] = None\n"
            "sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [str(python), "-c", start, str(folder / script)]
    else:
        command = [str(python), str(folder / script)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def run_here(folder, *arguments, code=0):
    """Run ``classify.py`` of the bundle in this process, where it does not matter what can be imported."""
    out, err = io.StringIO(), io.StringIO()
    script = str(folder / "classify.py")
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", [script, *map(str, arguments)]),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == code, (out.getvalue(), err.getvalue())
    return out.getvalue(), err.getvalue()


def graph_of(content: bytes) -> list[tuple[str, list[str], str]]:
    """Every operator in order: its name, the types of its inputs, the type of its result."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools.flatbuffer_utils import convert_bytearray_to_object

    model = convert_bytearray_to_object(bytearray(content))
    op_names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    graph, found = model.subgraphs[0], []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = op_names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs = [types[graph.tensors[i].type] for i in operator.inputs if i >= 0]
        found.append((name, inputs, types[graph.tensors[operator.outputs[0]].type]))
    return found


def operators(content: bytes) -> list[tuple[str, str]]:
    """Operator names and the types of their results, in order."""
    return [(name, result) for name, _, result in graph_of(content)]
