"""A classifier in every format and precision: each answers like Keras, in its own runtime, without our code.

All of them are in one export, which every test here reads: of a small network in ``make test``, of a real Lite0
(``lite`` in ``conftest.py``) in ``make nightly``. The README's commands prove Lite0's float32 and int8 files in
``make test``.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from helpers_export import lite_classifier, run_here, run_script

from keras_transfer.errors import ExportError
from keras_transfer.export import export_model, load_runner
from keras_transfer.litert import LiteRTModel

pytestmark = pytest.mark.slow
NEEDED = ("ai-edge-litert", "numpy", "pillow")

FILES = [
    "model.keras",
    "saved_model",
    "model.tflite",
    "model_float16.tflite",
    "model_dynamic.tflite",
    "model_int8.tflite",
]


@pytest.fixture(scope="module", params=["small", pytest.param("lite0", marks=pytest.mark.nightly)])
def formats(request, shared, every_format):
    """The export, and whose it is."""
    if request.param == "lite0":
        return request.getfixturevalue("lite")
    trained = request.getfixturevalue("trained")
    return shared("small_export", lambda folder: every_format(trained, folder))


@pytest.fixture
def edge(formats):
    return formats / "edge"


@pytest.fixture
def expected(formats):
    return np.load(formats / "expected.npy")


only_lite0 = pytest.mark.parametrize(
    "formats", [pytest.param("lite0", marks=pytest.mark.nightly)], indirect=True
)


def run_alone(code: str, *arguments: object, without: tuple[str, ...]) -> None:
    """Run code in a fresh process in which some packages cannot be imported."""
    block = f"import sys\nfor name in {without!r}: sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def row(edge, file):
    artefacts = json.loads((edge / "bundle.json").read_text())["artefacts"]
    return next(r for r in artefacts if r["file"].rstrip("/") == file)


def test_the_classifier_tells_the_photographs_apart(formats, expected, table):
    """Otherwise nothing below would prove anything."""
    least = 0.9 if formats.name.startswith("lite") else 0.8
    assert np.mean(expected.argmax(axis=1) == table.labels[table.indices("test")]) > least
    assert expected.std(axis=0).min() > 0.02


@pytest.mark.parametrize("file", FILES)
def test_every_artefact_answers_like_keras(edge, expected, held_out, file):
    runtime = load_runner(edge / file)
    assert runtime.input_size == (96, 96)
    answer = runtime.predict(held_out)
    tolerance = {
        "model.keras": 1e-4,
        "saved_model": 1e-4,
        "model.tflite": 1e-4,
        "model_float16.tflite": 5e-3,
    }.get(file, 0.15)
    np.testing.assert_allclose(answer, expected, atol=tolerance)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-4)
    proof = row(edge, file)
    assert proof["passed"] and proof["max_difference"] == pytest.approx(
        np.abs(answer - expected).max(), abs=1e-5
    )


@only_lite0
def test_smaller_precisions_are_smaller(edge):
    full, half, *integers = (row(edge, file)["bytes"] for file in FILES[2:])
    assert half < 0.55 * full and max(integers) < 0.35 * full


@only_lite0
def test_saved_model_in_a_process_without_us_and_without_keras(edge, expected, held_out, tmp_path):
    np.save(tmp_path / "pixels.npy", held_out)
    np.save(tmp_path / "expected.npy", expected)
    code = """
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
pixels, expected = np.load(sys.argv[2]), np.load(sys.argv[3])
assert sorted(loaded.signatures) == ["classify_bytes", "classify_pixels", "serving_default"]
for name, kind in (("serving_default", tf.float32), ("classify_pixels", tf.uint8)):
    (image,) = loaded.signatures[name].structured_input_signature[1].values()
    assert image.name == "image" and image.dtype == kind and image.shape.as_list() == [None, 96, 96, 3], image
encoded = [tf.io.encode_png(image) for image in pixels]
for answer in (
    loaded.signatures["serving_default"](image=tf.constant(pixels.astype("float32"))),
    loaded.signatures["classify_pixels"](image=tf.constant(pixels)),
    loaded.signatures["classify_bytes"](encoded=tf.stack(encoded)),
):
    assert sorted(answer) == ["classes", "probabilities"], answer
    assert np.abs(answer["probabilities"].numpy() - expected).max() <= 1e-4
    names = np.array([b"china", b"flower"])[expected.argmax(axis=1)]
    assert answer["classes"].numpy().tolist() == names.tolist()
"""
    arguments = (edge / "saved_model", tmp_path / "pixels.npy", tmp_path / "expected.npy")
    run_alone(code, *arguments, without=("keras_transfer", "keras"))


def test_tflite_in_a_process_with_nothing_but_the_runtime(edge, expected, held_out, tmp_path):
    """The int8 input takes the pixels as they are: no scale to look up, none to forget."""
    np.save(tmp_path / "pixels.npy", held_out)
    np.save(tmp_path / "expected.npy", expected)
    code = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
for file, taken, tolerance in (("model.tflite", np.float32, 1e-4), ("model_int8.tflite", np.uint8, 0.15)):
    model = Interpreter(f"{sys.argv[1]}/{file}")
    model.allocate_tensors()
    (source,), (target,) = model.get_input_details(), model.get_output_details()
    assert source["dtype"] is taken and target["dtype"] is np.float32, file
    for image, expected in zip(np.load(sys.argv[2]), np.load(sys.argv[3])):
        model.set_tensor(source["index"], image[np.newaxis].astype(taken))
        model.invoke()
        assert np.abs(model.get_tensor(target["index"])[0] - expected).max() <= tolerance, file
"""
    arguments = (edge, tmp_path / "pixels.npy", tmp_path / "expected.npy")
    run_alone(code, *arguments, without=("keras_transfer", "keras", "tensorflow"))


def test_what_int8_was_calibrated_on_is_recorded(edge):
    recorded = json.loads((edge / "bundle.json").read_text())["measured"]["calibration"]
    assert recorded["images"] == recorded["asked"] == 10 and recorded["seed"] == 0
    assert recorded["per_class"] == {"china": 5, "flower": 5} and recorded["fingerprint"]


def test_a_damaged_artefact_is_refused(edge, tmp_path):
    content = (edge / "model_int8.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"cut\.tflite"):
        load_runner(tmp_path / "cut.tflite")


@pytest.mark.parametrize("network", ["small", pytest.param("lite0", marks=pytest.mark.nightly)])
def test_integers_of_sixteen_bits_and_integers_all_the_way(
    network, trained, table, preprocessing, held_out, tmp_path
):
    classifier = trained if network == "small" else lite_classifier(table, preprocessing)
    expected = np.asarray(classifier([held_out.astype(np.float32)], training=False))
    report = export_model(
        classifier,
        tmp_path / "edge",
        formats=("tflite",),
        precisions=("dynamic", "int8", "int16x8"),
        table=table,
        preprocessing=preprocessing,
        classes=table.classes,
        uint8_input=True,
        all_integer=True,
        calibration_size=10,
        allow_parity_failure=True,
    )
    by_precision = {one.precision: one for one in report.artefacts}
    for one in report.artefacts:
        (source,) = one.inputs
        assert source.dtype == np.uint8 and (source.scale, source.zero_point) in ((0, 0), (1, 0))
        answer = load_runner(tmp_path / "edge" / one.file).predict(held_out)
        assert np.mean(answer.argmax(axis=1) == expected.argmax(axis=1)) >= 0.9
    assert by_precision["int8"].outputs[0].dtype == np.uint8 and by_precision["int8"].outputs[0].scale > 0
    assert by_precision["int16x8"].parity.max_difference < 0.02
    run_here(tmp_path / "edge", "--self-test")


def requirements(names):
    """Those distributions and all they need here (what is only for other systems is not installed)."""
    installed = {re.sub(r"[-_.]+", "-", one.name).lower() for one in importlib.metadata.distributions()}
    found, rest = set(), list(names)
    while rest:
        name = re.sub(r"[-_.]+", "-", rest.pop()).lower()
        if name in installed - found:
            found.add(name)
            needed = importlib.metadata.requires(name) or []
            rest += [re.match(r"[\w.-]+", one)[0] for one in needed if "extra ==" not in one]
    return found


def test_in_an_environment_that_holds_nothing_else(edge, tmp_path):
    """A fresh virtual environment with the three packages (and what they need) linked into it."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (target,) = (tmp_path / "venv").rglob("site-packages")
    for name in requirements(NEEDED):
        for file in importlib.metadata.files(name):
            top = file.parts[0]
            if top != ".." and not (target / top).exists():
                (target / top).symlink_to(Path(file.locate()).parents[len(file.parts) - 1] / top)
    for name in ("tensorflow", "keras", "keras_transfer", "scipy"):
        assert (
            subprocess.run([python, "-c", f"import {name}"], capture_output=True, cwd=tmp_path).returncode
            == 1
        )
    out, _ = run_script(edge, "--self-test", python=python, block=False)
    assert out.count("largest difference") == 4 and out.endswith("passed\n")


@pytest.mark.parametrize(
    "file", ["model.tflite", "model_float16.tflite", "model_dynamic.tflite", "model_int8.tflite"]
)
def test_mediapipe_agrees_on_fifty_images_by_name(edge, photos, file):
    """Images at the model's size: what MediaPipe does to others is its own affair (docs/deploying.md)."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    rng = np.random.default_rng(5)
    crops = []
    for photo in photos.values():
        for _ in range(25):
            y, x = rng.integers(0, photo.shape[0] - 96), rng.integers(0, photo.shape[1] - 96)
            crops.append(np.ascontiguousarray(photo[y : y + 96, x : x + 96]))
    ours = LiteRTModel(edge / file).predict(np.stack(crops))
    options = vision.ImageClassifierOptions(BaseOptions(str(edge / file)), max_results=2)
    with vision.ImageClassifier.create_from_options(options) as client:
        for crop, expected in zip(crops, ours, strict=True):
            picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, crop)
            categories = client.classify(picture).classifications[0].categories
            scores = {category.category_name: category.score for category in categories}
            assert categories[0].category_name == ("china", "flower")[expected.argmax()]
            np.testing.assert_allclose([scores["china"], scores["flower"]], expected, atol=1e-5)
