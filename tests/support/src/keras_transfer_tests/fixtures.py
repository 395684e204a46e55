"""The pytest plugin of every test in the repository (``-p keras_transfer_tests.fixtures`` in ``pyproject.toml``).

No network, a feature cache for each test, threads that fit the cores, sets of real images, and finished runs that are
made once a test run. The images are crops of the two photographs that come with scikit-learn (``china.jpg``,
``flower.jpg``).
"""

from __future__ import annotations

# isort: off
import keras_transfer_tests.environment  # noqa: F401  (read when NumPy and TensorFlow are imported)

# isort: on
import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from keras_transfer_tests import SMALL
from keras_transfer_tests.images import write_crops
from keras_transfer_tests.sharing import Shared

# TensorFlow's own objects are a million: what looks for garbage among them looks seldom.
gc.set_threshold(50_000, 20, 20)
# A busy machine must not fail a property. `make nightly` draws more examples than `make test`.
EXAMPLES = int(os.environ.get("KERAS_TRANSFER_TEST_EXAMPLES", "30"))
settings.register_profile("unhurried", deadline=None, max_examples=EXAMPLES)
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests whose inputs Hypothesis draws: ``make nightly`` runs them, too, with more examples."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.drawn)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, nor another test's."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _own_modules(request):
    """What a test writes and imports is forgotten with it: the next test's module may have the same name."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder, before = str(request.getfixturevalue("tmp_path")), set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Shared:
    """Makes a folder once for the whole test run: see :class:`keras_transfer_tests.sharing.Shared`."""
    base = tmp_path_factory.getbasetemp()
    return Shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Two real photographs, uint8 ``(427, 640, 3)``: ``china`` (a palace) and ``flower`` (a dahlia)."""
    from sklearn.datasets import load_sample_image

    found = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for photo in found.values():
        photo.setflags(write=False)  # shared by all tests
    return found


@pytest.fixture(scope="session")
def photo_folder(shared, photos) -> Path:
    """A class-per-folder tree: ``china`` and ``flower``, 20 real crops of 96x96 each. Read-only by convention."""

    def make(folder):
        for seed, (name, photo) in enumerate(photos.items()):
            write_crops(folder / name, photo, 20, seed)

    return shared("photo_folder", make)


@pytest.fixture(scope="session")
def finished_run(shared, photo_folder):
    """A probe of the tiny backbone at 64 pixels on the two classes of crops. Read-only: tests change a copy."""
    return _run(shared, "finished_run", photo_folder, **SMALL, strategy="probe")


@pytest.fixture(scope="session")
def lite_run(shared, photo_folder):
    """The same of EfficientNet-Lite0 with its real weights. Read-only: tests change a copy."""
    return _run(shared, "lite_run", photo_folder, image_size=64, engine="keras", strategy="probe")


@pytest.fixture(scope="session")
def finished(shared):
    """A finished run of a task by the task's name, trained on its own sample. Read-only: tests change a copy."""

    def run_of(task: str):
        from keras_transfer.discovery import import_object
        from keras_transfer.tasks.specs import task_spec

        def make(folder):
            (folder / "data").mkdir()
            source = import_object(task_spec(task).sample)(folder / "data")
            (folder / "source.txt").write_text(str(Path(source).relative_to(folder)))

        sample = shared(f"sample-{task}", make)
        source = sample / (sample / "source.txt").read_text()
        return _run(shared, f"finished-{task}", source, task=task, **SMALL, epochs=1, batch_size=8)

    return run_of


@pytest.fixture(scope="session")
def network_facts(shared):
    """Facts of a network of the catalog by its name (see :mod:`keras_transfer_tests.networks`), built once a run."""

    def facts(name: str) -> dict:
        from keras_transfer_tests.networks import write_facts

        folder = shared(f"network-{name}", lambda folder: write_facts(name, folder))
        return json.loads((folder / "facts.json").read_text())

    return facts


@pytest.fixture
def eagerly():
    """Without graphs: for a training of a few steps, tracing takes longer than the training."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(params=["eagerly", pytest.param("in graphs", marks=pytest.mark.nightly)])
def eagerly_and_nightly_in_graphs(request):
    """For a training whose promise must hold either way."""
    if request.param == "eagerly":
        request.getfixturevalue("eagerly")


def _run(shared, name, data, **values):
    from keras_transfer.run import open_run
    from keras_transfer.workflow.train import train

    return open_run(shared(name, lambda folder: train(data, folder / "run", **values)) / "run")
