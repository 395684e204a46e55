"""A real classifier of two photographs (Lite0 at 96 px, logistic regression folded into its head), exported once."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_transfer.data import batches, load_data
from keras_transfer.export import About, export_model
from keras_transfer.preprocessing import Preprocessing

SIZE = 96


@pytest.fixture(scope="session")
def preprocessing():
    return Preprocessing((SIZE, SIZE))


@pytest.fixture(scope="session")
def table(photo_folder):
    return load_data(photo_folder, test_fraction=0.4, val_fraction=0.1, seed=0)


@pytest.fixture(scope="session")
def held_out(table, preprocessing):
    return np.concatenate(list(batches(table, preprocessing, indices=table.indices("test"))))


@pytest.fixture(scope="session")
def classifier(table, preprocessing):
    """Pixels to probabilities, trained in closed form; dropout inside, to see that it is off."""
    from sklearn.linear_model import LogisticRegression

    from keras_transfer.backbones import load_backbone

    backbone = load_backbone("efficientnet_lite0", image_size=SIZE)
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


@pytest.fixture(scope="session")
def expected(classifier, held_out):
    return np.asarray(classifier([held_out.astype(np.float32)], training=False))


@pytest.fixture(scope="session")
def exported(classifier, table, preprocessing, tmp_path_factory):
    """Every format and precision, in one export."""
    return export_model(
        classifier,
        tmp_path_factory.mktemp("export") / "edge",
        precisions=("none", "float16", "dynamic", "int8"),
        table=table,
        preprocessing=preprocessing,
        classes=table.classes,
        calibration_size=10,
    )


@pytest.fixture(scope="session")
def small_bundle(table, preprocessing, tmp_path_factory):
    """A bundle of the small network in every format, and int8. Read-only: tests change a copy."""
    to = tmp_path_factory.mktemp("bundle") / "edge"
    export_model(
        small_network(),
        to,
        precisions=("none", "int8"),
        table=table,
        preprocessing=preprocessing,
        classes=table.classes,
        calibration_size=10,
        allow_parity_failure=True,  # it has learned nothing: a point of accuracy is chance
        about=About("small network", weights_licence="none"),
    )
    return to


@pytest.fixture
def bundle_copy(small_bundle, tmp_path):
    return Path(shutil.copytree(small_bundle, tmp_path / "copy"))


@pytest.fixture
def small():
    """A network that converts in a second and whose answers depend on the image."""
    return small_network()


def small_network():
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x), name="small")


@pytest.fixture
def export(small, table, preprocessing, tmp_path):
    """Call ``export_model`` with the small network; every argument can be replaced."""

    def call(to=None, **changes):
        arguments = {
            "formats": ("tflite",),
            "table": table,
            "preprocessing": preprocessing,
            "classes": table.classes,
            "model": small,
            **changes,
        }
        return export_model(arguments.pop("model"), to or tmp_path / "edge", **arguments)

    return call
