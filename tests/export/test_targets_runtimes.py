"""Targets that make models for other runtimes, proven there by the gate of the export."""

import json
import shutil

import numpy as np
import pytest
from helpers_export import small_network

from keras_transfer.errors import BundleError, ParityError, UsageError
from keras_transfer.export import export_model, load_bundle
from keras_transfer.export.inspection import inspect_file
from keras_transfer.inference import load_runner
from keras_transfer.inference.onnx_runner import ONNXRunner
from keras_transfer.inference.openvino_file import OpenVINOFileRunner
from keras_transfer.litert import LiteRTModel
from keras_transfer.testing.command import call
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.verify import verify

pytestmark = pytest.mark.slow
OTHERS = ("onnx", "openvino")


def needs(*modules):
    for module in modules:
        pytest.importorskip(module, reason="pip install 'keras-transfer[onnx,openvino]'")


@pytest.fixture(scope="module")
def export(table, preprocessing):
    """Export the small network for a few targets; options by name."""

    def make(to, **options):
        return export_model(
            small_network(),
            to,
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            **{
                "formats": ("tflite",),
                "calibration_size": 10,
                "allow_parity_failure": True,  # it has learned nothing: a point of accuracy is chance
                **options,
            },
        )

    return make


@pytest.fixture(scope="module")
def made(export, tmp_path_factory):
    """A bundle with models for ONNX Runtime and OpenVINO, in float32 and all-integer, and a LiteRT file of batch 3."""
    needs("tf2onnx", "onnxruntime", "openvino")
    folder = tmp_path_factory.mktemp("runtimes") / "edge"
    targets = ("litert", "edgetpu", *OTHERS)
    return folder, export(folder, targets=targets, batch=3)


def test_each_precision_is_made_and_judged_as_an_artefact_is(made):
    folder, report = made
    found = {(one.target, one.precision): one for one in report.targets}
    both = {(name, kind) for name in ("litert", *OTHERS) for kind in ("float32", "int8")}
    assert set(found) == {("edgetpu", "int8")} | both
    for name in OTHERS:
        exact, integer = found[name, "float32"], found[name, "int8"]
        assert exact.artefact.passed and exact.difference <= exact.allowed == 1e-4
        assert exact.artefact.parity.images == integer.artefact.parity.images == report.images
        assert integer.difference <= integer.allowed == 0.1
        assert exact.versions and exact.runtime == {"onnx": "onnxruntime", "openvino": "openvino"}[name]
        assert (folder / exact.model).is_file() and (folder / integer.model).is_file()
    recorded = json.loads((folder / "bundle.json").read_text())
    assert recorded["targets"] == json.loads(json.dumps([one.to_dict() for one in report.targets]))


@pytest.mark.parametrize(
    "file", ["onnx/model.onnx", "onnx/model_int8.onnx", "openvino/model.xml", "openvino/model_int8.xml"]
)
def test_the_files_answer_like_litert_for_any_number_of_images(made, held_out, file):
    folder, _ = made
    runner = load_runner(folder / "targets" / file)
    stem = file.split("/")[1].split(".")[0]
    expected = LiteRTModel(folder / f"{stem}.tflite").predict(held_out[:5])
    assert np.ptp(expected, axis=0).max() > 0.005
    np.testing.assert_allclose(runner.predict(held_out[:5]), expected, atol=1e-5 if stem == "model" else 0.1)
    assert runner.predict(held_out[:0]).shape == (0, 2) and runner.input_size == (96, 96)
    with pytest.raises(UsageError, match="Resize first"):
        runner.predict(held_out[:1, :50])
    runner.close()


def test_a_batch_is_static_in_every_shape(made, held_out):
    folder, report = made
    for stem in ("model", "model_int8"):
        path = folder / "targets" / "litert" / f"{stem}_batch3.tflite"
        facts = inspect_file(path)
        assert facts.batch == "static"
        moving = [one for one in facts.tensors if not one.constant and len(one.shape) > 1]
        assert {one.shape[0] for one in moving} == {3}
        expected = LiteRTModel(folder / f"{stem}.tflite").predict(held_out[:4])
        np.testing.assert_allclose(load_runner(path).predict(held_out[:4]), expected, atol=1e-6)
    assert report.targets[0].model == "targets/litert/model_batch3.tflite"


def test_the_doors_open_what_was_made(made, photo_folder):
    folder, _ = made
    bundle = load_bundle(folder)
    names = [one.file for one in bundle.made]
    wanted = {"onnx/model.onnx", "openvino/model_int8.xml", "litert/model_batch3.tflite"}
    assert {f"targets/{name}" for name in wanted} <= set(names)
    image = next(photo_folder.rglob("*.*"))
    expected = bundle.predict([image], "model.tflite")
    np.testing.assert_allclose(bundle.predict([image], "targets/onnx/model.onnx"), expected, atol=1e-5)
    for file in ("onnx/model.onnx", "openvino/model.xml", "litert/model_batch3.tflite"):
        (found,) = predict(folder / "targets" / file, [image])
        best = {one["label"]: one["probability"] for one in found["classes"]}
        assert [best[name] for name in bundle.labels] == pytest.approx(expected[0].tolist(), abs=1e-5)
    said = json.loads(call("evaluate", folder / "targets" / "onnx" / "model.onnx", photo_folder, "--json")[0])
    assert (
        said["images"]
        == json.loads(call("evaluate", folder / "model.tflite", photo_folder, "--json")[0])["images"]
    )


def test_verify_asks_all_of_it_again_and_measures_it(made, photo_folder):
    folder, _ = made
    assert verify(folder).passed
    result = verify(folder, photo_folder)
    found = {one.file: one for one in result.artefacts}
    assert found["onnx (model.tflite)"].metrics["accuracy"] == found["model.tflite"].metrics["accuracy"]
    assert "accuracy" in found["openvino (model_int8.tflite)"].metrics
    assert not found["edgetpu (model_int8.tflite)"].metrics


def test_a_damaged_file_of_a_target_is_found_wherever_it_is_opened(made, tmp_path, photo_folder):
    folder = shutil.copytree(made[0], tmp_path / "copy")
    weights = folder / "targets" / "openvino" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(BundleError, match=r"model.bin is not the file that was exported"):
        predict(folder / "targets" / "openvino" / "model.xml", [next(photo_folder.rglob("*.*"))])
    with pytest.raises(BundleError, match=r"model.bin is not the file that was exported"):
        verify(folder)
    predict(folder / "targets" / "onnx" / "model.onnx", [next(photo_folder.rglob("*.*"))])


def test_benchmark_times_it(made):
    folder, _ = made
    rows = json.loads(call("benchmark", folder, "--threads", "1", "--seconds", "0.05", "--json")[0])[
        "timings"
    ]
    found = {row["file"]: row for row in rows}
    for file in ("model.tflite", "targets/onnx/model.onnx", "targets/openvino/model_int8.xml"):
        assert found[file]["p50"] > 0 and found[file]["throughput"] > 0


def test_what_answers_otherwise_is_refused_and_leaves_nothing(export, tmp_path, monkeypatch):
    needs("tf2onnx", "onnxruntime")
    real = ONNXRunner.predict
    monkeypatch.setattr(ONNXRunner, "predict", lambda self, pixels: real(self, pixels) + np.float32(0.01))
    with pytest.raises(
        ParityError, match=r"onnx: an answer .* differs by 0.01 .*; at most 0.0001 is allowed"
    ):
        export(tmp_path / "edge", targets=("onnx",))
    assert not (tmp_path / "edge").exists()


def test_what_the_golden_images_do_not_show_the_others_do(export, tmp_path, monkeypatch):
    needs("tf2onnx", "onnxruntime")
    real = ONNXRunner.predict

    def late(self, pixels):  # the golden images are asked first
        self.asked = getattr(self, "asked", 0) + 1
        return real(self, pixels) if self.asked == 1 else real(self, pixels)[:, ::-1]

    monkeypatch.setattr(ONNXRunner, "predict", late)
    with pytest.raises(
        ParityError, match=r"onnx \(model.tflite\) does not answer like the Keras model: A probability"
    ):
        export(tmp_path / "edge", targets=("onnx",), allow_parity_failure=False)
    assert not (tmp_path / "edge").exists()


def test_a_precision_that_does_not_agree_is_left_out_with_its_reason(export, tmp_path, monkeypatch, caplog):
    needs("openvino")
    real = OpenVINOFileRunner.predict
    monkeypatch.setattr(
        OpenVINOFileRunner,
        "predict",
        lambda self, pixels: real(self, pixels) * (0 if "int8" in self._path.name else 1),
    )
    report = export(tmp_path / "edge", targets=("openvino",), precisions=("float32", "int8"))
    exact, integer = report.targets
    assert exact.model and not exact.refused
    assert "differs by" in integer.refused and integer.files == () and "is left out" in caplog.text
    kept = sorted(path.name for path in (tmp_path / "edge" / "targets" / "openvino").iterdir())
    assert kept == ["model.bin", "model.xml"]
    assert verify(tmp_path / "edge").passed


def test_openvino_reads_the_tflite_where_only_that_agrees(export, tmp_path, monkeypatch):
    needs("openvino")
    real = OpenVINOFileRunner.predict
    monkeypatch.setattr(
        OpenVINOFileRunner,
        "predict",
        lambda self, pixels: real(self, pixels) * (0 if self._path.suffix == ".xml" else 1),
    )
    (report,) = export(tmp_path / "edge", targets=("openvino",)).targets
    assert (report.files, report.model, report.measured["reads"]) == (("model.tflite",), "", "tflite")
    assert not list((tmp_path / "edge").rglob("*.xml")) and verify(tmp_path / "edge").passed
