"""``--input-range``: files for apps whose scaling is fixed answer as the others do, and say what they take."""

import json
import shutil

import keras
import mediapipe
import numpy as np
import pytest
from helpers_export import run_here, small_network
from mediapipe.tasks.python import BaseOptions, vision

from keras_transfer.errors import UsageError
from keras_transfer.export import export_model, load_bundle
from keras_transfer.export.benchmark import benchmark
from keras_transfer.export.metadata import describe_model
from keras_transfer.inference import load_runner
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.normalization import PLAIN, Normalization, normalization_of
from keras_transfer.records import ExportOptions
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.verify import verify

SCALED = {"0..1": lambda pixels: pixels / 255, "-1..1": lambda pixels: (pixels - 127.5) / 127.5}
FILES = {
    "float32": "model.tflite",
    "float16": "model_float16.tflite",
    "dynamic": "model_dynamic.tflite",
    "int8": "model_int8.tflite",
    "int16x8": "model_int16x8.tflite",
}


@pytest.fixture(scope="module")
def exported(shared, table, preprocessing):
    """``exported(range, **options)``: a bundle of the small network, each made once."""

    def make(name, **options):
        def write(folder):
            export_model(
                small_network(),
                folder / "edge",
                formats=("keras", "tflite"),
                table=table,
                preprocessing=preprocessing,
                classes=table.classes,
                calibration_size=10,
                allow_parity_failure=True,  # it has learned nothing: a point of accuracy is chance
                **options,
            )

        return shared(f"range_{name}", write) / "edge"

    return make


@pytest.fixture(scope="module", params=SCALED)
def both(request, exported):
    """A range, the bundle of it, and the one of 0 to 255."""
    every = {"precisions": tuple(FILES)}
    name = request.param.replace("-", "m")
    return request.param, exported(name, input_range=request.param, **every), exported("pixels", **every)


@pytest.mark.slow
def test_a_foreign_client_that_scales_gets_the_same_answers(both, held_out):
    """The interpreter alone, fed as a sample app does it."""
    from ai_edge_litert.interpreter import Interpreter

    name, scaled, plain = both
    for precision, file in FILES.items():
        expected = load_runner(plain / file).predict(held_out)
        runtime = Interpreter(str(scaled / file))
        runtime.allocate_tensors()
        (source,), (target,) = runtime.get_input_details(), runtime.get_output_details()
        assert source["dtype"] is np.float32, precision
        for image, answer in zip(SCALED[name](held_out.astype(np.float32)), expected, strict=True):
            runtime.set_tensor(source["index"], image[np.newaxis].astype(np.float32))
            runtime.invoke()
            given = runtime.get_tensor(target["index"])[0]
            if precision.startswith("int"):  # the very same bytes
                np.testing.assert_array_equal(given, answer)
            else:
                np.testing.assert_allclose(given, answer, atol=1e-5)


@pytest.mark.slow
def test_our_own_clients_scale_by_themselves(both, held_out, photo_folder):
    name, scaled, plain = both
    low, high = map(float, name.split(".."))
    bundle = load_bundle(scaled)
    assert bundle.artefact("model.keras").input_range == (0, 255)
    assert {bundle.artefact(file).input_range for file in FILES.values()} == {(low, high)}
    for file in FILES.values():
        expected = load_bundle(plain).predict(held_out, file)
        np.testing.assert_allclose(bundle.predict(held_out, file), expected, atol=1e-5)
    assert verify(scaled).passed
    photo = next(photo_folder.rglob("*.png"))
    ours, theirs = (next(iter(predict(one / "model.tflite", [photo])))["classes"] for one in (scaled, plain))
    assert [one["label"] for one in ours] == [one["label"] for one in theirs]
    assert ours[0]["probability"] == pytest.approx(theirs[0]["probability"], abs=1e-5)
    out, _ = run_here(scaled, "--self-test")
    assert out.count("largest difference 0.0e+00") == len(FILES) and out.endswith("passed\n")
    assert f"scaled to {low:g} to {high:g}" in (scaled / "README.md").read_text()


@pytest.mark.slow
def test_mediapipe_scales_as_the_metadata_say(both, held_out):
    _, scaled, _ = both
    for file in FILES.values():
        expected = LiteRTModel(scaled / file).predict(held_out[:4])
        options = vision.ImageClassifierOptions(BaseOptions(str(scaled / file)), max_results=2)
        with vision.ImageClassifier.create_from_options(options) as client:
            for pixels, answer in zip(held_out, expected, strict=False):
                picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(pixels))
                told = {
                    one.index: one.score for one in client.classify(picture).classifications[0].categories
                }
                np.testing.assert_allclose([told[0], told[1]], answer, atol=1e-5)


@pytest.mark.slow
def test_another_range_in_the_list_fails_verification(both, tmp_path):
    _, scaled, _ = both
    copy = shutil.copytree(scaled, tmp_path / "copy")
    info = json.loads((copy / "bundle.json").read_text())
    for row in info["artefacts"]:
        row["input_range"] = [0.0, 255.0]
    (copy / "bundle.json").write_text(json.dumps(info))
    wrong = [one.reasons for one in verify(copy).artefacts if one.file in FILES.values()]
    assert len(wrong) == len(FILES)
    assert all(
        reasons == (reasons[0],) and "and bundle.json says from 0 to 255" in reasons[0] for reasons in wrong
    )
    info["artefacts"][-1]["input_range"] = [0, 2]
    (copy / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(Exception, match=r"unknown range \[0, 2\]"):
        load_bundle(copy)


@pytest.mark.slow
def test_all_integer_says_it_by_its_scale_and_takes_the_same_bytes(exported, held_out, tmp_path):
    pytest.importorskip("tflite_micro", reason="pip install 'keras-transfer[micro]'")
    whole = {"precisions": ("int8",), "all_integer": True, "targets": ("microcontroller",)}
    scaled, plain = exported("whole_scaled", input_range="0..1", **whole), exported("whole", **whole)
    file = FILES["int8"]
    (source,) = LiteRTModel(scaled / file).inputs
    assert source.dtype == np.uint8 and source.scale == pytest.approx(1 / 255) and source.zero_point == 0
    np.testing.assert_array_equal(
        load_runner(scaled / file).predict(held_out), load_runner(plain / file).predict(held_out)
    )
    run_here(scaled, "--self-test")
    assert verify(scaled).passed
    # The bytes of the golden images for the board are the images' bytes.
    told = [(one / "targets/microcontroller/golden_data.h").read_text() for one in (scaled, plain)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_range": "0..2"}, "There is no input range '0..2'"),
        ({"input_range": "0..1", "uint8_input": True}, "uint8_input asks for bytes, which go from 0 to 255"),
        ({"input_range": "0..1", "formats": ("keras",)}, "for the format 'tflite'"),
        (
            {"input_range": "-1..1", "precisions": ("int8",), "all_integer": True},
            "need the zero point 127.5, which is no whole number",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        ExportOptions.of(**options)


@pytest.mark.nightly
def test_benchmark_asks_files_of_a_range(both):
    _, scaled, _ = both
    found = benchmark(load_bundle(scaled), threads=(1,), seconds=0.05)
    assert {row["file"] for row in found["timings"]} == {"model.keras", *FILES.values()}


def test_metadata_that_cannot_be_read_mean_pixels(small):
    content = convert(small)
    assert normalization_of(content) == PLAIN
    scaled = Normalization.to_range(-1.0, 1.0)
    assert (scaled.mean, scaled.std, scaled.range) == ((127.5,), (127.5,), (-1.0, 1.0))
    told = describe_model(
        content, ["a", "b"], size=(96, 96), name="small", description="Two.", normalization=scaled
    )
    assert normalization_of(told) == scaled
    place = told.index(b"M001")
    for end in range(place - 4, place + 40, 4):  # offsets that lead anywhere
        assert isinstance(normalization_of(told[:end] + b"\xff\xff\xff\x7f" + told[end + 4 :]), Normalization)


@pytest.mark.slow
def test_a_file_of_another_tool_is_fed_as_its_metadata_say(small, table, tmp_path):
    """Which then need not be told, and cannot be told otherwise."""
    image = keras.Input((96, 96, 3))
    foreign = keras.Model(image, small(image * 127.5 + 127.5))
    told = {
        "size": (96, 96),
        "name": "small",
        "description": "Two.",
        "normalization": Normalization.to_range(-1, 1),
    }
    (tmp_path / "model.tflite").write_bytes(describe_model(convert(foreign), table.classes, **told))
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in table.classes))
    expected = evaluate(small, table, split="all")["log_loss"]
    for given in (None, (-1.0, 1.0)):
        found = evaluate(tmp_path / "model.tflite", table, split="all", input_range=given)["log_loss"]
        assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match=r"metadata of .* say that its input goes from -1 to 1"):
        evaluate(tmp_path / "model.tflite", table, split="all", input_range=(0.0, 1.0))
