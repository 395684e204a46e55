"""Networks: right sizes for any image, trainable to the first layer, files that need nothing of this package."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_transfer_segmentation.losses import CrossEntropy
from keras_transfer_segmentation.models import deeplab_v3_plus, fpn, logits_model, unet, unet_from_scratch

from keras_transfer.backbones import load_backbone
from keras_transfer.errors import UsageError
from keras_transfer.litert import LiteRTModel, convert

CLASSES = 3
SMALL = {
    "unet": (unet, {"widths": (16, 12, 8, 8)}),
    "unet_transposed": (unet, {"widths": (16, 12, 8, 8), "upsampling": "transposed"}),
    "fpn": (fpn, {"width": 16, "head_width": 8}),
    "deeplab_v3_plus": (deeplab_v3_plus, {"width": 16, "low_level_width": 8}),
}
KINDS = [*SMALL, "unet_from_scratch"]
ON_MOBILENET = pytest.param("unet_on_mobilenet", marks=pytest.mark.nightly)
NAMES = [
    "unet",
    *(pytest.param(name, marks=pytest.mark.slow) for name in list(SMALL)[1:]),
    "unet_from_scratch",
    ON_MOBILENET,
]
OTHERS_NIGHTLY = [*(pytest.param(name, marks=pytest.mark.nightly) for name in SMALL), ON_MOBILENET]


def make(name, size, backbone="tiny", **arguments):
    """A small network of a kind, on a backbone with random weights."""
    if name == "unet_on_mobilenet":
        name, backbone = "unet", "mobilenet_v3_small"
    if name == "unet_from_scratch":
        return unet_from_scratch(size, CLASSES, **{"widths": (4, 6, 8, 10), **arguments})
    function, small = SMALL[name]
    return function(
        load_backbone(backbone, weights="none", image_size=size), CLASSES, **{**small, **arguments}
    )


def pixels(size, count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.float32)


def ask(model, images):
    """The model's answers, without a graph."""
    return np.asarray(model(images, training=False))


def settle(model, images):
    """Batch-normalization statistics of real activations, so that outputs depend on the image."""
    for _ in range(4):
        model(images, training=True)


@functools.cache
def ready(name):
    """One of each kind, for an odd size, with statistics."""
    keras.utils.set_random_seed(0)
    model = make(name, (50, 71))
    settle(model, pixels((50, 71), 4))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_probability_for_each_class_in_each_pixel(name):
    model = ready(name)
    assert model.output.shape == (None, 50, 71, CLASSES)
    assert [layer.name for layer in model.layers[-2:]] == ["logits", "probabilities"]
    images = pixels((50, 71))
    probabilities = ask(model, images)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    logits = ask(logits_model(model), images)
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=1e-6)
    assert probabilities.std(axis=(0, 1, 2)).min() > 1e-4  # it looks at the image


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 32), (33, 47)])
@pytest.mark.parametrize("name", ["unet", "unet_from_scratch"])
def test_any_size_will_do(name, size):
    model = make(name, size)
    assert model(pixels(size)).shape == (2, *size, CLASSES)
    padded = any(side % (32 if name == "unet" else 8) for side in size)
    assert padded == any(layer.name == "pad_image" for layer in model.layers)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_flat_and_of_keras_alone(name):
    for layer in ready(name).layers:
        assert not isinstance(layer, (keras.Model, keras.layers.Lambda))
        assert type(layer).__module__.startswith("keras.")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name):
    model = ready(name)
    images = pixels((50, 71))
    labels = np.random.default_rng(1).integers(0, CLASSES, (2, 50, 71))
    with tf.GradientTape() as tape:
        loss = CrossEntropy()(labels, model(images, training=True))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    unreached = [
        weight.path
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.isfinite(gradient).all()
    ]
    assert unreached == []
    first = next(g for w, g in zip(model.trainable_weights, gradients, strict=True) if "kernel" in w.path)
    assert np.abs(first).max() > 0


RELOAD = """
import sys
import numpy as np, keras
model = keras.models.load_model(sys.argv[1], compile=False)
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(model(images, training=False)))
assert not [name for name in sys.modules if name.startswith("keras_transfer")]
"""


@pytest.mark.nightly
def test_a_saved_file_needs_keras_alone(tmp_path):
    """All of them in one fresh process, which does not have this package."""
    images = pixels((50, 71))
    models = {name: ready(name) for name in KINDS}
    np.save(tmp_path / "images.npy", images)
    script = "import sys\n"
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        script += f"sys.argv = ['', '{name}.keras', 'images.npy', '{name}.npy']\n{RELOAD}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, model in models.items():
        answers = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(answers, ask(model, images), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_from_scratch", *OTHERS_NIGHTLY])
def test_tflite_gives_the_same_classes(name):
    """The converter is asked for builtin operators only, and would refuse others."""
    images = pixels((50, 71), 4, seed=3)
    expected = ask(ready(name), images)
    got = LiteRTModel(convert(ready(name)), threads=1).predict(images)
    assert (got.argmax(-1) == expected.argmax(-1)).mean() >= 0.999
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.slow
def test_the_backbones_weights_are_in_the_model():
    """Shared where 32 divides the size, copied where it does not."""
    exact = load_backbone("tiny", weights="none", image_size=64)
    model = unet(exact, CLASSES, widths=(8, 8, 8))
    assert all(model.get_layer(layer.name) is layer for layer in exact.layers)
    odd = load_backbone("tiny", weights="none", image_size=(50, 71))
    odd.get_layer("stem_conv").trainable = False
    model = unet(odd, CLASSES, widths=(8, 8, 8))
    names = [layer.name for layer in odd.layers if layer.get_weights()]
    assert len(names) == 14
    for name in names:
        copied = model.get_layer(name)
        assert copied is not odd.get_layer(name)
        for one, other in zip(copied.get_weights(), odd.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not model.get_layer("stem_conv").trainable


NIGHTLY_FAMILIES = [
    pytest.param(name, marks=pytest.mark.nightly) for name in ("mobilenet_v3_small", "efficientnet_b0")
]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tiny", *NIGHTLY_FAMILIES])
def test_padding_is_the_same_as_a_black_border(backbone):
    """A model for 50x71 answers like the one for 64x96 with the same weights, given the padded image."""
    small, large = make("fpn", (50, 71), backbone), make("fpn", (64, 96), backbone)
    for layer in large.layers:
        layer.set_weights(small.get_layer(layer.name).get_weights())
    settle(small, pixels((50, 71)))
    for layer in large.layers:
        layer.set_weights(small.get_layer(layer.name).get_weights())
    images = pixels((50, 71))
    bordered = np.zeros((2, 64, 96, 3), np.float32)
    bordered[:, :50, :71] = images
    np.testing.assert_allclose(ask(small, images), ask(large, bordered)[:, :50, :71], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet_from_scratch", *OTHERS_NIGHTLY])
def test_one_seed_one_beginning(name):
    def decoder(seed):
        keras.utils.set_random_seed(5)
        model = make(name, (64, 64), seed=seed)
        return {w.path: w.numpy() for w in model.weights if w.path.startswith(("decoder_", "head_"))}

    one, same, other = decoder(1), decoder(1), decoder(2)
    assert one.keys() == same.keys()
    assert all(np.array_equal(one[path], same[path]) for path in one)
    kernels = [path for path in one if path.endswith("kernel")]
    assert len(kernels) > 5
    assert not any(np.array_equal(one[path], other[path]) for path in kernels)
    # Layers of one shape do not begin alike.
    assert len({one[path].tobytes() for path in kernels}) == len(kernels)


@pytest.mark.slow
def test_dropout_is_active_in_training_only():
    model = make("unet", (32, 32), dropout=0.5)
    images = pixels((32, 32))
    layer = model.get_layer("head_dropout")
    assert layer.rate == 0.5
    np.testing.assert_array_equal(model(images, training=False), model(images, training=False))
    once, again = model(images, training=True), model(images, training=True)
    assert not np.array_equal(once, again)


@pytest.mark.nightly
def test_a_small_network_learns_where_the_bright_half_is():
    rng = np.random.default_rng(0)
    labels = np.zeros((24, 32, 32), np.uint8)
    for i, edge in enumerate(rng.integers(8, 24, 24)):
        labels[i, :, edge:] = 1
    images = (labels * 120 + rng.integers(0, 100, labels.shape))[..., None].repeat(3, -1).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = unet_from_scratch((32, 32), 2, widths=(4, 8), dropout=0.0)
    model.compile(keras.optimizers.Adam(0.01), CrossEntropy())
    model.fit(images[:16], labels[:16], epochs=12, batch_size=8, verbose=0)
    right = ask(model, images[16:]).argmax(-1) == labels[16:]
    assert right.mean() > 0.95


@pytest.mark.slow
def test_the_paper_s_network_has_its_layers():
    """23 convolutional layers, 64 to 1024 channels, 31 million weights."""
    model = unet_from_scratch((32, 32), 2, normalize=False)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") + kinds.count("Conv2DTranspose") == 23
    assert kinds.count("MaxPooling2D") == 4
    assert 31.0e6 < model.count_params() < 31.1e6


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "backbone", "size"),
    [
        ("unet", "vgg16", (64, 64)),
        ("unet_transposed", "xception", (96, 80)),
        ("fpn", "convnext_tiny", (40, 64)),
        ("deeplab_v3_plus", "inception_v3", (96, 96)),
        ("unet", "efficientnet_b0", (50, 64)),
        ("fpn", "resnet50", (64, 50)),
    ],
)
def test_any_family_will_do(name, backbone, size, tmp_path):
    model = make(name, size, backbone)
    images = pixels(size, 1)
    probabilities = ask(model, images)
    assert probabilities.shape == (1, *size, CLASSES)
    assert np.isfinite(probabilities).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(ask(again, images), probabilities, atol=1e-6)


def tiny():
    return load_backbone("tiny", weights="none", image_size=32)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: unet(tiny(), 1), "at least 2"),
        (lambda: unet(tiny(), 2, widths=(8, 8)), "3 or 4"),
        (lambda: unet(tiny(), 2, widths=(8, 8, 0)), "at least 1"),
        (lambda: unet(tiny(), 2, upsampling="cubic"), "no upsampling 'cubic'"),
        (lambda: fpn(tiny(), 2, dropout=1.0), "below 1"),
        (lambda: unet(keras.Sequential([keras.Input((32, 32, 3))], name="mine"), 2), "no backbone 'mine'"),
        (lambda: unet_from_scratch((32,), 2), "height, width"),
        (lambda: unet_from_scratch((32, 32), 2, widths=(8,)), "at least two"),
    ],
)
def test_impossible_networks_are_refused(build, named):
    with pytest.raises(UsageError, match=named):
        build()
