"""What the tests share: the tiny backbone, folders that are made once a test run, and the table of seconds."""

import importlib
import json
import math
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL, TINY, timing
from keras_transfer_tests.sharing import Shared
from keras_transfer_tests.tiny import weights

from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import blocks, load_backbone, pyramid_model
from keras_transfer.errors import UsageError
from keras_transfer.testing.command import call

# The tiny backbone


@pytest.fixture(scope="module")
def network():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def crops(photos):
    """Four crops of each photograph, float32 ``(8, 64, 64, 3)``."""
    parts = [photo[90 * i :, 140 * i :][:64, :64] for photo in photos.values() for i in range(4)]
    return np.stack(parts).astype("float32")


def answers(model, images):
    return np.asarray(model(images, training=False))


def normalizations(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_its_row_of_the_catalog_is_true(network):
    assert get_spec("tiny") is TINY
    assert get_spec(SMALL["backbone"]) is TINY and SMALL["image_size"] == TINY.default_size
    assert network.count_params() == TINY.params
    assert network.input_shape == (None, TINY.default_size, TINY.default_size, 3)
    assert network.output_shape[-1] == TINY.feature_dim
    names = [name for name, _ in blocks(network)]
    assert names == ["input", "stem", "block3a", "block4a", "block5a", "block5b", "top"]


@pytest.mark.parametrize("size", [(TINY.min_size, TINY.min_size), (64, 64), (70, 45)])
def test_its_levels_have_the_strides_of_a_pyramid(size):
    levels = pyramid_model(load_backbone("tiny", "none", size), TINY).output
    assert {name: tensor.shape[1:3] for name, tensor in levels.items()} == {
        f"P{level}": tuple(math.ceil(side / 2**level) for side in size) for level in (2, 3, 4, 5)
    }


def test_an_image_below_the_smallest_is_refused():
    with pytest.raises(UsageError, match=rf"at least {TINY.min_size} pixels"):
        load_backbone("tiny", "none", TINY.min_size - 1)


def test_its_backbone_and_its_weights_are_found_like_a_plugin_s():
    found = json.loads(call("plugins", "--json")[0])
    ours = {one["kind"]: one["state"] for one in found if one["distribution"] == "keras-transfer-tests"}
    assert ours == {"backbone": "ok", "weights": "ok"}


def test_its_answers_depend_on_the_image_and_are_not_those_of_a_fresh_network(network, crops):
    features = answers(network, crops).mean(axis=(1, 2))
    varying = features.std(axis=0) > 1e-3
    assert varying.mean() > 0.8, "features that no image changes"
    apart = np.abs(features[:, None] - features).max(axis=2)
    assert apart[~np.eye(len(crops), dtype=bool)].min() > 1e-2
    fresh = answers(load_backbone("tiny", "none"), crops).mean(axis=(1, 2))
    assert np.abs(features - fresh).max() > 0.1


@pytest.mark.slow
def test_the_statistics_of_every_normalization_are_live(network, crops):
    """None is that of a fresh layer, and without any one of them the answers change."""
    norms = normalizations(network)
    assert len(norms) == 7
    expected = answers(network, crops)
    for norm in norms:
        kept = norm.get_weights()
        for place, fresh in enumerate((1, 0, 0, 1)):  # gamma, beta, mean, variance
            assert np.all(kept[place] != fresh), norm.name
            norm.set_weights([np.full_like(kept[i], fresh) if i == place else kept[i] for i in range(4)])
            assert np.abs(answers(network, crops) - expected).max() > 1e-3, (norm.name, place)
        norm.set_weights(kept)
    np.testing.assert_array_equal(answers(network, crops), expected)


def test_its_weights_are_the_same_in_another_process():
    code = """
import pickle, sys, types
sys.modules["keras"] = types.ModuleType("keras")  # to draw weights takes NumPy alone
from keras_transfer_tests.tiny import weights
pickle.dump(weights(), sys.stdout.buffer)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    there, here = pickle.loads(done.stdout), weights()
    assert list(there) == list(here)
    for name, arrays in here.items():
        for one, other in zip(arrays, there[name], strict=True):
            np.testing.assert_array_equal(one, other)


# What is made once a test run

CHILD = """
import sys
from pathlib import Path
from keras_transfer_tests.sharing import Shared
root, way = Path(sys.argv[1]), sys.argv[2]
def make(folder):
    (folder / "first.txt").write_text(way)
    print("making", flush=True)
    sys.stdin.readline()
    (folder / "second.txt").write_text(way)
print("asking", flush=True)
sys.stdin.readline()
shared = Shared(root / "shared")
place = shared("thing", make)
print("has", *sorted(path.name + "=" + path.read_text() for path in place.iterdir()), flush=True)
assert "tensorflow" not in sys.modules
"""


@pytest.fixture
def asking(tmp_path):
    """Starts a process that waits for a line, asks for the folder ``thing``, and waits for a line while it makes it."""
    children = []

    def start(way):
        command = [sys.executable, "-c", CHILD, str(tmp_path), way]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "asking\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def go_on(child):
    child.stdin.write("\n")
    child.stdin.flush()


def filled(folder):
    (folder / "whole.txt").write_text("whole")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_of_two_processes_that_ask_at_once_one_makes_it_and_both_read_it(asking):
    children = [asking("one"), asking("other")]
    for child in children:
        go_on(child)
        go_on(child)
    said = [child.communicate()[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(len(lines) for lines in said) == [1, 2], "one of them made it"
    maker = ("one", "other")[len(said[1]) == 2]
    assert [lines[-1] for lines in said] == [f"has first.txt={maker} second.txt={maker}"] * 2


def test_what_a_killed_process_left_is_not_read_and_the_next_one_makes_it(asking, tmp_path):
    killed, waiting = asking("killed"), asking("next")
    go_on(killed)
    assert killed.stdout.readline() == "making\n"
    go_on(waiting)
    go_on(waiting)
    assert not (tmp_path / "shared" / "thing").exists()
    killed.kill()
    killed.wait()
    said = waiting.communicate()[0].splitlines()
    assert said == ["making", "has first.txt=next second.txt=next"]


def test_a_maker_that_fails_leaves_nothing_and_the_next_one_makes_it(tmp_path):
    shared = Shared(tmp_path / "shared")

    def failing(folder):
        filled(folder)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        shared("thing", failing)
    assert names(tmp_path / "shared") == ["thing.lock"]
    place = shared("thing", filled)
    assert place == tmp_path / "shared" / "thing" and names(place) == ["whole.txt"]
    assert shared("thing", failing) == place, "it is made once"


def test_what_is_made_has_the_cache_of_the_makers(tmp_path):
    before, seen = os.environ["KERAS_TRANSFER_CACHE"], []
    Shared(tmp_path)("thing", lambda folder: seen.append(os.environ["KERAS_TRANSFER_CACHE"]))
    assert seen == [str(tmp_path / "cache")] and os.environ["KERAS_TRANSFER_CACHE"] == before


# The table of seconds


@pytest.mark.parametrize(
    ("nodeid", "folder"),
    [
        ("tests/test_readme.py::test_x", "tests"),
        ("tests/export/test_bundle.py::test_x[a/b]", "tests/export"),
        ("plugins/keras-transfer-gan/tests/test_gan.py::test_x", "plugins/keras-transfer-gan"),
        ("test_alone.py::test_x", "."),
    ],
)
def test_a_test_is_counted_to_its_folder(nodeid, folder):
    assert timing.folder_of(nodeid) == folder


def test_the_table_has_the_costliest_folder_first_and_a_total():
    def report(nodeid, when, duration):
        return SimpleNamespace(nodeid=nodeid, when=when, duration=duration)

    lines = []
    reports = [
        report("tests/data/test_a.py::test_x", "setup", 0.25),
        report("tests/data/test_a.py::test_x", "call", 0.5),
        report("tests/export/test_b.py::test_x", "call", 2.0),
        SimpleNamespace(nodeid="tests/test_c.py"),  # a file that could not be collected has no duration
    ]
    reporter = SimpleNamespace(
        stats={"passed": reports[:2], "failed": reports[2:3], "error": reports[3:]},
        section=lambda title: None,
        write_line=lines.append,
    )
    timing.pytest_terminal_summary(reporter)
    assert [line.split() for line in lines[1:]] == [
        ["2.0", "0.0", "1", "tests/export"],
        ["0.8", "0.2", "1", "tests/data"],
        ["2.8", "0.2", "2", "all,", "over", "all", "workers"],
    ]


# Modules that a test writes


@pytest.mark.parametrize("number", [1, 2])
def test_two_tests_may_write_a_module_of_one_name(tmp_path, monkeypatch, number):
    (tmp_path / "kt_of_this_test.py").write_text(f"NUMBER = {number}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    written = importlib.import_module("kt_of_this_test")
    assert number == written.NUMBER
