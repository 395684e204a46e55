"""Conversion and the interpreter: float32 agrees with Keras, quantised tensors are scaled, damage is reported."""

from __future__ import annotations

import os
import re
import sys
import threading
import types
from importlib.metadata import requires
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_transfer import litert, litert_model
from keras_transfer.errors import ExportError, UsageError
from keras_transfer.litert import LiteRTModel, convert


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small convolutional network whose batch normalization does something."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((24, 24, 3), name="image")
    x = keras.layers.Rescaling(1 / 128, offset=-1)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x), name="small")
    rng = np.random.default_rng(0)
    model.get_layer("bn").set_weights([rng.uniform(0.5, 2, 8) for _ in range(4)])
    return model


@pytest.fixture(scope="module")
def content(model) -> bytes:
    return convert(model)


@pytest.fixture
def pixels(photos) -> np.ndarray:
    photo = photos["china"]
    return np.stack([photo[i * 9 : i * 9 + 24, i * 12 : i * 12 + 24] for i in range(20)])


def test_float32_agrees_with_keras_at_any_batch_size(model, content, pixels):
    runtime = LiteRTModel(content)
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3, "the network must tell the images apart"
    for count in (20, 1, 8, 3, 9):
        assert np.abs(runtime.predict(pixels[:count]) - expected[:count]).max() < 1e-5
    assert runtime.predict(pixels).dtype == np.float32
    assert runtime.predict(pixels[:0]).shape == (0, 5)
    assert runtime.inputs[0].shape == (-1, 24, 24, 3)
    assert runtime.input_size == (24, 24)


@pytest.mark.slow
def test_the_file_is_the_one_that_the_converter_makes_of_a_keras_model(model, content, pixels):
    from ai_edge_litert.interpreter import Interpreter

    theirs = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    assert np.array_equal(LiteRTModel(content).predict(pixels), LiteRTModel(theirs).predict(pixels))
    ours, other = (Interpreter(model_content=one).get_signature_list() for one in (content, theirs))
    assert ours == other == {"serving_default": {"inputs": ["image"], "outputs": ["output_0"]}}


def test_uint8_and_float32_pixels_are_the_same_images(content, pixels):
    runtime = LiteRTModel(content)
    assert np.array_equal(runtime.predict(pixels), runtime.predict(pixels.astype(np.float32)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_reduced_precisions_stay_close(model, content, pixels, precision):
    small = convert(model, precision)
    expected = LiteRTModel(content).predict(pixels)
    difference = np.abs(LiteRTModel(small).predict(pixels) - expected).max()
    assert difference < 0.02


@pytest.mark.slow
def test_float16_halves_the_file():
    wide = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4000)])
    assert len(convert(wide, "float16")) < 0.6 * len(convert(wide))


@pytest.mark.slow
def test_integer_tensors_are_quantised_and_dequantised(model, pixels):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in pixels)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    runtime = LiteRTModel(litert.run_converter(lambda: converter, "the test model to int8"))
    assert runtime.inputs[0].quantized and runtime.inputs[0].dtype == np.int8
    assert runtime.outputs[0].quantized
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    assert np.abs(runtime.predict(pixels) - expected).max() < 0.05
    assert np.array_equal(runtime.predict(pixels), runtime.predict(pixels.astype(np.float32)))


def test_values_are_rounded_and_clipped_not_wrapped():
    tensor = litert.TensorInfo("t", (-1, 3), np.dtype(np.uint8), scale=2.0, zero_point=10)
    stored = litert.store(np.array([[-100.0, 2.9, 1000.0]], np.float32), tensor)
    assert stored.tolist() == [[0, 11, 255]]
    assert litert.restore(stored, tensor).tolist() == [[-20.0, 2.0, 490.0]]


def test_what_is_no_image_is_batched_too():
    dense = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    values = np.random.default_rng(0).normal(size=(21, 7)).astype(np.float32)
    answers = LiteRTModel(convert(dense)).predict(values)
    assert np.abs(answers - np.asarray(dense(values))).max() < 1e-5


def test_a_file_with_a_fixed_batch_is_padded(model, pixels):
    fixed = keras.Model(*[(t := keras.Input((24, 24, 3), batch_size=4)), model(t)])
    runtime = LiteRTModel(convert(fixed))
    assert runtime.inputs[0].shape[0] == 4
    expected = np.asarray(model(pixels.astype(np.float32), training=False))
    assert np.abs(runtime.predict(pixels[:6]) - expected[:6]).max() < 1e-5


def test_threads_can_share_one_model(content, pixels):
    runtime = LiteRTModel(content)
    expected = runtime.predict(pixels)
    wrong: list[int] = []

    def work(count: int) -> None:
        for _ in range(20):
            if not np.allclose(runtime.predict(pixels[:count]), expected[:count], atol=1e-6):
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 5, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"plain text" * 20])
def test_a_damaged_file_is_reported(content, damage, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(damage(content))
    with pytest.raises(ExportError, match=r"broken\.tflite.*damaged"):
        LiteRTModel(path)


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        LiteRTModel(tmp_path / "absent.tflite")


def test_the_wrong_size_is_a_usage_error(content, pixels):
    with pytest.raises(UsageError, match=r"\(any, 24, 24, 3\)"):
        LiteRTModel(content).predict(pixels[:, :20])
    with pytest.raises(UsageError):
        LiteRTModel(content).predict(pixels[0])


def test_an_unknown_precision_names_the_known_ones(model):
    with pytest.raises(UsageError, match="float16"):
        convert(model, "float17")


def test_a_failing_conversion_quotes_the_converter():
    class Exotic(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.Betainc(a=x, b=x, x=x)

    inputs = keras.Input((3,))
    with pytest.raises(ExportError, match=r"(?s)Cannot convert model 'exotic' to float32.*Betainc"):
        convert(keras.Model(inputs, Exotic()(inputs), name="exotic"))


def test_conversion_and_loading_print_nothing(model, capfd):
    LiteRTModel(convert(model))
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_all_cores_are_the_default(content, monkeypatch):
    import ai_edge_litert.interpreter as runtime

    given = {}
    real = runtime.Interpreter
    monkeypatch.setattr(runtime, "Interpreter", lambda **options: given.update(options) or real(**options))
    LiteRTModel(content)
    assert given["num_threads"] == os.cpu_count()
    LiteRTModel(content, threads=1)
    assert given["num_threads"] == 1


def test_a_path_and_its_bytes_are_the_same_model(content, pixels, tmp_path: Path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert np.array_equal(LiteRTModel(path).predict(pixels), LiteRTModel(content).predict(pixels))


def test_a_missing_runtime_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ExportError, match="pip install -U ai-edge-litert"):
        LiteRTModel(b"")


def test_a_runtime_that_is_too_old_is_one_sentence(monkeypatch):
    monkeypatch.setattr(litert_model, "version", lambda package: "1.4.0")
    with pytest.raises(ExportError, match=r"pip install -U 'ai-edge-litert>=2\.0'"):
        LiteRTModel(b"")


def test_a_converter_that_is_too_old_or_gone_is_one_sentence(model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tf, "__version__", "2.9.3")
        with pytest.raises(
            ExportError, match=r"^tensorflow 2\.9\.3 is too old.*pip install -U 'tensorflow>=2\.19'"
        ):
            convert(model)
    with monkeypatch.context() as patch:
        patch.setattr(litert, "tf", types.SimpleNamespace(__version__="3.0.0"))
        with pytest.raises(ExportError, match="no TFLite converter any more: pip install"):
            convert(model)


def test_the_oldest_versions_are_those_of_the_dependencies():
    asked = "\n".join(requires("keras-transfer"))
    for package, oldest in litert.OLDEST.items():
        assert re.search(rf"^{package}[^;\n]*>={'.'.join(map(str, oldest))}\b", asked, re.MULTILINE), package


@pytest.mark.parametrize(("size", "batch"), [(224, 2), (96, 8), (300, 2), (160, 3), (28, 8)])
def test_a_call_takes_few_large_images_and_many_small_ones(size, batch):
    assert litert.best_batch(size, size) == batch
