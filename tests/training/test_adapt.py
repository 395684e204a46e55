"""Adapting batch normalization: exact statistics, nothing else touched, and it helps where the light has changed."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from keras_transfer.backbones import load_backbone
from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import add_head, split_head
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.probe import fit_probe


def regions(photos, count, seed, size=96):
    """Crops of 8 regions of each photograph, 16 classes: uint8 ``(16 * count, size, size, 3)``, and the classes."""
    rng = np.random.default_rng(seed)
    pixels, labels = [], []
    for photo in photos.values():
        for region in range(8):
            top, left = 213 * (region // 4), 160 * (region % 4)
            for _ in range(count):
                y, x = top + rng.integers(0, 213 - size), left + rng.integers(0, 160 - size)
                pixels.append(photo[y : y + size, x : x + size])
                labels.append(region + 8 * (photo is not photos["china"]))
    return np.array(pixels), np.array(labels)


@pytest.fixture(scope="module")
def images(photos):
    return regions(photos, 2, 0, 24)[0][:30]


def network(nested=False):
    keras.utils.set_random_seed(0)
    body = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.BatchNormalization(name="first"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Dropout(0.5, name="drop"),
        keras.layers.Conv2D(5, 3, name="conv2"),
        keras.layers.BatchNormalization(name="second", momentum=0.7),
    ]
    x = entry = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    if nested:
        x = keras.Sequential([keras.Input((24, 24, 3)), *body], name="inner")(x)
    else:
        for layer in body:
            x = layer(x)
    return keras.Model(entry, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def answers(model, images):
    return np.asarray(model(images.astype("float32"), training=False))


@pytest.mark.slow
def test_the_first_layer_gets_the_statistics_of_all_images_and_one_batch_answers_as_in_training(images):
    model = network()
    seen = keras.Model(model.input, model.get_layer("first").input).predict(
        images.astype("float32"), verbose=0
    )
    report = adapt_batchnorm(model, images, batch_size=7)
    first = model.get_layer("first")
    np.testing.assert_allclose(first.moving_mean, seen.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, seen.var((0, 1, 2)), rtol=1e-4)
    assert (report.layers, report.images, report.passes) == (2, 30, 1)
    # One batch of all images: every layer then normalises with its own input's statistics.
    adapt_batchnorm(model, images, batch_size=30)
    second = keras.Model(model.input, model.get_layer("second").input)
    seen = second.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(model.get_layer("second").moving_mean, seen.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(model.get_layer("second").moving_variance, seen.var((0, 1, 2)), rtol=1e-3)
    again = adapt_batchnorm(model, images, batch_size=30)
    assert again.mean_shift < 1e-4 < report.mean_shift
    assert again.variance_shift < 1e-3 < report.variance_shift


def test_a_network_that_normalises_its_input_is_measured_on_what_it_computes(images):
    """EfficientNet's own ``Normalization``: a copy that forgets its mean and variance would measure something else."""
    image = keras.Input(images.shape[1:])
    normalization = keras.layers.Normalization()
    normalization.adapt(3.0 * images)
    x = keras.layers.Conv2D(4, 3)(normalization(image))
    layer = keras.layers.BatchNormalization()
    model = keras.Model(image, layer(x))
    adapt_batchnorm(model, images)
    given = np.asarray(keras.Model(image, x)(np.asarray(images, np.float32)))
    np.testing.assert_allclose(layer.moving_mean, given.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, given.var(axis=(0, 1, 2)), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_nothing_else_is_touched(images, nested):
    model = network(nested)
    body = model.get_layer("inner") if nested else model
    body.get_layer("first").trainable = False
    optimizer = keras.optimizers.SGD()
    model.compile(optimizer, "mse")
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in model.variables}
    flags = [layer.trainable for layer in body.layers]
    adapt_batchnorm(model, images)
    for variable in model.variables:
        same = before[variable.path].tobytes() == keras.ops.convert_to_numpy(variable).tobytes()
        assert same != variable.name.startswith("moving_"), variable.path
    assert [layer.trainable for layer in body.layers] == flags
    assert (body.get_layer("first").momentum, body.get_layer("second").momentum) == (0.99, 0.7)
    assert model.optimizer is optimizer
    assert type(body.get_layer("first")) is keras.layers.BatchNormalization


@pytest.mark.slow
def test_array_table_and_batches_agree_and_order_does_not_depend_on_anything_but_the_seed(photo_folder):
    table = load_data(photo_folder)
    preprocessing = Preprocessing(size=(24, 24))
    pixels = np.stack([table.images.load(i, preprocessing) for i in range(len(table))])
    sources = {
        "table": (table, {"preprocessing": preprocessing}),
        "rows": (table, {"preprocessing": preprocessing, "indices": np.arange(len(table))[::-1].copy()}),
        "array": (pixels, {}),
        "float array": (pixels.astype("float32"), {}),
        "dataset": (tf.data.Dataset.from_tensor_slices((pixels, table.labels)).batch(64), {}),
        "list": ([pixels], {}),
    }
    found = {}
    for name, (source, options) in sources.items():
        model = network()
        report = adapt_batchnorm(model, source, batch_size=64, **options)
        assert report.images == len(table)
        found[name] = answers(model, pixels)
    for name in found:
        np.testing.assert_allclose(found[name], found["array"], atol=1e-4, err_msg=name)
    twice = []
    for _ in range(2):
        model = network()
        adapt_batchnorm(model, pixels, batch_size=8, passes=2, seed=5)
        twice.append(answers(model, pixels))
    np.testing.assert_array_equal(*twice)


@pytest.mark.slow
def test_momentum_keeps_a_share_of_the_old_statistics_and_a_last_batch_of_one_is_avoided(images):
    whole, half = network(), network()
    assert adapt_batchnorm(whole, images[:9], batch_size=4).images == 9
    report = adapt_batchnorm(half, images[:9], batch_size=4, momentum=0.5)
    first = [model.get_layer("first") for model in (whole, half)]
    np.testing.assert_allclose(first[1].moving_mean, 0.5 * first[0].moving_mean, rtol=1e-4)
    np.testing.assert_allclose(first[1].moving_variance, 0.5 + 0.5 * first[0].moving_variance, rtol=1e-4)
    assert json.loads(json.dumps(report.to_dict()))["layer_shifts"].keys() == {"first", "second"}


@pytest.mark.slow
def test_what_cannot_be_adapted_is_refused_and_the_model_stays_as_it_was(images):
    model = network()
    before = model.get_weights()
    entry = keras.Input((24, 24, 3))
    plain = keras.Model(entry, keras.layers.Conv2D(2, 3)(entry))
    nan = images.astype("float32")
    nan[3, 0, 0, 0] = np.nan
    for error, message, arguments in (
        (UsageError, "no BatchNormalization", (plain, images)),
        (UsageError, "at least 2 images", (model, images, {"batch_size": 1})),
        (UsageError, "at least 1 pass", (model, images, {"passes": 0})),
        (UsageError, "iterator", (model, iter([images]), {"passes": 2})),
        (UsageError, "momentum", (model, images, {"momentum": 1.0})),
        (UsageError, "indices go with a table", (model, images, {"indices": [1, 2]})),
        (UsageError, r"\('N', 24, 24, 3\) is expected", (model, images[:, :20])),
        (UsageError, r"\('N', 24, 24, 3\) is expected", (model, list(images))),
        (DataError, "at least 2", (model, images[:1])),
        (DataError, "at least 2", (model, images[:0])),
        (DataError, "at least 2", (model, [])),
        (DataError, "A batch of 1 image", (model, [images[:5], images[5:6]])),
        (DataError, "not finite", (model, nan)),
    ):
        with pytest.raises(error, match=message):
            adapt_batchnorm(arguments[0], arguments[1], **(arguments[2] if len(arguments) > 2 else {}))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_table_needs_a_preprocessing(photo_folder):
    with pytest.raises(UsageError, match="preprocessing"):
        adapt_batchnorm(network(), load_data(photo_folder))


def in_fog(pixels):
    """Bright and of low contrast."""
    return (pixels * 0.3 + 150).astype("uint8")


def out_of_focus(pixels):
    blurred = [Image.fromarray(image).filter(ImageFilter.GaussianBlur(4)) for image in pixels]
    return np.stack([np.asarray(image) for image in blurred])


# Over three seeds, tiny: clean 0.58 to 0.65, in fog 0.10 to 0.18, adapted 0.54 to 0.57. Lite0: clean 0.81 to 0.95, in
# fog 0.28 to 0.33, adapted 0.80 to 0.92. What blur took away, statistics give back in part only (Lite0, one seed):
# clean 0.83, blurred 0.22, adapted 0.39. Tiny sees blurred images as well as sharp ones.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "layers", "sees", "shifted", "recovers"),
    [
        ("tiny", 7, 0.5, in_fog, 0.25),
        pytest.param("efficientnet_lite0", 49, 0.7, in_fog, 0.25, marks=pytest.mark.nightly),
        pytest.param("efficientnet_lite0", 49, 0.7, out_of_focus, 0.08, marks=pytest.mark.nightly),
    ],
)
def test_a_probe_that_sees_badly_sees_better_again(photos, backbone, layers, sees, shifted, recovers):
    model = add_head(load_backbone(backbone, image_size=96), 16)
    train, labels = regions(photos, 8, 0)
    test, truth = regions(photos, 6, 100)
    # ImageNet's statistics are from a third place: the probe is trained on those of its own images.
    adapt_batchnorm(model, train)
    features = split_head(model)[0].predict(train.astype("float32"), verbose=0)
    order = np.random.default_rng(0).permutation(len(train))
    fit_probe(model, features, labels, train=order[:100], val=order[100:])
    shift = shifted(test)
    others = [v.copy() for v in (keras.ops.convert_to_numpy(w) for w in model.trainable_weights)]

    def accuracy(pixels):
        return float(np.mean(answers(model, pixels).argmax(1) == truth))

    clean, dropped = accuracy(test), accuracy(shift)
    report = adapt_batchnorm(model, shift)
    recovered = accuracy(shift)
    assert clean > sees
    assert dropped < clean - 0.3
    assert recovered > dropped + recovers
    assert report.layers == layers
    for a, b in zip(others, model.trainable_weights, strict=True):
        assert a.tobytes() == keras.ops.convert_to_numpy(b).tobytes()
