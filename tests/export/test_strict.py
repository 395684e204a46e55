"""Every exported ``.tflite`` is one that strict runtimes take, and LiteRT still makes any batch of it."""

import functools

import keras
import numpy as np
import pytest
from helpers_export import operators
from keras_transfer_tests.strict import require_strict

from keras_transfer.export.conversion import Conversion
from keras_transfer.export.parity import Judge
from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.inference import load_runner
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing

pytestmark = pytest.mark.slow
SIZE = 48
PRECISIONS = ("float32", "float16", "dynamic", "int8", "all-integer", "int16x8")
layers = keras.layers


def features():
    """An image to a feature map, with what Keras writes shapes for: a block that excites its channels."""
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 64, offset=-2)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", padding="same")(x)
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(squeezed)])
    return image, layers.Conv2D(16, 3, padding="same", dilation_rate=2, activation="relu")(x)


def from_pooled(*head):
    image, x = features()
    for layer in (layers.GlobalAveragePooling2D(), *head):
        x = layer(x)
    return keras.Model(image, x, name="network")


def segmenter():
    image, x = features()
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(2, 1)(x))
    return keras.Model(image, layers.Softmax()(x), name="network")


def generator():
    numbers = keras.Input((7,), name="inputs")
    x = layers.Reshape((6, 6, 4))(layers.Dense(6 * 6 * 4)(numbers))
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh")(x)
    pixels = keras.ops.cast(keras.ops.clip(keras.ops.round(x * 127.5 + 127.5), 0, 255), "uint8")
    return keras.Model(numbers, pixels, name="network")


# By task: the network, the kind of its outputs, and their names.
TASKS = {
    "classification": (lambda: from_pooled(layers.Dense(3), layers.Softmax()), "probabilities", "abc"),
    "multilabel": (lambda: from_pooled(layers.Dense(3, activation="sigmoid")), "probabilities", "abc"),
    "regression": (lambda: from_pooled(layers.Dense(2)), "values", "xy"),
    "siamese": (lambda: from_pooled(layers.Dense(8), layers.UnitNormalization()), "embeddings", "defghijk"),
    "segmentation": (segmenter, "probabilities", "ab"),
    "gan": (generator, "images", "rgb"),
}
# Each task and each precision once; `make nightly` runs them all.
SOME = {
    ("classification", "float32"),
    ("classification", "int8"),
    ("classification", "int16x8"),
    ("multilabel", "float16"),
    ("regression", "dynamic"),
    ("siamese", "int8"),
    ("segmentation", "all-integer"),
    ("gan", "float32"),
}
ALL = [
    pytest.param(task, precision, marks=() if (task, precision) in SOME else pytest.mark.nightly)
    for task in TASKS
    for precision in PRECISIONS
    if task != "gan" or precision in ("float32", "float16", "dynamic")
]


@pytest.fixture(scope="module")
def write(table, tmp_path_factory):
    """The file of a task and a precision, as an export makes it, and its model; each is made once."""

    @functools.cache
    def make(task, precision):
        keras.utils.set_random_seed(3)
        build, kind, names = TASKS[task]
        model = build()
        judge = Judge(tuple(names), task=task, kind=kind, shape=tuple(model.outputs[0].shape[1:]))
        rows, path = table.indices("train")[:8], tmp_path_factory.mktemp(task) / f"{precision}.tflite"
        pixels = Preprocessing((SIZE, SIZE))
        conversion = Conversion(table, pixels, judge, rows, all_integer=precision == "all-integer")
        conversion.write(model, path, "int8" if precision == "all-integer" else precision)
        return model, path

    return make


@pytest.mark.parametrize(("task", "precision"), ALL)
def test_every_file_of_every_task_is_for_one_image_and_can_be_made_for_more(write, task, precision):
    _, path = write(task, precision)
    require_strict(path, tuple(TASKS[task][2]), TASKS[task][1])
    runtime = load_runner(path)
    assert runtime.inputs[0].shape[0] == runtime.outputs[0].shape[0] == -1


def test_the_shipped_bundle_is_strict(small_bundle):
    for file in ("model.tflite", "model_int8.tflite"):
        require_strict(small_bundle / file, ("china", "flower"), "probabilities")


def test_shapes_are_constants_that_keep_the_batch_open(write):
    _, path = write("classification", "float32")
    kinds = [name for name, _ in operators(path.read_bytes())]
    assert "RESHAPE" in kinds and not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(kinds)


def test_all_integer_means_that_no_number_is_a_float(write):
    """What microcontrollers and NPUs ask for. The default int8 begins with a cast that TFLite Micro does not have."""
    kinds = {kind for _, kind in operators(write("segmentation", "all-integer")[1].read_bytes())}
    assert kinds == {"INT8", "UINT8"}
    mixed = operators(write("classification", "int8")[1].read_bytes())
    assert mixed[0] == ("CAST", "FLOAT32") and mixed[-1] == ("SOFTMAX", "FLOAT32")


def test_a_signature_runner_takes_batches(write):
    """The way of TensorFlow's documentation: a batch of any size by the signature's name."""
    from ai_edge_litert.interpreter import Interpreter

    model, path = write("classification", "float32")
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.float32)
    run = Interpreter(str(path)).get_signature_runner("serving_default")
    np.testing.assert_allclose(run(image=pixels)["output_0"], np.asarray(model(pixels)), atol=1e-5)


def test_a_file_of_one_image_that_is_not_ours_is_fed_one_by_one(table):
    """Nothing says that its shapes may change: it is taken at its word."""
    fixed = keras.Model(*[(t := keras.Input((SIZE, SIZE, 3), batch_size=1)), segmenter()(t)])
    content = convert(fixed)
    for one in (content, for_strict_runtimes(content)):
        runtime = LiteRTModel(one)
        assert runtime.inputs[0].shape[0] == 1
        assert runtime.predict(np.zeros((3, SIZE, SIZE, 3), np.uint8)).shape == (3, SIZE, SIZE, 2)
