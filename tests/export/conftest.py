"""Two bundles that are made once a test run: EfficientNet-Lite0 with its real weights, and a small network.

Lite0 is what parity and eight bits are proven on. What a bundle is, and what is refused, is shown on the small one.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_clients import TOOLS, build, missing
from helpers_export import lite_classifier, small_network
from helpers_tasks import write

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
def every_format(table, held_out, preprocessing):
    """Write the export of a classifier in every format (``edge/``) and Keras's answers (``expected.npy``)."""

    def write_formats(classifier, folder):
        np.save(
            folder / "expected.npy", np.asarray(classifier([held_out.astype(np.float32)], training=False))
        )
        export_model(
            classifier,
            folder / "edge",
            precisions=("float32", "float16", "dynamic", "int8"),
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            calibration_size=10,
        )

    return write_formats


@pytest.fixture(scope="session")
def lite(shared, every_format, table, preprocessing):
    """A folder with Lite0's export in every format (``edge/``) and Keras's answers (``expected.npy``)."""
    return shared("lite_export", lambda folder: every_format(lite_classifier(table, preprocessing), folder))


@pytest.fixture(scope="session")
def small_bundle(shared, table, preprocessing):
    """A bundle of the small network in every format, and int8. Read-only: tests change a copy."""

    def make(folder):
        export_model(
            small_network(),
            folder / "edge",
            precisions=("float32", "int8"),
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            calibration_size=10,
            allow_parity_failure=True,  # it has learned nothing: a point of accuracy is chance
            about=About("small network", weights_licence="none"),
        )

    return shared("small_bundle", make) / "edge"


@pytest.fixture
def bundle_copy(small_bundle, tmp_path):
    return Path(shutil.copytree(small_bundle, tmp_path / "copy"))


@pytest.fixture
def small():
    return small_network()


@pytest.fixture(scope="session")
def trained(table, preprocessing):
    """The small network, right about more images than not."""
    model = small_network()
    pixels = np.concatenate(list(batches(table, preprocessing))).astype(np.float32)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pixels, table.labels, epochs=15, verbose=0)
    assert np.mean(model.predict(pixels, verbose=0).argmax(axis=1) == table.labels) > 0.8
    return model


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


@pytest.fixture(scope="session")
def file_of(table, tmp_path_factory):
    """``file_of(task, precision)``: a small network's ``.tflite`` and its Keras model. Each is made once."""

    @functools.cache
    def make(task, precision):
        path = tmp_path_factory.mktemp(task) / f"{precision}.tflite"
        return path, write(table, task, precision, path)

    return make


@pytest.fixture(scope="session", params=TOOLS)
def language(request):
    if missing(request.param):
        pytest.skip(f"{missing(request.param)}: its client cannot be run")
    return request.param


@pytest.fixture(scope="session")
def compiler(tmp_path_factory):
    """Each language's folder of what was compiled, and the command that puts cases through its client; made once."""

    @functools.cache
    def compiled(language):
        folder = tmp_path_factory.mktemp(language)
        return folder, build(language, folder)

    return compiled


@pytest.fixture(scope="session")
def built(language, compiler):
    return compiler(language)


@pytest.fixture(scope="session")
def client(built):
    return built[1]
