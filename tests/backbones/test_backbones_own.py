"""A classifier of the user's own as a backbone: the same numbers below its head, and a sentence where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_transfer import describe, load_backbone
from keras_transfer.backbones.own import in_float32
from keras_transfer.errors import UsageError, WeightsError
from keras_transfer.evaluation.gradcam import GradCam
from keras_transfer.litert import convert
from keras_transfer.testing.command import call


def small(scaled: bool) -> keras.Model:
    """A small classifier, pixels to 5 classes; with ``scaled`` it scales them itself."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((48, 48, 3)),
            *([layers.Rescaling(1 / 255)] if scaled else []),
            layers.Conv2D(8, 3, strides=2, name="first"),
            layers.ReLU(),
            layers.Conv2D(12, 3, strides=2, name="second"),
            layers.ReLU(name="last_map"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def pixels(photos) -> np.ndarray:
    """Two real crops, float32 (2, 48, 48, 3)."""
    return np.stack([photo[100:148, 200:248] for photo in photos.values()]).astype("float32")


def below(model: keras.Model, name: str, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.inputs, model.get_layer(name).output)(pixels))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_head_is_dropped_and_the_numbers_below_stay(tmp_path, pixels, suffix):
    model, path = small(scaled=True), tmp_path / f"mine{suffix}"
    model.save(path)
    backbone = load_backbone(f"path:{path}")
    assert backbone.output_shape == (None, 11, 11, 12)
    np.testing.assert_allclose(backbone(pixels), below(model, "last_map", pixels), atol=1e-6)
    cut = load_backbone(f"path:{path}", cut="first")
    np.testing.assert_allclose(cut(pixels), below(model, "first", pixels), atol=1e-6)
    larger = load_backbone(f"path:{path}", image_size=64)
    assert larger.input_shape == (None, 64, 64, 3)


def test_stated_preprocessing_becomes_a_layer(tmp_path, pixels):
    model = small(scaled=False)
    model.save(tmp_path / "mine.keras")
    with pytest.raises(UsageError, match=r"--input-mode: tf, caffe"):
        load_backbone(f"path:{tmp_path / 'mine.keras'}")
    backbone = load_backbone(f"path:{tmp_path / 'mine.keras'}", input_mode="tf")
    np.testing.assert_allclose(backbone(pixels), below(model, "last_map", pixels / 127.5 - 1), atol=1e-5)


@pytest.mark.nightly
def test_a_nested_backbone_is_opened(tmp_path, pixels):
    """What Keras's guide to transfer learning makes: a network inside a Functional model."""
    inner = load_backbone("mobilenet_v3_small", weights="none", image_size=48)
    image = keras.Input((48, 48, 3))
    x = keras.layers.GlobalAveragePooling2D()(inner(keras.layers.Rescaling(1.0)(image), training=False))
    keras.Model(image, keras.layers.Dense(3)(x)).save(tmp_path / "nested.keras")
    backbone = load_backbone(f"path:{tmp_path / 'nested.keras'}")
    assert not any(isinstance(layer, keras.Model) for layer in backbone.layers)
    np.testing.assert_allclose(backbone(pixels), inner(pixels), atol=1e-5)


def sharing_a_name(folder: Path) -> Path:
    """A network inside another, made in two processes: both have a layer that Keras called ``conv2d``."""
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((48, 48, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, name="conv2d")],
        name="inner",
    )
    pooled = [layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
    outer = keras.Sequential([keras.Input((48, 48, 3)), inner, layers.Conv2D(6, 3, name="conv2d"), *pooled])
    outer.save(folder / "outer.keras")
    return folder / "outer.keras"


def test_layers_of_nested_models_may_share_a_name(tmp_path, pixels):
    path = sharing_a_name(tmp_path)
    backbone = load_backbone(f"path:{path}")
    assert [layer.name for layer in backbone.layers if "conv2d" in layer.name] == ["conv2d", "conv2d_2"]
    outer = keras.models.load_model(path)
    expected = outer.layers[1](outer.get_layer("inner")(pixels))
    np.testing.assert_allclose(backbone(pixels), expected, atol=1e-6)
    backbone.save(tmp_path / "again.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "again.keras")(pixels), expected, atol=1e-6)
    rows = {row.name: row.parameters for row in describe(outer).layers}
    assert (rows["conv2d"], rows["conv2d_2"]) == (27 * 4 + 4, 36 * 6 + 6)
    heat = GradCam(outer, "conv2d_2")(pixels[0], 0)
    assert heat.shape == (48, 48) and heat.max() <= 1
    assert [outer.layers[0].layers[1].name, outer.layers[1].name] == ["conv2d", "conv2d"], "left as they were"


@pytest.mark.slow
def test_it_trains_and_gives_features_like_any_backbone(tmp_path, photo_folder):
    small(scaled=True).save(tmp_path / "mine.keras")
    own = ("--backbone", f"path:{tmp_path / 'mine.keras'}", "--engine", "keras")
    call("train", photo_folder, "--output", tmp_path / "run", "--strategy", "probe", *own, "--cut", "second")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (
        info["backbone"]["name"] == f"path:{tmp_path / 'mine.keras'}"
        and info["backbone"]["feature_dim"] == 12
    )
    facts = json.loads(
        call("features", photo_folder, *own, "--pooling", "max", "-o", tmp_path / "f.npz", "--json")[0]
    )
    assert facts["dimensions"] == 12
    found = json.loads(call("describe", tmp_path / "mine.keras", "--json")[0])
    assert "second" in [row["name"] for row in found["layers"]]


@pytest.mark.nightly
def test_a_saved_model_of_keras_2(tmp_path, pixels):
    tf_keras = pytest.importorskip("tf_keras", reason="Keras 2 (extra: saved-model) writes such a SavedModel")
    layers = tf_keras.layers
    old = tf_keras.Sequential(
        [
            layers.Input((48, 48, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    old.save(tmp_path / "old", save_format="tf")
    assert "conv" in [row.name for row in describe(tmp_path / "old").layers]
    backbone = load_backbone(f"path:{tmp_path / 'old'}")
    expected = tf_keras.Model(old.inputs, old.get_layer("conv").output)(pixels)
    np.testing.assert_allclose(backbone(pixels), np.asarray(expected), atol=1e-5)
    small(scaled=True).export(tmp_path / "served", verbose=False)
    with pytest.raises(UsageError, match="without Keras layers"):
        load_backbone(f"path:{tmp_path / 'served'}")


class Foreign(keras.layers.Layer):
    """Code that nobody who loads the file has."""

    def call(self, inputs):
        return inputs * 2


def test_what_cannot_be_a_backbone_is_refused_in_a_sentence(tmp_path):
    def given(name: str, layers: list) -> str:
        keras.Sequential([keras.Input((8, 8, 3)), *layers]).save(tmp_path / name)
        return f"path:{tmp_path / name}"

    foreign = given("foreign.keras", [Foreign(), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(UsageError, match="the layer Foreign, which is not Keras's own") as refused:
        load_backbone(foreign, input_mode="none")
    assert len(str(refused.value)) < 300
    code = given("code.keras", [keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten()])
    with pytest.raises(UsageError, match="not Keras's own"):
        load_backbone(code, input_mode="none")
    plain = given("plain.keras", [keras.layers.Conv2D(4, 3, name="conv")])
    with pytest.raises(UsageError, match="--cut LAYER"):
        load_backbone(plain, input_mode="none")
    with pytest.raises(UsageError, match="Did you mean conv"):
        load_backbone(plain, input_mode="none", cut="conf")
    with pytest.raises(UsageError, match=r"no file nowhere\.keras"):
        load_backbone("path:nowhere.keras")
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="damaged"):
        load_backbone(f"path:{tmp_path / 'broken.keras'}")
    with pytest.raises(UsageError, match="model of your own"):
        load_backbone("mobilenet", weights="none", cut="conv1")
    with pytest.raises(UsageError, match="has its own"):
        load_backbone(plain, weights="other.h5")


def scaling_itself(how: str) -> keras.Model:
    """Pixels to 5 classes, scaled to [-1, 1] by the model, and not by its first layer."""
    layers = keras.layers
    image = keras.Input((48, 48, 3))
    x = image
    if how == "behind augmentation":
        x = layers.Rescaling(1 / 127.5, -1)(layers.RandomFlip("horizontal")(x))
    elif how == "behind a model of augmentation":
        x = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)], name="augment")(x)
        x = layers.Rescaling(1 / 127.5, -1)(x)
    elif how == "by operations":
        x = keras.applications.mobilenet_v2.preprocess_input(x)
    else:
        x = keras.Sequential([layers.Resizing(48, 48), layers.Rescaling(1 / 127.5, -1)], name="prepare")(x)
    for filters, name in ((8, "first"), (12, "last_map")):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu", name=name)(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["behind augmentation", "behind a model of augmentation", "by operations", "in a model"]
)
def test_scaling_inside_a_model_is_found_and_not_done_twice_in_silence(tmp_path, pixels, caplog, how):
    model, path = scaling_itself(how), tmp_path / "mine.keras"
    model.save(path)
    backbone = load_backbone(f"path:{path}")
    inner = keras.Model(model.inputs, model.get_layer("last_map").output)
    np.testing.assert_allclose(backbone(pixels, training=False), inner(pixels, training=False), atol=1e-5)
    assert "scaled twice" not in caplog.text
    load_backbone(f"path:{path}", input_mode="none")
    assert "scaled twice" not in caplog.text
    load_backbone(f"path:{path}", input_mode="tf")
    assert "scaled twice" in caplog.text


def test_a_network_with_weights_first_scales_nothing(tmp_path):
    """A division behind the first convolution is no preprocessing."""
    image = keras.Input((48, 48, 3))
    x = keras.layers.Conv2D(4, 3)(image) / 127.5
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(tmp_path / "mine.keras")
    with pytest.raises(UsageError, match="--input-mode"):
        load_backbone(f"path:{tmp_path / 'mine.keras'}")


@pytest.mark.slow
def test_an_h5_file_of_keras_2_with_depthwise_layers(tmp_path, pixels):
    """Keras 2 writes ``groups`` for them, which Keras 3 does not take: every MobileNet has some."""
    tf_keras = pytest.importorskip("tf_keras", reason="Keras 2 (extra: saved-model) writes such a file")
    layers = tf_keras.layers
    old = tf_keras.Sequential(
        [
            layers.Input((48, 48, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, strides=2),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.SeparableConv2D(8, 3, padding="same"),
            layers.Conv2DTranspose(4, 3, padding="same", name="last_map"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    old.save(tmp_path / "keras_model.h5")
    before = (tmp_path / "keras_model.h5").read_bytes()
    with pytest.raises(Exception, match="groups"):
        keras.models.load_model(tmp_path / "keras_model.h5")
    backbone = load_backbone(f"path:{tmp_path / 'keras_model.h5'}")
    expected = tf_keras.Model(old.inputs, old.get_layer("last_map").output)(pixels)
    np.testing.assert_allclose(backbone(pixels), np.asarray(expected), atol=1e-5)
    assert (tmp_path / "keras_model.h5").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_in_half_precision_is_taken_in_float32(tmp_path, pixels, policy, caplog):
    caplog.set_level("INFO", logger="keras_transfer")
    keras.config.set_dtype_policy(policy)
    try:
        half = small(scaled=True)
    finally:
        keras.config.set_dtype_policy("float32")
    half.save(tmp_path / "half.keras")
    backbone = load_backbone(f"path:{tmp_path / 'half.keras'}")
    assert {layer.compute_dtype for layer in backbone.layers} == {"float32"}
    assert "computes in half precision" in caplog.text and policy in caplog.text
    whole = in_float32(half)
    assert whole.outputs[0].dtype == "float32" and half.layers[1].compute_dtype != "float32"
    for one, other in zip(half.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(
        below(whole, "last_map", pixels),
        below(half, "last_map", pixels).astype("float32"),
        rtol=0.05,
        atol=0.02,
    )
    single = small(scaled=True)
    assert in_float32(single) is single
    assert len(convert(whole))
