"""``explain``: what is highlighted matters more than what is not, on real photographs."""

import json

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image

import keras_transfer as ktr
from keras_transfer.errors import UsageError
from keras_transfer.evaluation.gradcam import GradCam, hide, masking
from keras_transfer.testing.command import call
from keras_transfer.workflow.as_is import as_is
from keras_transfer.workflow.explain import explain


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photos):
    """Real photographs."""
    data = pytest.importorskip("skimage.data", reason="scikit-image (extra: test) brings the photographs")
    folder = tmp_path_factory.mktemp("pictures")
    named = {"coffee": data.coffee(), "cat": data.chelsea(), "rocket": data.rocket(), **photos}
    for name, image in named.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


@pytest.mark.nightly
def test_hiding_what_is_highlighted_costs_more_than_hiding_as_much_elsewhere(pictures, tmp_path):
    found = list(explain(as_is("efficientnet_lite0"), [pictures], tmp_path / "looks"))
    assert len(found) == 5 and {row["layer"] for row in found} == {"top_activation"}
    hidden, elsewhere = (
        np.mean([row["probability"] - row[what] for row in found]) for what in ("hidden", "elsewhere")
    )
    assert hidden > elsewhere + 0.1
    (cup,) = [row for row in found if row["path"].endswith("coffee.png")]
    assert cup["label"] == "espresso" and cup["hidden"] < 0.5 * cup["elsewhere"]
    with Image.open(cup["picture"]) as picture:
        assert picture.size == (448, 224)


@pytest.mark.parametrize("ending", ["logits and softmax", "logits alone"])
def test_the_heat_map_is_the_formula(ending):
    """Weights are the gradients' means, the map the positive part of the weighted sum: by hand on a linear head."""
    image = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same", name="maps")(image)
    alone = ending == "logits alone"
    head = keras.layers.Dense(
        2, name="scores" if alone else "logits", bias_initializer=keras.initializers.Constant(-9)
    )
    logits = head(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(image, logits if alone else keras.layers.Softmax()(logits))
    pixels = np.random.default_rng(0).normal(size=(8, 8, 3)).astype("float32")
    kernel = np.asarray(head.kernel)  # d logit / d map = kernel / 64 at every position
    activation = np.asarray(keras.Model(image, maps)(pixels[None]))[0]
    expected = np.maximum(activation @ kernel[:, 1], 0)
    np.testing.assert_allclose(GradCam(model)(pixels, 1), expected / expected.max(), atol=1e-5)


@pytest.mark.slow
def test_a_layer_called_logits_that_is_no_score_an_output_is_not_followed(photos):
    """A plugin's: its second number stands for something else than the second label."""
    keras.utils.set_random_seed(0)
    image = keras.Input((64, 64, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(keras.layers.Rescaling(1 / 255)(image))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    other = keras.layers.Dense(5, name="logits")(pooled)
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax", name="scores")(other))
    pixels = photos["china"][:64, :64].astype(np.float32)
    found = [GradCam(model)(pixels, column) for column in (0, 1)]
    model.get_layer("logits").name = "hidden"
    for column in (0, 1):
        np.testing.assert_array_equal(found[column], GradCam(model)(pixels, column))
    assert np.max(found) > 0.5, "empty maps would be equal, too"


def test_hiding_changes_what_is_hidden_and_nothing_else(photos):
    pixels = photos["china"][:64, :64]
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:30] = True
    hidden = hide(pixels, mask)
    assert np.array_equal(hidden[~mask], pixels[~mask]) and not np.array_equal(hidden[mask], pixels[mask])


@pytest.mark.slow
def test_what_is_no_classifier_is_refused(photo_folder, tmp_path):
    """A regression's number is no probability; nothing is said of it as if it were one."""
    rows = [f"{name}/{i:03d}.png,{i}.5" for name in ("china", "flower") for i in range(8)]
    (tmp_path / "sizes.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    run = ktr.train(
        tmp_path / "sizes.csv",
        tmp_path / "run",
        task="regression",
        image_root=str(photo_folder),
        strategy="probe",
        **SMALL,
    )
    said = call("explain", run.path, photo_folder / "china" / "000.png", code=2)[1]
    assert "gives values, not probabilities of classes" in said and "regression" in said


def test_probabilities_of_pixels_are_refused(photo_folder, tmp_path):
    """The kit tries it with a run of every task."""
    image = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(2, 3, padding="same", activation="softmax")(image)
    keras.Model(image, maps).save(tmp_path / "pixels.keras")
    asked = (tmp_path / "pixels.keras", photo_folder / "china" / "000.png", "--output", tmp_path / "looks")
    said = " ".join(call("explain", *asked, code=2)[1].split())
    assert "gives 16 x 16 x 2 numbers per image" in said and "not one probability per class" in said
    assert not (tmp_path / "looks").exists()


@pytest.mark.slow
def test_a_frozen_network_is_explained_like_one_that_trains(photos):
    model = ktr.add_head(ktr.load_backbone("tiny", image_size=64), 8)
    pixels = photos["china"][:64, :64].astype(np.float32)
    expected = [GradCam(model)(pixels, column) for column in range(8)]
    ktr.freeze(model)
    np.testing.assert_array_equal([GradCam(model)(pixels, column) for column in range(8)], expected)
    assert np.max(expected) == 1.0, "empty maps would be equal, too"


def test_a_network_that_lets_no_gradient_through_is_a_sentence(photos):
    image = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(image)
    held = keras.ops.stop_gradient(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(held))
    with pytest.raises(
        UsageError, match=r"No gradient comes from the outputs back to the layer 'maps'.*--layer"
    ):
        GradCam(model)(photos["china"][:16, :16], 0)


def test_where_nothing_is_highlighted_nothing_is_hidden(photos):
    pixels = photos["china"][:32, :32]

    def brightness(views):
        return views.reshape(len(views), -1).mean(axis=1, keepdims=True)

    found = masking(brightness, pixels, np.zeros((32, 32), "float32"), 0)
    assert found["hidden"] == found["elsewhere"] == found["output"]
    heat = np.zeros((32, 32), "float32")
    heat[:2, :2] = 1
    shown = masking(lambda views: (views != pixels).any(axis=-1).sum(axis=(1, 2))[:, None], pixels, heat, 0)
    assert 0 < shown["hidden"] <= 4 and shown["elsewhere"] <= 4


@pytest.mark.slow
def test_a_model_file_and_a_class_by_name(tmp_path, photo_folder):
    backbone = ktr.load_backbone("tiny", image_size=64)
    ktr.add_head(backbone, 2).save(tmp_path / "mine.keras")
    (tmp_path / "labels.txt").write_text("china\nflower\n")
    image = photo_folder / "china" / "000.png"
    looks = tmp_path / "looks"
    arguments = (tmp_path / "mine.keras", image, "--label", "flower", "--output", looks)
    (row,) = json.loads(call("explain", *arguments, "--json")[0])
    assert row["label"] == "flower" and (looks / "000.png").is_file()
    said = call("explain", tmp_path / "mine.keras", image, "--label", "flowr", code=2)[1]
    assert "Did you mean flower" in said
    said = call("explain", tmp_path / "mine.keras", image, "--layer", "logits", code=2)[1]
    assert "--layer" in said
