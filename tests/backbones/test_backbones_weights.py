"""Weights from a path, a package, Keras's cache, a download; and every way in which that can fail."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from helpers_backbones import random_images, randomise
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from keras_transfer.backbones import load_backbone, load_weights
from keras_transfer.backbones.building import build
from keras_transfer.backbones.scaling import scale_pixels
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import OfflineError, UsageError, WeightsError

SIZE = 64
SPEC = CATALOG["mobilenet"]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return random_images(2, SIZE, seed=1)


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    """Keras's own MobileNet with its 1000-class top, with statistics that make answers differ."""
    model = keras.applications.MobileNet(weights=None, input_shape=(SIZE, SIZE, 3))
    randomise(model, random_images(8, SIZE, seed=0) / 127.5 - 1)
    return model


@pytest.fixture(scope="module")
def expected(classifier, pixels) -> np.ndarray:
    """The classifier's last feature map for ``pixels``, through Keras's preprocessing."""
    body = keras.Model(classifier.input, classifier.get_layer("conv_pw_13_relu").output)
    features = np.asarray(body(keras.applications.mobilenet.preprocess_input(pixels.copy())))
    assert np.abs(features[0] - features[1]).max() > 1e-2
    return features


@pytest.fixture(scope="module")
def files(classifier, tmp_path_factory) -> Path:
    """The classifier in every format that Keras writes."""
    folder = tmp_path_factory.mktemp("weights")
    classifier.save_weights(folder / "top.weights.h5")
    classifier.save(folder / "whole.keras")
    classifier.save(folder / "whole.h5")
    body = keras.Model(classifier.input, classifier.get_layer("conv_pw_13_relu").output, name="body")
    image = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(body(keras.layers.RandomFlip()(image)))
    nested = keras.Model(image, keras.layers.Dense(3)(pooled))
    nested.save(folder / "nested.keras")
    nested.save(folder / "nested.h5")
    nested.save_weights(folder / "nested.weights.h5")
    # Keras before 3.5 did not write layer names
    nameless = folder / "nameless.weights.h5"
    nameless.write_bytes((folder / "top.weights.h5").read_bytes())
    with h5py.File(nameless, "a") as file:
        file.visititems(lambda _, member: member.attrs.pop("name", None) and None)
    return folder


@pytest.fixture(scope="module")
def empty() -> keras.Model:
    """A backbone for tests in which nothing must be loaded."""
    return build(SPEC, (SIZE, SIZE))


def answers(model: keras.Model, pixels: np.ndarray, expected: np.ndarray) -> None:
    """The feature maps are the expected ones, up to float32 rounding (scaling multiplies where Keras divides)."""
    np.testing.assert_allclose(np.asarray(model(pixels)), expected, atol=2e-4 * np.abs(expected).max())


ALL = [
    "top.weights.h5",
    "whole.keras",
    "whole.h5",
    "nested.keras",
    "nested.h5",
    "nested.weights.h5",
    "nameless.weights.h5",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_classifiers_file_gives_its_backbone(files, classifier, pixels, expected, name, caplog):
    with caplog.at_level(logging.INFO, "keras_transfer"):
        model = load_backbone("mobilenet", files / name, SIZE)
    answers(model, pixels, expected)
    for layer in model.layers:
        for ours, theirs in zip(
            layer.get_weights(),
            classifier.get_layer(layer.name).get_weights() if layer.weights else [],
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert "100.0% of the parameters" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.slow
def test_the_report(files):
    model = build(SPEC, (SIZE, SIZE))
    report = load_weights(model, SPEC, str(files / "top.weights.h5"))
    assert report.coverage == 1
    assert report.missing == report.mismatched == ()
    assert report.unused == ("conv_preds",)
    assert report.matched == tuple(layer.name for layer in model.layers if layer.weights)
    assert "unused: 1 (conv_preds)" in str(report)
    assert load_weights(model, SPEC, "none") is None


def edited(source: Path, target: Path, edit) -> Path:
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        edit(file)
    return target


@pytest.mark.slow
def test_a_partial_file_is_used_with_a_warning(files, tmp_path, caplog):
    def edit(file):
        del file["layers/conv2d"]  # conv1, 864 of 3.2 million parameters
        del file["layers/batch_normalization/vars/3"]

    path = edited(files / "top.weights.h5", tmp_path / "partial.weights.h5", edit)
    report = load_weights(build(SPEC, (SIZE, SIZE)), SPEC, path)
    assert report.missing == ("conv1",)
    assert report.mismatched == ("conv1_bn",)
    assert 0.99 < report.coverage < 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not in it: 1 (conv1); other shape: 1 (conv1_bn)" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["top.weights.h5", "whole.keras", "whole.h5"])
def test_a_file_of_another_architecture(files, name):
    model = build(CATALOG["mobilenet_v2"], (SIZE, SIZE))
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(WeightsError, match=r"another architecture than mobilenet_v2: 0 layers \(0\.0%"):
        load_weights(model, CATALOG["mobilenet_v2"], files / name)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.slow
def test_the_same_names_with_other_widths(tmp_path):
    narrow = keras.applications.MobileNet(
        alpha=0.5, weights=None, include_top=False, input_shape=(SIZE, SIZE, 3)
    )
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    with pytest.raises(
        WeightsError, match=r"another architecture than mobilenet: .*other shape: \d+ \(conv1"
    ):
        load_backbone("mobilenet", tmp_path / "narrow.weights.h5", SIZE)


def test_values_that_are_not_finite(files, empty, tmp_path):
    def edit(file):
        file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan

    path = edited(files / "top.weights.h5", tmp_path / "nan.weights.h5", edit)
    with pytest.raises(WeightsError, match="not finite"):
        load_weights(empty, SPEC, path)


def test_files_that_are_no_weights(files, empty, tmp_path):
    def refused(path, words):
        with pytest.raises(WeightsError, match=words) as caught:
            load_weights(empty, SPEC, path)
        assert path.name in str(caught.value)

    for name in ("empty.h5", "empty.keras", "empty.weights.h5"):
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, "cannot be used")
    for name in ("top.weights.h5", "whole.keras", "whole.h5"):
        content = (files / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        refused(tmp_path / name, "cannot be used")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "other.keras", r"model\.weights\.h5")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(50_000_000))
    refused(tmp_path / "bomb.keras", "far more than are stored")
    with h5py.File(tmp_path / "hollow.h5", "w"):
        pass
    refused(tmp_path / "hollow.h5", "no layer with weights")


@pytest.mark.slow
def test_files_that_reach_out_or_declare_too_much(files, empty, tmp_path):
    def refused(edit, words):
        path = edited(files / "top.weights.h5", tmp_path / "odd.weights.h5", edit)
        with pytest.raises(WeightsError, match=words):
            load_weights(empty, SPEC, path)

    def replace(make):
        def edit(file):
            del file["layers/conv2d/vars/0"]
            make(file["layers/conv2d/vars"])

        return edit

    refused(replace(lambda g: g.__setitem__("0", h5py.ExternalLink("other.h5", "/x"))), "a link")
    refused(replace(lambda g: g.__setitem__("0", h5py.SoftLink("/layers"))), "a link")
    refused(replace(lambda g: g.create_dataset("0", (10**6, 10**6), "f4", chunks=(1, 1000))), "too large")
    refused(replace(lambda g: g.create_dataset("0", data=[b"text"])), "not numbers")
    refused(
        replace(lambda g: g.create_dataset("0", (4,), "f4", external=[("/etc/hostname", 0, 16)])), "ordinary"
    )
    refused(lambda file: file["layers/conv2d"].__setitem__("again", file["layers"]), "nested too deep")


@pytest.mark.slow
def test_code_in_a_file_is_not_run(files, pixels, expected, tmp_path):
    """A .keras file whose configuration holds a Lambda gives its weights; the Lambda is not even looked at."""
    evil = tmp_path / "evil.keras"
    with zipfile.ZipFile(files / "whole.keras") as source, zipfile.ZipFile(evil, "w") as target:
        config = json.loads(source.read("config.json"))
        code = {"class_name": "__lambda__", "config": {"value": "not even a marshalled function"}}
        config["config"]["layers"].append(
            {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}
        )
        target.writestr("config.json", json.dumps(config))
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    with pytest.raises(Exception):  # noqa: B017 - Keras itself refuses to build it
        keras.models.load_model(evil)
    answers(load_backbone("mobilenet", evil, SIZE), pixels, expected)


@pytest.mark.parametrize("weights", ["imagnet", "missing.weights.h5", "", "."])
def test_neither_a_word_nor_a_file(empty, weights):
    with pytest.raises(UsageError, match="neither auto, imagenet, none nor an existing file"):
        load_weights(empty, SPEC, weights)


@pytest.mark.slow
def test_none_gives_random_weights_of_the_same_architecture(files):
    fresh, filled = (
        load_backbone("mobilenet", "none", SIZE),
        load_backbone("mobilenet", files / "whole.h5", SIZE),
    )
    assert fresh.get_config() == filled.get_config()
    assert all(layer.trainable for layer in filled.layers)
    np.testing.assert_array_equal(fresh.get_layer("conv1_bn").get_weights()[2], 0)


# ------------------------------------------------------------------ ImageNet weights


@pytest.fixture
def keras_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    (tmp_path / "keras_home" / "models").mkdir(parents=True)
    return tmp_path / "keras_home" / "models"


@pytest.fixture(scope="module")
def no_top(classifier, tmp_path_factory) -> Path:
    """What Keras would download: the body in the old .h5 format."""
    path = tmp_path_factory.mktemp("no_top") / "no_top.h5"
    keras.Model(classifier.input, classifier.get_layer("conv_pw_13_relu").output).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["auto", "imagenet"])
def test_offline_without_the_file(keras_home, weights):
    with pytest.raises(OfflineError) as caught:
        load_backbone("mobilenet", weights, SIZE, offline=True)
    assert f"Put the file mobilenet_1_0_224_tf_no_top.h5 into {keras_home}" in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.slow
def test_offline_by_the_environment(keras_home, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"resnet50_weights_tf_dim_ordering_tf_kernels_notop\.h5"):
        load_backbone("resnet50", "auto", SIZE)


@pytest.mark.nightly
def test_the_file_in_keras_cache(keras_home, no_top, pixels, expected):
    (keras_home / SPEC.weights_file).write_bytes(no_top.read_bytes())
    for weights in ("auto", "imagenet"):
        model = load_backbone("mobilenet", weights, SIZE, offline=True)
        answers(model, pixels, expected)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"not h5", None])
def test_a_damaged_or_wrong_file_in_keras_cache(keras_home, files, content):
    path = keras_home / SPEC.weights_file
    path.write_bytes((files / "whole.h5").read_bytes() if content is None else content)
    with pytest.raises(
        WeightsError, match=r"mobilenet_1_0_224_tf_no_top\.h5 is damaged or not the no-top.*Delete it"
    ):
        load_backbone("mobilenet", "imagenet", SIZE, offline=True)


@pytest.mark.slow
def test_a_download_goes_through_keras(keras_home, no_top, pixels, expected, monkeypatch, capsys):
    def get_file(fname, origin, **_):
        sys.stdout.write(f"Downloading data from {origin}\n")
        assert fname == SPEC.weights_file
        return str(no_top)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    model = load_backbone("mobilenet", "imagenet", SIZE, offline=False)
    answers(model, pixels, expected)
    assert capsys.readouterr().out == ""  # a library does not print


@pytest.mark.slow
def test_a_failed_download_says_what_to_do(keras_home, monkeypatch):
    def get_file(fname, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- Temporary failure in name resolution")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(
        WeightsError, match=r"Downloading .*mobilenet failed.*or put the file mobilenet_1_0"
    ) as caught:
        load_backbone("mobilenet", "imagenet", SIZE, offline=False)
    assert not isinstance(caught.value, OfflineError)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_a_network_that_nobody_ships_weights_for(name):
    with pytest.raises(
        WeightsError, match=rf"ImageNet weights for {name}.*--strategy scratch.*a weights file"
    ):
        load_backbone(name, "auto", 96)


@pytest.mark.slow
def test_a_network_without_any_source(monkeypatch):
    monkeypatch.setattr("keras_transfer.backbones.weights.BUILT_IN_PROVIDERS", {})
    with pytest.raises(
        WeightsError, match="No installed package provides ImageNet weights for efficientnet_lite0"
    ):
        load_backbone("efficientnet_lite0", "auto", SIZE)


# ------------------------------------------------------------------ packages that provide weights


def install(monkeypatch, *providers) -> None:
    """Pretend that packages are installed: ``(package, backbone, function or exception)``."""

    def entry(package, name, result):
        def load():
            if isinstance(result, Exception):
                raise result
            return result

        return SimpleNamespace(name=name, distribution=package, load=load)

    found = [entry(*provider) for provider in providers]
    monkeypatch.setattr("keras_transfer.backbones.weights.entries", lambda point: found)


@pytest.mark.parametrize("kind", ["path", "str", "mapping"])
def test_a_package_provides_weights(kind, files, classifier, pixels, expected, monkeypatch, keras_home):
    def provide():
        if kind == "mapping":
            return {layer.name: layer.get_weights() for layer in classifier.layers if layer.weights}
        return files / "whole.keras" if kind == "path" else str(files / "whole.keras")

    install(
        monkeypatch, ("mobilenet-weights", "mobilenet", provide), ("broken", "resnet50", ImportError("no"))
    )
    (keras_home / SPEC.weights_file).write_bytes(b"damaged")  # not looked at: packages come first
    model = load_backbone("mobilenet", "auto", SIZE)
    answers(model, pixels, expected)


def test_packages_that_do_not_work(monkeypatch, files, empty):
    def fail():
        raise RuntimeError("the disk is gone")

    def refused(words, *providers):
        install(monkeypatch, *providers)
        with pytest.raises(WeightsError, match=words):
            load_weights(empty, SPEC, "auto")

    refused(r"package one, .* is broken: ImportError\('no'\)", ("one", "mobilenet", ImportError("no")))
    refused("package one, .* failed: RuntimeError", ("one", "mobilenet", fail))
    refused("one and two both provide", ("two", "mobilenet", fail), ("one", "mobilenet", fail))
    refused("another architecture", ("one", "mobilenet", lambda: {"conv9": [np.zeros(3)]}))
    refused(
        r"names the file .*none.keras, which is not there", ("one", "mobilenet", lambda: files / "none.keras")
    )
    refused("gave a NoneType; the path of a weights file", ("one", "mobilenet", lambda: None))


# ------------------------------------------------------------------ EfficientNet's two architectures


@pytest.mark.nightly
def test_an_efficientnet_trained_from_scratch_keeps_its_own_scaling(tmp_path):
    """Keras's EfficientNet with weights=None computes x / 255; with the ImageNet weights something else (#62193)."""
    pixels = random_images(2, SIZE, seed=1)
    scratch = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    kept = scratch.get_layer(index=2).get_weights()  # mean 0, variance 1
    randomise(scratch, random_images(8, SIZE, seed=0))
    scratch.get_layer(index=2).set_weights(kept)
    scratch.get_layer(index=2).finalize_state()
    scratch.save_weights(tmp_path / "scratch.weights.h5")
    expected = np.asarray(scratch(pixels))
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    model = load_backbone("efficientnet_b0", tmp_path / "scratch.weights.h5", SIZE)
    answers(model, pixels, expected)
    model.save(tmp_path / "ours.keras")
    again = load_backbone("efficientnet_b0", tmp_path / "ours.keras", SIZE)
    answers(again, pixels, expected)


# ------------------------------------------------------------------ saved models load with Keras alone


@pytest.mark.nightly
def test_saved_models_load_with_keras_alone(tmp_path):
    """Every input mode, and the networks with layers that Keras keeps beside its public ones."""
    pixels = random_images(2, 75, seed=1)
    models = {"convnext_tiny": load_backbone("convnext_tiny", "none", 75)}
    image = keras.Input((75, 75, 3), name="image")
    models["inception_resnet"] = keras.Model(
        image, CustomScaleLayer(0.5)([image, keras.layers.Conv2D(3, 1)(image)])
    )
    for mode in ("tf", "caffe", "torch", "unit", "lite"):
        image = keras.Input((75, 75, 3), name="image")
        models[mode] = keras.Model(image, keras.layers.Conv2D(4, 3)(scale_pixels(image, mode)))
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    code = """
import pathlib, sys
for blocked in ("keras_cv", "keras_transfer"):
    sys.modules[blocked] = None
import keras, numpy as np
pixels = np.load("pixels.npy")
for path in pathlib.Path().glob("*.keras"):
    np.save(path.stem + ".npy", keras.models.load_model(path).predict(pixels, verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    for name, model in models.items():
        expected = np.asarray(model(pixels))
        np.testing.assert_allclose(
            np.load(tmp_path / f"{name}.npy"), expected, atol=1e-4 * np.abs(expected).max()
        )


# ------------------------------------------------------------------ a real file, where there is one

REAL = os.environ.get("KERAS_TRANSFER_TEST_WEIGHTS", "")


@pytest.mark.nightly
@pytest.mark.skipif(
    not REAL, reason="KERAS_TRANSFER_TEST_WEIGHTS names no MobileNet ImageNet classifier (.weights.h5)"
)
def test_a_real_imagenet_file(photos):
    """The backbone from the classifier's file, with the file's own top layer, recognises a real photograph."""
    from PIL import Image

    model = load_backbone("mobilenet", REAL, 224, pooling="avg")
    whole = keras.applications.MobileNet(weights=None)
    whole.load_weights(REAL)
    kernel, bias = whole.get_layer("conv_preds").get_weights()
    for name in ("china", "flower"):
        photo = (
            Image.fromarray(photos[name])
            .crop((106, 0, 533, 427))
            .resize((224, 224), Image.Resampling.BICUBIC)
        )
        pixels = np.asarray(photo, "float32")[None]
        logits = model.predict(pixels, verbose=0) @ kernel[0, 0] + bias
        reference = whole.predict(keras.applications.mobilenet.preprocess_input(pixels.copy()), verbose=0)
        exponentials = np.exp(logits - logits.max())
        np.testing.assert_allclose(exponentials / exponentials.sum(), reference, atol=1e-4)
        if name == "china":
            assert 698 in np.argsort(-logits[0])[:5]  # palace
