"""Every exported ``.tflite`` is one that strict runtimes take, as MediaPipe; LiteRT still makes any batch of it."""

import keras
import numpy as np
import pytest
from helpers_export import operators
from helpers_tasks import ALL, SIZE, TASKS, inputs_of, segmenter
from keras_transfer_tests.strict import require_strict

from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.inference import load_runner
from keras_transfer.litert import LiteRTModel, convert

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("task", "precision"), ALL)
def test_every_file_of_every_task_is_for_one_image_and_can_be_made_for_more(file_of, task, precision):
    path, _ = file_of(task, precision)
    require_strict(path, tuple(TASKS[task][2]), TASKS[task][1])
    runtime = load_runner(path)
    assert runtime.inputs[0].shape[0] == runtime.outputs[0].shape[0] == -1


def through_mediapipe(path, task, images):
    """The answers of MediaPipe's client for a task, by name where it gives names."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    kind = {"siamese": "Embedder", "segmentation": "Segmenter"}.get(task, "Classifier")
    options = getattr(vision, f"Image{kind}Options")(base_options=BaseOptions(model_asset_path=str(path)))
    found = []
    with getattr(vision, f"Image{kind}").create_from_options(options) as client:
        for image in images:
            picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, image)
            if kind == "Embedder":
                found.append(client.embed(picture).embeddings[0].embedding)
            elif kind == "Segmenter":
                masks = client.segment(picture).confidence_masks
                found.append(np.stack([mask.numpy_view().squeeze() for mask in masks], axis=-1))
            else:
                (answer,) = client.classify(picture).classifications
                scores = {category.category_name: category.score for category in answer.categories}
                found.append([scores[name] for name in TASKS[task][2]])
    return np.array(found)


@pytest.mark.parametrize(("task", "precision"), [one for one in ALL if one.values[0] != "gan"])
def test_mediapipe_answers_the_same_for_every_task(file_of, task, precision):
    path, _ = file_of(task, precision)
    images = inputs_of(path)
    np.testing.assert_allclose(
        through_mediapipe(path, task, images), LiteRTModel(path).predict(images), atol=1e-5
    )


def test_the_shipped_bundle_is_strict(small_bundle):
    for file in ("model.tflite", "model_int8.tflite"):
        require_strict(small_bundle / file, ("china", "flower"), "probabilities")


def test_shapes_are_constants_that_keep_the_batch_open(file_of):
    path, _ = file_of("classification", "float32")
    kinds = [name for name, _ in operators(path.read_bytes())]
    assert "RESHAPE" in kinds and not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(kinds)


def test_all_integer_means_that_no_number_is_a_float(file_of):
    """What microcontrollers and NPUs ask for. The default int8 begins with a cast that TFLite Micro does not have."""
    kinds = {kind for _, kind in operators(file_of("segmentation", "all-integer")[0].read_bytes())}
    assert kinds == {"INT8", "UINT8"}
    mixed = operators(file_of("classification", "int8")[0].read_bytes())
    assert mixed[0] == ("CAST", "FLOAT32") and mixed[-1] == ("SOFTMAX", "FLOAT32")


def test_a_signature_runner_takes_batches(file_of):
    """The way of TensorFlow's documentation: a batch of any size by the signature's name."""
    from ai_edge_litert.interpreter import Interpreter

    path, model = file_of("classification", "float32")
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.float32)
    run = Interpreter(str(path)).get_signature_runner("serving_default")
    np.testing.assert_allclose(run(image=pixels)["output_0"], np.asarray(model(pixels)), atol=1e-5)


def test_a_file_of_one_image_that_is_not_ours_is_fed_one_by_one(table):
    """Nothing says that its shapes may change: it is taken at its word."""
    fixed = keras.Model(*[(t := keras.Input((SIZE, SIZE, 3), batch_size=1)), segmenter()(t)])
    content = convert(fixed)
    for one in (content, for_strict_runtimes(content)):
        runtime = LiteRTModel(one)
        assert runtime.inputs[0].shape[0] == 1
        assert runtime.predict(np.zeros((3, SIZE, SIZE, 3), np.uint8)).shape == (3, SIZE, SIZE, 2)
