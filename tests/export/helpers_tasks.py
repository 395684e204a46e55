"""A small network of every task, for what is promised of each exported file in each precision."""

import keras
import numpy as np
import pytest

from keras_transfer.export.conversion import Conversion
from keras_transfer.export.parity import Judge
from keras_transfer.litert import LiteRTModel
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions

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


def write(table, task, precision, path):
    """Write the file of a task and a precision as an export does; the model."""
    keras.utils.set_random_seed(3)
    build, kind, names = TASKS[task]
    model = build()
    judge = Judge(tuple(names), task=task, kind=kind, shape=tuple(model.outputs[0].shape[1:]))
    rows, pixels = table.indices("train")[:8], Preprocessing((SIZE, SIZE))
    options = ExportOptions(precisions=("int8",), all_integer=precision == "all-integer")
    conversion = Conversion(model, table, pixels, judge, rows, options)
    conversion.write(path, "int8" if precision == "all-integer" else precision)
    return model


def inputs_of(path, count=6):
    """What a model is given: images, or the numbers that an image is made from."""
    shape = LiteRTModel(path).inputs[0].shape
    random = np.random.default_rng(7)
    if len(shape) == 2:
        return random.normal(size=(count, *shape[1:])).astype(np.float32)
    return random.integers(0, 256, (count, *shape[1:]), np.uint8)
