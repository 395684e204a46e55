"""Opening a model: whose embeddings they are, whatever file they come from, and what is no embedding."""

import hashlib
import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers_siamese import small_network
from keras_transfer_siamese.embedder import _read, bundle_identity, least_cosine, open_embedder
from keras_transfer_siamese.identity import mixing
from keras_transfer_tests.strict import require_strict
from PIL import Image

from keras_transfer.errors import BundleError, DataError, UsageError
from keras_transfer.export import load_bundle
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.verify import verify


@pytest.fixture(scope="module")
def opened(small_run):
    return open_embedder(small_run)


@pytest.fixture(scope="module")
def images(glyphs):
    return sorted(glyphs.rglob("*.png"))[:40]


def embeddings(embedder, images):
    found = list(embedder.embed(images))
    assert [one.path for one in found] == images
    assert all(one.error is None for one in found)
    return np.stack([one.embedding for one in found])


def test_a_run_gives_the_embeddings_of_its_model(opened, small_run, images):
    model = keras.models.load_model(small_run / "model.keras")
    pixels = np.stack([Preprocessing((48, 48)).load(path) for path in images]).astype(np.float32)
    np.testing.assert_allclose(embeddings(opened, images), model.predict(pixels, verbose=0), atol=1e-5)
    assert opened.binding.dimension == 8
    assert opened.binding.comparison.threshold == 0.9
    assert opened.binding.identity.name == "letters"


def test_every_float_file_of_what_was_trained_is_one_model(opened, small_run, small_bundle, images):
    expected = embeddings(opened, images)
    for path in (
        small_run / "model.keras",
        small_bundle,
        small_bundle / "model.keras",
        small_bundle / "model.tflite",
    ):
        other = open_embedder(path)
        assert mixing(opened.binding.identity, other.binding.identity) is None
        assert other.binding.comparison.threshold == 0.9
        np.testing.assert_allclose(embeddings(other, images), expected, atol=1e-5)


@pytest.mark.parametrize("file", ["model.tflite", "model_int8.tflite"])
def test_a_real_client_opens_it_and_sees_the_same(small_bundle, images, file):
    """MediaPipe's image embedder, on images at the model's size."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    require_strict(small_bundle / file, tuple(f"d{i}" for i in range(8)), "embeddings")
    ours = LiteRTModel(small_bundle / file)
    options = vision.ImageEmbedderOptions(base_options=BaseOptions(model_asset_path=str(small_bundle / file)))
    with vision.ImageEmbedder.create_from_options(options) as client:
        for path in images[:8]:
            pixels = Preprocessing((48, 48)).load(path)
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
            (found,) = client.embed(picture).embeddings
            assert found.head_name == "embeddings"
            np.testing.assert_allclose(found.embedding, ours.predict(pixels[np.newaxis])[0], atol=1e-5)


def test_files_of_an_earlier_version_without_metadata_are_verified(bundle_copy):
    content = convert(keras.models.load_model(bundle_copy / "model.keras", compile=False))
    (bundle_copy / "model.tflite").write_bytes(content)
    _record_again(bundle_copy, content)
    found = {one.file: one.reasons for one in verify(bundle_copy).artefacts}
    assert found["model.tflite"] == ()


def _record_again(folder, content):
    info = json.loads((folder / "bundle.json").read_text())
    row = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    info["files"]["model.tflite"] = row
    (folder / "bundle.json").write_text(json.dumps(info))


def test_the_integer_file_is_the_same_model_at_a_distance_that_was_measured(opened, small_bundle, images):
    reduced = open_embedder(small_bundle / "model_int8.tflite")
    identity = reduced.binding.identity
    assert identity.model == opened.binding.identity.model and identity.precision == "int8"
    golden = [small_bundle / row["image"] for row in load_bundle(small_bundle).golden()["images"]]
    cosines = (embeddings(reduced, golden) * embeddings(opened, golden)).sum(axis=1)
    assert identity.cosine == pytest.approx(cosines.min(), abs=0.01)
    assert 0.9 < identity.cosine < 1


def test_a_float_file_that_failed_its_proof_is_measured(bundle_copy):
    bundle = load_bundle(bundle_copy)
    assert bundle_identity(bundle, "model.tflite").cosine == 1.0
    bundle.artefacts = tuple(replace(one, passed=False) for one in bundle.artefacts)
    assert bundle_identity(bundle, "model.tflite").cosine == least_cosine(bundle, "model.tflite") < 1.0 + 1e-6


def test_other_weights_are_another_model(opened, tmp_path):
    small_network(seed=1).save(tmp_path / "other.keras")
    other = open_embedder(tmp_path / "other.keras")
    with pytest.raises(DataError, match=r"letters .*other\.keras .* is another model"):
        mixing(opened.binding.identity, other.binding.identity)


def test_a_file_of_its_own_is_bound_to_its_content(opened, tmp_path):
    content = convert(small_network())
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(content)
    one, two = (open_embedder(tmp_path / name) for name in ("a.tflite", "b.tflite"))
    assert mixing(one.binding.identity, two.binding.identity) is None
    assert one.binding.comparison.kind == "cosine" and one.binding.comparison.threshold is None
    with pytest.raises(DataError, match="another model"):
        mixing(opened.binding.identity, one.binding.identity)


def test_a_model_in_memory_is_opened(opened, images):
    assert open_embedder(small_network()).binding.identity.model == opened.binding.identity.model


def test_files_that_cannot_be_used_are_told_and_the_others_answered(opened, images, tmp_path):
    Image.new("RGB", (60, 40), (200, 10, 10)).save(tmp_path / "red.png")
    Image.new("L", (60, 40), 255).save(tmp_path / "white.jpg")
    (tmp_path / "text.png").write_text("no image")
    paths = [images[0], tmp_path / "red.png", tmp_path / "text.png", tmp_path / "white.jpg", images[1]]
    found = list(opened.embed(paths))
    assert [one.error is None for one in found] == [True, False, False, False, True]
    assert (
        "one colour" in found[1].error and "not an image" in found[2].error and "one colour" in found[3].error
    )
    assert found[0].sha256 != found[4].sha256


def test_images_that_are_known_are_not_computed_again(opened, images):
    first = next(opened.embed(images[:1]))
    again = next(opened.embed(images[:1], known={first.sha256}))
    assert (again.sha256, again.embedding, again.error) == (first.sha256, None, None)


def test_views_are_averaged_and_as_long_as_they_are(opened, small_run, images):
    model = keras.models.load_model(small_run / "model.keras")
    pixels = np.stack([Preprocessing((48, 48)).load(path) for path in images[:3]]).astype(np.float32)
    mean = (model(pixels) + model(pixels[:, :, ::-1])) / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    found = np.stack([one.embedding for one in opened.embed(images[:3], views=2)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - embeddings(opened, images[:3])).max() > 1e-4
    with pytest.raises(UsageError, match="1 to 12"):
        list(opened.embed(images[:1], views=13))


@pytest.mark.parametrize(("value", "said"), [(np.nan, "not finite"), (0.0, "sees nothing")])
def test_embeddings_that_say_nothing_are_told(images, value, said):
    pixels = keras.Input((48, 48, 3))
    embedding = keras.layers.Dense(
        4, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(value)
    )(keras.layers.GlobalAveragePooling2D()(pixels))
    (found,) = open_embedder(keras.Model(pixels, embedding)).embed(images[:1])
    assert said in found.error


def test_what_gives_no_embeddings_is_refused(small_run, small_bundle, bundle_copy, tmp_path):
    with pytest.raises(UsageError, match="There is no model"):
        open_embedder(tmp_path / "none.keras")
    pixels = keras.Input((8, 8, 3))
    with pytest.raises(UsageError, match=r"\(8, 8, 3\); embeddings"):
        open_embedder(keras.Model(pixels, keras.layers.ReLU()(pixels)))
    classifier = shutil.copytree(small_run, tmp_path / "classifier")
    info = json.loads((classifier / "run.json").read_text())
    info["output"]["kind"], info["request"]["task"] = "probabilities", "classification"
    (classifier / "run.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"the task classification.*--task siamese"):
        open_embedder(classifier)
    del info["training"]["comparison"]
    info["output"]["kind"] = "embeddings"
    (classifier / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="does not tell how its embeddings are compared"):
        open_embedder(classifier)
    file = bundle_copy / "model.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="not the file that was exported"):
        open_embedder(bundle_copy)


def test_a_comparison_of_another_size_is_refused(small_run, tmp_path):
    copy = shutil.copytree(small_run, tmp_path / "run")
    info = json.loads((copy / "run.json").read_text())
    info["training"]["comparison"] = {
        "kind": "weighted_l1",
        "weights": [1.0, 2.0],
        "bias": 0.0,
        "threshold": 0.5,
    }
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="8 numbers, and its comparison has 2 weights"):
        open_embedder(copy)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_camera_s_photo_is_shown_as_the_contract_decodes_it(tmp_path, resize):
    from sklearn.datasets import load_sample_image

    contract = Preprocessing((48, 48), resize)
    assert contract.jpeg_scale(427, 640) == 4
    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "photo.jpg")
    Image.new("RGB", (640, 427), (90, 20, 30)).save(tmp_path / "plain.jpg")
    found, pixels = _read(tmp_path / "photo.jpg", contract, frozenset())
    assert found.error is None
    np.testing.assert_array_equal(pixels, contract.load(tmp_path / "photo.jpg"))
    found, pixels = _read(tmp_path / "plain.jpg", contract, frozenset())
    assert "one colour" in found.error and pixels is None
