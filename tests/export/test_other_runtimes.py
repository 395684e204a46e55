"""Our files in runtimes of others: onnxruntime (through tf2onnx), and LiteRT.js in Node."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_export import lite_classifier
from helpers_tasks import ALL, inputs_of

from keras_transfer.export import export_model
from keras_transfer.litert import LiteRTModel

pytestmark = pytest.mark.slow
HARNESS = Path(__file__).with_name("litert_js.mjs")
MODULES = Path(sys.prefix) / "node" / "node_modules"
HOW = f"npm install --prefix {MODULES.parent} @litertjs/core@2.5.3"


def restored(path, stored):
    """Real numbers from those that another runtime gave for ``path``."""
    target = LiteRTModel(path).outputs[0]
    stored = stored.astype(np.float32)
    return (stored - target.zero_point) * target.scale if target.quantized else stored


def through_onnx(path, batch):
    """Convert with tf2onnx and answer with onnxruntime, one image at a time."""
    converter = pytest.importorskip("tf2onnx.convert")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _ = converter.from_tflite(str(path))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )  # fused integers round anew
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    kind = np.uint8 if source.type == "tensor(uint8)" else np.float32
    assert source.shape == [1, *batch.shape[1:]]
    return np.concatenate(
        [session.run(None, {source.name: one[np.newaxis].astype(kind)})[0] for one in batch]
    )


@pytest.mark.parametrize(("file", "tolerance"), [("model.tflite", 1e-5), ("model_int8.tflite", 0.02)])
def test_onnxruntime_answers_the_same(small_bundle, held_out, file, tolerance):
    expected = LiteRTModel(small_bundle / file).predict(held_out)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(through_onnx(small_bundle / file, held_out), expected, atol=tolerance)


@pytest.mark.nightly
@pytest.mark.parametrize(("task", "precision"), [one for one in ALL if one.values[1] != "int16x8"])
def test_onnxruntime_answers_the_same_for_every_task(file_of, task, precision):
    path, _ = file_of(task, precision)
    inputs = inputs_of(path)
    expected = LiteRTModel(path).predict(inputs)
    tolerance = 0.05 if precision in ("int8", "all-integer", "dynamic") else 1e-3
    answers = restored(path, through_onnx(path, inputs))
    np.testing.assert_allclose(answers, expected, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.fixture(scope="module")
def integers(shared, table, preprocessing):
    """Lite0 in integers all the way, and with integers of 16 bits."""

    def make(folder):
        export_model(
            lite_classifier(table, preprocessing),
            folder / "edge",
            formats=("tflite",),
            precisions=("int8", "int16x8"),
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            all_integer=True,
            calibration_size=10,
            allow_parity_failure=True,
        )

    return shared("lite_integers", make) / "edge"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("file", "tolerance"),
    [
        ("model.tflite", 1e-5),
        ("model_float16.tflite", 1e-3),
        ("model_dynamic.tflite", 0.05),
        ("model_int8.tflite", 0.05),
    ],
)
def test_onnxruntime_answers_the_same_with_real_weights(lite, held_out, file, tolerance):
    expected = LiteRTModel(lite / "edge" / file).predict(held_out)
    np.testing.assert_allclose(through_onnx(lite / "edge" / file, held_out), expected, atol=tolerance)


@pytest.mark.nightly
def test_onnxruntime_answers_the_same_in_integers(integers, held_out):
    path = integers / "model_int8.tflite"
    stored = through_onnx(path, held_out)
    assert stored.dtype == np.uint8
    runtime = LiteRTModel(path)
    np.testing.assert_allclose(
        restored(path, stored), runtime.predict(held_out), atol=5 * runtime.outputs[0].scale
    )


@pytest.fixture(scope="module")
def litert_js(tmp_path_factory):
    """``litert_js(file, images)``: the answers of LiteRT.js, one image at a time."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    if not (MODULES / "@litertjs" / "core").is_dir():
        pytest.skip(f"LiteRT.js is not installed: {HOW}")
    folder = tmp_path_factory.mktemp("litert_js")

    def answers(path, images):
        images.astype(LiteRTModel(path).inputs[0].dtype).tofile(folder / "inputs")
        command = ["node", str(HARNESS), str(MODULES), str(path), str(folder / "inputs")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["shape"] == [1, *images.shape[1:]]
        return np.array(found["answers"])

    return answers


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("file", "tolerance"),
    [
        ("model.tflite", 1e-5),
        ("model_float16.tflite", 1e-5),
        ("model_dynamic.tflite", 0.02),
        ("model_int8.tflite", 0.02),
    ],
)
def test_litert_js_answers_the_same(litert_js, lite, held_out, file, tolerance):
    path = lite / "edge" / file
    expected = LiteRTModel(path).predict(held_out)
    np.testing.assert_allclose(litert_js(path, held_out), expected, atol=tolerance)


@pytest.mark.nightly
@pytest.mark.parametrize(("file", "tolerance"), [("model_int8.tflite", 0.02), ("model_int16x8.tflite", 1e-3)])
def test_litert_js_answers_the_same_in_integers(litert_js, integers, held_out, file, tolerance):
    path = integers / file
    answers = restored(path, litert_js(path, held_out))
    np.testing.assert_allclose(answers, LiteRTModel(path).predict(held_out), atol=tolerance)


@pytest.mark.nightly
@pytest.mark.parametrize(("task", "precision"), ALL)
def test_litert_js_answers_the_same_for_every_task(litert_js, file_of, task, precision):
    path, _ = file_of(task, precision)
    inputs = inputs_of(path)
    expected = LiteRTModel(path).predict(inputs)
    answers = restored(path, litert_js(path, inputs).reshape(expected.shape))
    tolerance = 1e-4 if precision in ("float32", "float16") else 0.02
    np.testing.assert_allclose(answers, expected, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.nightly
def test_litert_js_refuses_what_the_converter_writes(litert_js, small, held_out, tmp_path):
    """Why every file is written for one image: an open batch, and it takes none."""
    from keras_transfer.litert import convert

    (tmp_path / "open.tflite").write_bytes(convert(small))
    with pytest.raises(
        AssertionError, match=r"does not match expected ranked tensor type Float32\[-1, 96, 96, 3\]"
    ):
        litert_js(tmp_path / "open.tflite", held_out)
