"""Networks as they are: the 1,000 classes by name, real weights on real photographs, without a connection."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_transfer_tests.networks import shapes_only
from PIL import Image

from keras_transfer import predict
from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import class_names, load_classifier
from keras_transfer.backbones.weights import keras_cache, weights_file
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import OfflineError, UsageError, WeightsError
from keras_transfer.workflow.as_is import as_is

REAL = os.environ.get("KERAS_TRANSFER_TEST_WEIGHTS", "")
CATS = {"tabby", "tiger cat", "Egyptian cat"}

needs_mobilenet = pytest.mark.skipif(
    not REAL, reason="KERAS_TRANSFER_TEST_WEIGHTS names no MobileNet ImageNet classifier (.weights.h5)"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photos) -> dict[str, Path]:
    """Real photographs: scikit-image's cat, coffee and astronaut; scikit-learn's palace and flower."""
    data = pytest.importorskip("skimage.data", reason="scikit-image (extra: test) brings the photographs")
    folder = tmp_path_factory.mktemp("pictures")
    images = {"cat": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut(), **photos}
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in images}


def best(loaded, pictures) -> dict[str, list[str]]:
    """The five best names for each photograph."""
    answers = predict(loaded, list(pictures.values()))
    return {
        name: [row["label"] for row in answer["classes"]]
        for name, answer in zip(pictures, answers, strict=True)
    }


def test_the_names_are_in_the_order_of_the_outputs():
    names = class_names()
    assert len(set(names)) == len({name.lower() for name in names}) == 1000
    known = {0: "tench", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 698: "palace", 967: "espresso"}
    known |= {985: "daisy", 999: "toilet tissue"}
    assert {i: names[i] for i in known} == known


@pytest.mark.slow
def test_lite0_recognises_photographs(pictures):
    found = best(as_is("efficientnet_lite0"), pictures)
    assert found["cat"][0] in CATS
    assert found["coffee"][0] == "espresso"
    assert found["china"][0] == "palace"
    assert found["flower"][0] == "daisy"
    assert len(set(found["astronaut"])) == 5


@pytest.mark.slow
@needs_mobilenet
def test_mobilenet_recognises_photographs(pictures):
    found = best(as_is("mobilenet", REAL), pictures)
    assert found["cat"][0] in CATS
    assert found["coffee"][0] == "espresso"
    assert "palace" in found["china"][:2]


@pytest.mark.nightly
@needs_mobilenet
def test_mobilenet_from_keras_cache(pictures, tmp_path, monkeypatch):
    """The file that Keras downloads, put where Keras would put it, is enough; without it the sentence names both."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(OfflineError) as error:
        load_classifier("mobilenet")
    assert "mobilenet_1_0_224_tf.h5" in str(error.value) and str(keras_cache()) in str(error.value)
    whole = keras.applications.MobileNet(weights=None)
    whole.load_weights(REAL)
    keras_cache().mkdir()
    whole.save(keras_cache() / "mobilenet_1_0_224_tf.h5")
    model = load_classifier("mobilenet")
    pixels = np.asarray(Image.open(pictures["coffee"]).resize((224, 224)), "float32")[None]
    expected = whole.predict(keras.applications.mobilenet.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-5)


FAST = ("mobilenet", "mobilenet_v2", "mobilenet_v3_small")
NAMED = [name for name, spec in CATALOG.items() if spec.weights_file and spec.params < 30e6]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.nightly) for name in NAMED]
)
def test_the_file_with_the_classifier_has_the_name_keras_gives_it(name, monkeypatch):
    """Asked for ImageNet weights, Keras's constructor fetches this file: the name is noted, nothing is fetched.

    The networks of more than 30 M parameters follow the same rules as their smaller siblings.
    """
    spec = get_spec(name)
    asked = []

    def note(fname, *_args, **_options):
        asked.append(fname)
        raise FileNotFoundError(fname)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", note)
    constructor = getattr(keras.applications, spec.constructor.removeprefix("keras.applications:"))
    with shapes_only(), pytest.raises(FileNotFoundError):
        constructor(weights="imagenet", include_top=True)
    assert asked == [weights_file(spec, top=True)]


@pytest.mark.nightly
def test_weights_without_the_classifier_are_refused(tmp_path):
    small = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    small.save_weights(tmp_path / "no_top.weights.h5")
    with pytest.raises(WeightsError):
        load_classifier("mobilenet_v3_small", tmp_path / "no_top.weights.h5")
    ten = keras.applications.MobileNetV3Small(weights=None, classes=10)
    ten.save_weights(tmp_path / "ten.weights.h5")
    with pytest.raises(WeightsError):
        load_classifier("mobilenet_v3_small", tmp_path / "ten.weights.h5")
    with pytest.raises(WeightsError, match="random weights"):
        load_classifier("mobilenet_v3_small", "none")
    with pytest.raises(UsageError, match="Did you mean"):
        load_classifier("mobilnet_v3_small")


@pytest.mark.nightly
def test_a_file_of_the_whole_network_is_taken(tmp_path):
    """keras.applications' own answer, scaling outside, and ours, scaling inside."""
    whole = keras.applications.MobileNetV3Small(weights=None)
    whole.save_weights(tmp_path / "whole.weights.h5")
    model = load_classifier("mobilenet_v3_small", tmp_path / "whole.weights.h5")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(model(pixels), whole(pixels), atol=1e-6)
    assert json.dumps(model.output_shape) == "[null, 1000]"
