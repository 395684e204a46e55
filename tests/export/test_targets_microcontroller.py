"""``--target microcontroller``: C++ that holds the model, proven in TFLite Micro's own interpreter."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers_export import small_network

from keras_transfer.errors import ExportError, ParityError
from keras_transfer.export import About, export_model
from keras_transfer.export.inspection import inspect_file
from keras_transfer.export.targets import microcontroller
from keras_transfer.export.targets.cpp import golden_source
from keras_transfer.export.targets.micro_runner import Arena, MicroRunner
from keras_transfer.export.targets.microcontroller import require_fit
from keras_transfer.litert import LiteRTModel
from keras_transfer.workflow.verify import verify

pytestmark = pytest.mark.slow
SOURCES = "targets/microcontroller"


@pytest.fixture(scope="module")
def export(table, preprocessing):
    """Export the small network for microcontrollers; options by name."""
    pytest.importorskip("tflite_micro", reason="pip install 'keras-transfer[micro]'")

    def make(to, **options):
        return export_model(
            small_network(),
            to,
            formats=("tflite",),
            targets=("microcontroller", "litert"),
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            calibration_size=10,
            allow_parity_failure=True,  # it has learned nothing: a point of accuracy is chance
            about=About("small network"),
            **options,
        )

    return make


@pytest.fixture(scope="module")
def made(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro") / "edge"
    return folder, export(folder)


def compiled(folder, program):
    """What a C++ program prints that is compiled with the sources of a bundle."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    (folder / "program.cc").write_text(program)
    command = [
        compiler,
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "program.cc",
        "model_data.cc",
        "-o",
        "program",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return subprocess.run([folder / "program"], check=True, capture_output=True).stdout


def test_the_model_in_the_array_is_the_file_and_the_golden_images_are_the_bundles(made, tmp_path):
    folder, _ = made
    sources = shutil.copytree(folder / SOURCES, tmp_path / "sources")
    said = compiled(
        sources,
        '#include <cstdint>\n#include <cstdio>\n#include "golden_data.h"\n#include "model_data.h"\n'
        "int main() {\n"
        "  if (reinterpret_cast<std::uintptr_t>(g_model) % 16) return 1;\n"
        "  std::fwrite(g_model, 1, g_model_size, stdout);\n"
        "  std::fwrite(kGoldenInputs, 1, sizeof(kGoldenInputs), stdout);\n"
        "  std::fwrite(kGoldenOutputs, 1, sizeof(kGoldenOutputs), stdout);\n"
        "}\n",
    )
    content = (folder / "model_int8.tflite").read_bytes()
    assert said[: len(content)] == content
    rest = np.frombuffer(said[len(content) :], np.uint8)
    pixels, answers = rest[: 4 * 96 * 96 * 3].reshape(4, 96, 96, 3), rest[4 * 96 * 96 * 3 :].reshape(4, 2)
    given = LiteRTModel(folder / "model_int8.tflite", reference=True).predict(pixels)
    np.testing.assert_allclose(answers / 256, given, atol=1e-6)
    assert len(np.unique(pixels)) > 50 and len(np.unique(answers)) > 1


def test_the_resolver_names_the_operators_of_the_file_and_no_others(made):
    folder, _ = made
    text = (folder / SOURCES / "op_resolver.h").read_text()
    names = {one.name for one in inspect_file(folder / "model_int8.tflite").operators}
    assert {"CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX", "QUANTIZE"} <= names
    methods = re.findall(r"resolver\.Add(\w+)\(\)", text)
    assert {one.upper() for one in methods} == {name.replace("_", "") for name in names}
    assert f"MicroMutableOpResolver<{len(names)}>" in text and len(methods) == len(names)


DECLARED = {
    "micro/micro_mutable_op_resolver.h": """
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
namespace tflite {
template <unsigned int count> struct MicroMutableOpResolver {
  unsigned int added = 0;
  TfLiteStatus Add() { return added++ < count ? kTfLiteOk : kTfLiteError; }
  METHODS
};
}
""",
    "micro/micro_interpreter.h": """
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#include "model_data.h"
#define TFLITE_SCHEMA_VERSION (3)
struct TfLiteTensor { union { char* raw; } data; };
namespace tflite {
struct Model { unsigned version() const { return 3; } };
struct MicroInterpreter {
  template <class R> MicroInterpreter(const Model* model, const R&, unsigned char*, std::size_t size)
      : model_(reinterpret_cast<const char*>(model)), arena_(size) {}
  TfLiteStatus AllocateTensors() {
    std::FILE* file = std::fopen("given.tflite", "wb");
    std::fwrite(model_, 1, g_model_size, file);
    std::fclose(file);
    return Ask();
  }
  TfLiteStatus Invoke() { return Ask(); }
  std::size_t arena_used_bytes() const { return arena_; }
  TfLiteTensor* input(std::size_t) { tensors_[0].data.raw = in_.data(); return &tensors_[0]; }
  TfLiteTensor* output(std::size_t) { tensors_[1].data.raw = out_.data(); return &tensors_[1]; }
 private:
  TfLiteStatus Ask() {
    std::FILE* file = std::fopen("in.bin", "wb");
    std::fwrite(in_.data(), 1, in_.size(), file);
    std::fclose(file);
    if (std::system(("PYTHON ask.py " + std::to_string(arena_)).c_str()) != 0) return kTfLiteError;
    file = std::fopen("out.bin", "rb");
    out_.resize(std::fread(out_.data(), 1, out_.size(), file));
    std::fclose(file);
    return kTfLiteOk;
  }
  const char* model_;
  std::size_t arena_;
  std::vector<char> in_ = std::vector<char>(INPUTS), out_ = std::vector<char>(4096);
  TfLiteTensor tensors_[2];
};
}
""",
    "micro/micro_log.h": """
#include <cstdarg>
#include <cstdio>
inline void MicroPrintf(const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vprintf(format, values);
  va_end(values);
  std::printf("\\n");
}
""",
    "micro/system_setup.h": "namespace tflite { inline void InitializeTarget() {} }\n",
    "schema/schema_generated.h": """
namespace tflite {
inline const Model* GetModel(const void* bytes) { return static_cast<const Model*>(bytes); }
}
""",
}
"""TFLite Micro's names, as far as the program calls them: its headers are in no package. Its own kernels answer."""
ASK = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file("given.tflite", arena_size=int(sys.argv[1]))
details = interpreter.get_input_details(0)
pixels = np.fromfile("in.bin", details["dtype"]).reshape(details["shape"])
interpreter.set_input(pixels, 0)
interpreter.invoke()
np.array(interpreter.get_output(0)).tofile("out.bin")
"""


@pytest.fixture
def replayed(made, tmp_path):
    """Compile ``main.cc`` of the bundle, with a change, and run it: exit code, and what it prints."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    sources = shutil.copytree(made[0] / SOURCES, tmp_path / "sources")
    operators = re.findall(r"resolver\.(\w+)\(\)", (sources / "op_resolver.h").read_text())
    methods = "\n  ".join(f"TfLiteStatus {name}() {{ return Add(); }}" for name in operators)
    for name, text in DECLARED.items():
        header = tmp_path / "tensorflow" / "lite" / name
        header.parent.mkdir(parents=True, exist_ok=True)
        text = (
            text.replace("METHODS", methods)
            .replace("PYTHON", sys.executable)
            .replace("INPUTS", "96 * 96 * 3")
        )
        header.write_text("#pragma once\n" + text)
    (sources / "ask.py").write_text(ASK)

    def run(file="main.cc", change=lambda text: text):
        path = sources / file
        path.write_text(change(path.read_text()))
        command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path), "-I", "."]
        subprocess.run([*command, "main.cc", "model_data.cc", "-o", "replay"], cwd=sources, check=True)
        done = subprocess.run(["./replay"], cwd=sources, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout

    return run


def test_the_program_is_compiled_and_replays_the_golden_images_in_its_arena(replayed):
    code, said = replayed()
    assert code == 0 and said.splitlines()[-1] == "passed"
    assert [line for line in said.splitlines() if line.startswith("Golden")] == [
        f"Golden image {number}: differs by 0 steps." for number in range(4)
    ]


def test_the_program_tells_other_answers(replayed):
    def other(text):
        before, answers = text.split("kGoldenOutputs[kGoldenImages]")
        return f"{before}kGoldenOutputs[kGoldenImages]" + re.sub(
            r"\{\n(\d+),", lambda first: f"{{\n{(int(first[1]) + 100) % 256},", answers, count=1
        )

    code, said = replayed("golden_data.h", other)
    *_, last = said.splitlines()
    assert code == 1 and last == "FAILED"
    assert re.search(r"Golden image 0: differs by (100|156) steps", said)


def test_the_program_tells_an_arena_that_is_too_small(replayed):
    code, said = replayed("main.cc", lambda text: re.sub(r"(kArenaSize) = \d+", r"\1 = 1024", text, count=1))
    assert code == 1 and "does not fit an arena of 1024 bytes" in said


def test_the_report_and_the_bundle_tell_what_was_made_and_how_it_answers(made):
    folder, report = made
    micro, litert, integers = report.targets
    assert (micro.target, micro.source, micro.runtime) == (
        "microcontroller",
        "model_int8.tflite",
        "tflite-micro",
    )
    assert micro.difference == micro.allowed == 0.0 and micro.images >= 4
    assert micro.measured["flash_bytes"] == (folder / "model_int8.tflite").stat().st_size
    facts = inspect_file(folder / "model_int8.tflite")
    assert micro.measured["activation_bytes"] >= max(facts.live_bytes())
    assert micro.measured["arena_bytes"] > micro.measured["activation_bytes"]
    assert (litert.target, litert.source, litert.files) == ("litert", "model.tflite", ("model.tflite",))
    recorded = json.loads((folder / "bundle.json").read_text())
    assert (integers.source, integers.files) == ("model_int8.tflite", ("model_int8.tflite",))
    assert litert.allowed == 1e-4 and integers.allowed == 0.1
    assert recorded["targets"] == json.loads(json.dumps([one.to_dict() for one in report.targets]))
    assert {name for name in recorded["files"] if name.startswith("targets/")} == set(micro.files)
    assert f"{micro.measured['arena_bytes']} bytes" in (folder / SOURCES / "main.cc").read_text()


def test_the_measured_arena_is_the_least_it_runs_in(made):
    from tflite_micro.python.tflite_micro import runtime

    folder, report = made
    arena = report.targets[0].measured["arena_bytes"]
    file = str(folder / "model_int8.tflite")
    runtime.Interpreter.from_file(file, arena_size=arena + 16).invoke()
    with pytest.raises(RuntimeError):
        runtime.Interpreter.from_file(file, arena_size=arena - 1024)


def test_verify_runs_it_again_and_finds_another_model(made, tmp_path, monkeypatch):
    folder, _ = made
    names = [one.file for one in verify(folder).artefacts]
    assert names[-3:] == [
        "microcontroller (model_int8.tflite)",
        "litert (model.tflite)",
        "litert (model_int8.tflite)",
    ]
    assert verify(folder).passed
    real = MicroRunner.predict
    monkeypatch.setattr(MicroRunner, "predict", lambda self, pixels: real(self, 255 - pixels))
    micro = verify(folder).artefacts[-3]
    assert micro.reasons and "they must be equal" in micro.reasons[0]


def test_other_answers_than_litert_export_nothing(export, tmp_path, monkeypatch):
    real = MicroRunner.predict
    monkeypatch.setattr(MicroRunner, "predict", lambda self, pixels: real(self, pixels) + np.float32(1 / 256))
    with pytest.raises(ParityError, match=r"microcontroller: an answer .* differs by 0.0039"):
        export(tmp_path / "edge")
    assert not (tmp_path / "edge").exists()


def test_a_model_above_the_limit_is_refused_with_the_layer_that_needs_most(export, tmp_path, monkeypatch):
    with pytest.raises(
        ExportError, match=r"--arena-limit is 1,000. The layer that needs most is before conv2d"
    ) as refused:
        export(tmp_path / "edge", arena_limit=1000)
    assert "The weights" in str(refused.value) and not (tmp_path / "edge").exists()


def test_a_limit_that_is_met_is_no_reason(made):
    facts = inspect_file(made[0] / "model_int8.tflite")
    require_fit(facts, Arena(5000, 4000, 1000), 5000)
    require_fit(facts, Arena(5000, 4000, 1000), None)
    with pytest.raises(ExportError, match="needs an arena of 5,000 bytes"):
        require_fit(facts, Arena(5000, 4000, 1000), 4999)


def test_a_model_that_tflite_micro_refuses_is_refused_in_its_words(small_bundle, tmp_path):
    pytest.importorskip("tflite_micro", reason="pip install 'keras-transfer[micro]'")
    mixed = MicroRunner(small_bundle / "model_int8.tflite")
    with pytest.raises(ExportError, match=r"TFLite Micro refuses model_int8.tflite: .*UINT8"):
        mixed.predict(np.zeros((1, 96, 96, 3), np.uint8))


def test_a_bundle_without_the_package_is_verified_but_for_the_target(made, monkeypatch, caplog):
    from keras_transfer.export.targets import builtin

    gone = replace(builtin.MICROCONTROLLER, package="no-such-package")
    monkeypatch.setattr(builtin, "MICROCONTROLLER", gone)
    result = verify(made[0])
    assert result.passed and [one.file for one in result.artefacts][-1] == "litert (model_int8.tflite)"
    assert "is not run again" in caplog.text and "keras-transfer[micro]" in caplog.text


def test_edges_of_float_are_no_golden_data():
    with pytest.raises(ExportError, match="edges are float32; int8 or uint8 is expected"):
        golden_source(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.uint8), 1)
    assert microcontroller.REPLAYED == 4
