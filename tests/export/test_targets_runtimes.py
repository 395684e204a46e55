"""Targets that make models for other runtimes, proven there by the gate of the export."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers_export import small_network

from keras_transfer.errors import BundleError, ExportError, ParityError, PluginError, UsageError
from keras_transfer.export import export_model, load_bundle
from keras_transfer.export.inspection import inspect_file
from keras_transfer.export.targets.litert import LiteRT
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


@pytest.mark.nightly
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


@pytest.mark.nightly
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


def test_edges_of_int8_answer_the_same(export, made, tmp_path, held_out):
    report = export(tmp_path / "edge", targets=("edgetpu", "litert"), edges="int8", clients=())
    path = tmp_path / "edge" / "model_int8.tflite"
    facts, before = inspect_file(path), inspect_file(made[0] / "model_int8.tflite")
    assert {facts.tensors[index].type for index in (*facts.inputs, *facts.outputs)} == {"int8"}
    assert len(facts.operators) == len(before.operators) - 2
    assert [one.name for one in LiteRTModel(path).inputs] == [
        one.name for one in LiteRTModel(made[0] / "model_int8.tflite").inputs
    ]
    expected = LiteRTModel(made[0] / "model_int8.tflite", reference=True).predict(held_out)
    np.testing.assert_array_equal(LiteRTModel(path, reference=True).predict(held_out), expected)
    assert report.targets[0].measured["cpu_operators"] == 0
    script = subprocess.run(
        [sys.executable, "classify.py", "--self-test", "--model", "model_int8.tflite"],
        cwd=tmp_path / "edge",
        capture_output=True,
        text=True,
    )
    assert script.returncode == 0, script.stderr


def test_a_compiler_that_fails_is_heard_and_its_log_is_kept(export, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6; do echo line $i; done\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "bin"))
    with pytest.raises(
        ExportError, match=r"edgetpu_compiler failed \(exit code 3\).*\n  line 3\n"
    ) as refused:
        export(tmp_path / "edge", targets=("edgetpu",))
    assert "broken" in str(refused.value) and "line 2" not in str(refused.value)
    log = Path(str(refused.value).split("is in ")[1].split(". Its")[0])
    assert "line 1" in log.read_text() and not (tmp_path / "edge").exists()


def test_a_compiler_on_the_path_compiles(export, tmp_path, monkeypatch):
    """A stand-in for Coral's, which is in no package: it is called as Coral's documents say."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.write_text(
        "#!/bin/sh\necho 'Edge TPU Compiler version 16.0'\n[ $1 = -s ] && [ $2 = -o ] || exit 1\n"
        "cp $4 $3/$(basename $4 .tflite)_edgetpu.tflite\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (report,) = export(tmp_path / "edge", targets=("edgetpu",)).targets
    assert report.measured["compiled"] and report.versions == {
        "edgetpu_compiler": "Edge TPU Compiler version 16.0"
    }
    assert report.files == (
        "targets/edgetpu/edgetpu_compiler.txt",
        "targets/edgetpu/model_int8_edgetpu.tflite",
    )
    assert verify(tmp_path / "edge").passed


def test_two_targets_do_not_write_one_file(export, tmp_path, monkeypatch):
    """The second finds what the first made, and may not change it."""
    real = LiteRT.make

    def make(self, source):
        (source.own("edgetpu") / "note").write_text("mine")
        return real(self, source)

    monkeypatch.setattr(LiteRT, "make", make)
    with pytest.raises(
        PluginError, match="The target 'litert' wrote 'targets/edgetpu/note', which is not in"
    ):
        export(tmp_path / "edge", targets=("litert",))
    assert not (tmp_path / "edge").exists()


@pytest.fixture(scope="module")
def compiled(export, tmp_path_factory):
    needs("ethosu.vela")
    folder = tmp_path_factory.mktemp("vela") / "edge"
    return folder, export(folder, targets=("ethos-u",), precisions=("int8",))


def test_vela_compiles_it_and_says_what_stays_on_the_cpu(compiled):
    folder, report = compiled
    (found,) = report.targets
    facts = inspect_file(folder / "model_int8.tflite")
    told = found.measured
    assert told["accelerator"] == "ethos-u55-128"
    assert told["npu_operators"] + told["cpu_operators"] == len(facts.operators)
    floats = [one for one in facts.operators if {"float32"} & {each.type for each in facts.data(one)}]
    assert [one["operator"] for one in told["on_cpu"]] == [one.name for one in floats]
    cast = told["on_cpu"][0]
    assert cast["operator"] == "CAST" and cast["reason"] == "Unsupported opType" and cast["layer"]
    assert told["sram_bytes"] > 0 and told["flash_bytes"] > 0 and told["cycles"] > 0
    assert "targets/ethos-u/model_int8_vela.tflite" in found.files and found.runtime == "litert"
    inside = inspect_file(folder / "targets" / "ethos-u" / "model_int8_vela.tflite")
    assert any(one.custom and one.name == "ethos-u" for one in inside.operators)
    assert verify(folder).passed


def test_full_placement_is_refused_with_the_layers_on_the_cpu(export, tmp_path):
    needs("ethosu.vela")
    with pytest.raises(
        ExportError, match=r"ethos-u: \d+ of \d+ operators would run on the CPU.* CAST \(layer"
    ) as said:
        export(
            tmp_path / "edge",
            targets=("ethos-u",),
            precisions=("int8",),
            require_full_placement=True,
            clients=(),
        )
    assert "Unsupported opType" in str(said.value) and not (tmp_path / "edge").exists()


@pytest.mark.nightly
def test_an_all_integer_model_is_placed_on_the_npu_whole(export, tmp_path):
    needs("ethosu.vela")
    (found,) = export(
        tmp_path / "edge",
        targets=("ethos-u",),
        precisions=("int8",),
        all_integer=True,
        require_full_placement=True,
        accelerator="ethos-u65-256",
    ).targets
    assert (found.measured["cpu_operators"], found.measured["accelerator"]) == (0, "ethos-u65-256")


def test_a_bundle_from_before_opens(made, tmp_path):
    """Rows of targets had no model, no proof on all images and no refusal; bundles before had no rows."""
    folder = shutil.copytree(made[0], tmp_path / "copy")
    info = json.loads((folder / "bundle.json").read_text())
    new = ("precision", "model", "artefact", "refused")
    info["targets"] = [
        {name: value for name, value in row.items() if name not in new}
        for row in info["targets"]
        if row["target"] == "edgetpu"
    ]
    (folder / "bundle.json").write_text(json.dumps(info))
    assert load_bundle(folder).made == () and verify(folder).passed
    del info["targets"]
    (folder / "bundle.json").write_text(json.dumps(info))
    assert load_bundle(folder).record.targets == () and verify(folder).passed


def test_a_missing_runtime_of_a_file_is_told_with_the_command(made, monkeypatch):
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExportError, match=r"pip install 'keras-transfer\[onnx\]'"):
        load_runner(made[0] / "targets" / "onnx" / "model.onnx")
    with pytest.raises(ExportError, match=r"pip install 'keras-transfer\[openvino\]'"):
        load_runner(made[0] / "targets" / "openvino" / "model.xml")


def test_files_that_are_no_models_are_refused(tmp_path):
    needs("onnxruntime", "openvino")
    for name, words in (("model.onnx", "ONNX Runtime .* refuses"), ("model.xml", "OpenVINO .* refuses")):
        (tmp_path / name).write_text("no model")
        with pytest.raises(ExportError, match=words):
            load_runner(tmp_path / name)
