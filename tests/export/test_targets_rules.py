"""The tables of what runtimes take, asked of the runtimes; and what they make of files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import micro_probe
import numpy as np
import pytest
from micro_probe import SHAPE, build, model_for

from keras_transfer.errors import ExportError, PluginError, UsageError
from keras_transfer.export.inspection import inspect_bytes, inspect_file
from keras_transfer.export.targets import builtin, rules
from keras_transfer.export.targets.base import Made, Source
from keras_transfer.export.targets.cpp import add_method
from keras_transfer.export.targets.making import require_own_files
from keras_transfer.export.targets.plan import source_precisions, with_targets
from keras_transfer.export.targets.readiness import judge
from keras_transfer.export.targets.specs import TargetSpec, all_targets, target_spec
from keras_transfer.records import DamagedError, ExportOptions
from keras_transfer.records.bundle import TargetRecord

NAMES = ["edgetpu", "ethos-u", "litert", "microcontroller", "onnx", "openvino"]


def verdicts(content):
    facts = inspect_bytes(content)
    return {name: judge(facts, target_spec(name)) for name in NAMES}


def require_as_the_package_says(operators):
    pytest.importorskip("tflite_micro", reason="pip install 'keras-transfer[micro]'")
    command = [sys.executable, micro_probe.__file__, *operators]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for operator, kinds in json.loads(done.stdout).items():
        told = rules.MICRO.operators[operator]
        table = set(micro_probe.TYPES) if told is None else set(told) & set(micro_probe.TYPES)
        # float32 and int32 are what DEQUANTIZE and ARG_MAX give; the probe asks what they take.
        given = {"DEQUANTIZE": {"float32"}, "ARG_MAX": {"int32"}}.get(operator, set())
        assert table - given == set(kinds) - given, operator


@pytest.mark.slow
def test_tflite_micro_takes_what_the_table_says():
    require_as_the_package_says(["CAST", "CONV_2D", "DEQUANTIZE", "RESIZE_BILINEAR", "RESHAPE", "SQUARE"])


@pytest.mark.nightly
def test_tflite_micro_takes_what_the_whole_table_says():
    require_as_the_package_says([])


@pytest.mark.slow
def test_velas_report_has_the_operators_of_the_table(tmp_path):
    pytest.importorskip("ethosu.vela", reason="pip install 'keras-transfer[ethos-u]'")
    program = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "--supported-ops-report"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "SUPPORTED_OPS.md").read_text(encoding="utf-8")
    table = text.split("Ethos-U65 TFLite Summary Table")[1].split("\n## ")[0]
    rows = {
        line.split("|")[1].strip()
        for line in table.splitlines()
        if line.startswith("| ") and "---" not in line
    }
    dilated = {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"}  # what it makes one convolution of
    assert rows - {"Operator"} == set(rules.ETHOS_U.operators) - dilated


def test_methods_of_the_resolver_are_spelled_as_it_spells_them():
    """Those that a rule of letters alone would get wrong, from the package's python_ops_resolver.cc."""
    assert [add_method(name) for name in ("AVERAGE_POOL_2D", "L2_POOL_2D", "PADV2", "SPLIT_V", "CUMSUM", "SVDF")] == [
        "AddAveragePool2D", "AddL2Pool2D", "AddPadV2", "AddSplitV", "AddCumSum", "AddSvdf",
    ]  # fmt: skip


def test_an_all_integer_operator_is_taken_by_all():
    assert {one.state for one in verdicts(model_for("CONV_2D", "int8")).values()} == {"taken"}


def test_what_float_is_refused_by_npus_alone():
    found = verdicts(model_for("CONV_2D", "float32"))
    assert {name for name, one in found.items() if one.state == "refused"} == {"ethos-u", "edgetpu"}
    assert found["ethos-u"].reasons == (
        "Nothing of it would run there: CONV_2D of float32 (it takes int16, int8, uint8): layer t2.",
    )


def test_float_data_with_integer_weights_are_refused_by_microcontrollers():
    hybrid = build("CONV_2D", [(SHAPE, "float32"), np.ones((4, 2, 2, 8), np.int8)], ((1, 3, 3, 4), "float32"))
    found = verdicts(hybrid)["microcontroller"]
    assert found.state == "refused" and "meets float32 data with int8 weights" in found.reasons[0]
    assert verdicts(hybrid)["openvino"].state == "taken"


def test_sixteen_bits_are_refused_where_they_cannot_be_dequantized():
    found = verdicts(model_for("CONV_2D", "int16"))
    assert [found[name].state for name in ("onnx", "edgetpu")] == ["refused", "refused"]
    assert [found[name].state for name in ("microcontroller", "ethos-u", "openvino")] == ["taken"] * 3


def test_a_free_size_is_refused_or_counts_as_one():
    content = build("ADD", [((-1, 4, 4, 8), "int8")] * 2, ((-1, 4, 4, 8), "int8"))
    found = verdicts(content)
    free = "The input t0 has a free size [-1, 4, 4, 8]"
    edgetpu, micro, openvino = (found[name] for name in ("edgetpu", "microcontroller", "openvino"))
    assert (edgetpu.state, edgetpu.reasons) == ("refused", (f"{free}; every size must be stated.",))
    assert (micro.state, micro.reasons) == (
        "taken",
        (f"{free}, which counts as 1; inner shapes may be untrue.",),
    )
    assert (openvino.state, openvino.reasons) == ("taken", ())


def test_what_our_files_say(small_bundle):
    """The default int8 has float layers at both ends: a microcontroller stops at its first operator."""
    facts = inspect_file(small_bundle / "model_int8.tflite")
    found = {name: judge(facts, target_spec(name)) for name in NAMES}
    assert found["microcontroller"].state == "refused"
    assert found["microcontroller"].reasons[0].startswith("CAST of uint8")
    floats = [one for one in facts.operators if {"float32"} & {each.type for each in facts.data(one)}]
    assert found["ethos-u"].state == "partly"
    assert found["ethos-u"].reasons[0] == f"{len(floats)} of {len(facts.operators)} operators run on the CPU."
    assert [found[name].state for name in ("litert", "onnx", "openvino")] == ["taken"] * 3


def test_an_edge_tpu_stops_at_the_first_operator_it_lacks():
    from keras_transfer.export.targets.readiness import _away

    assert _away([False, False, True, False], one_part=True) == [2, 3]
    assert _away([True, False, False, True, False], one_part=True) == [0, 3, 4]
    assert _away([True, True], one_part=True) == [0, 1]
    assert _away([True, False, False, True, False], one_part=False) == [0, 3]


def test_targets_are_found_and_the_closest_name_is_told():
    assert [one.name for one in all_targets()] == NAMES
    with pytest.raises(UsageError, match=r"no target 'micro-controller'. Did you mean microcontroller"):
        target_spec("micro-controller")


def test_a_target_that_makes_nothing_and_precisions_it_does_not_take_are_refused(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "EDGETPU", replace(builtin.EDGETPU, factory=""))
        with pytest.raises(
            UsageError, match=r"Nothing is made for the target 'edgetpu'; `keras-transfer inspect"
        ):
            with_targets(ExportOptions(targets=("edgetpu",)))
    with pytest.raises(UsageError, match=r"made from a .tflite, and the format 'tflite' was not asked for"):
        with_targets(ExportOptions(targets=("litert",), formats=("keras",)))
    with pytest.raises(UsageError, match="--arena-limit is for --target microcontroller"):
        with_targets(ExportOptions(arena_limit=1000))
    with pytest.raises(UsageError, match="arena_limit is 0; bytes of memory are expected"):
        ExportOptions(arena_limit=0)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"batch": 2}, "--batch is for --target litert, which was not asked for"),
        ({"accelerator": "ethos-u65-256"}, "--accelerator is for --target ethos-u,"),
        ({"require_full_placement": True}, "--require-full-placement is for --target ethos-u or edgetpu,"),
        ({"edges": "int8"}, "--edges int8 is for an all-integer model"),
    ],
)
def test_an_option_of_a_target_that_was_not_asked_for_is_refused(option, sentence):
    with pytest.raises(UsageError, match=sentence):
        with_targets(ExportOptions(targets=("openvino",), **option))


def test_impossible_values_of_a_target_are_refused():
    with pytest.raises(UsageError, match="batch is 0; 1 image or more at a time is expected"):
        ExportOptions(batch=0, targets=("litert",))
    with pytest.raises(UsageError, match=r"ethos-u55-127.*ethos-u55-128"):
        ExportOptions(accelerator="ethos-u55-127")
    with pytest.raises(UsageError, match="uint16"):
        ExportOptions(edges="uint16")


def test_a_target_is_made_of_the_precisions_it_asks_for():
    options = ExportOptions(precisions=("float32", "int8", "int16x8"))
    found = {spec.name: source_precisions(spec, options) for spec in all_targets()}
    assert found["litert"] == found["openvino"] == ("float32", "int8", "int16x8")
    assert found["onnx"] == ("float32", "int8") and found["ethos-u"] == ("int8",)


def test_of_an_all_integer_file_beside_int8_an_npu_takes_the_first():
    options = ExportOptions(precisions=("float32", "int8", "all-integer"))
    found = {spec.name: source_precisions(spec, options) for spec in all_targets()}
    assert found["ethos-u"] == found["microcontroller"] == found["edgetpu"] == ("all-integer",)
    assert found["onnx"] == ("float32", "int8", "all-integer")


@pytest.mark.parametrize(
    "given",
    [
        {"accuracy_budget": 1.0, "all_integer": True},
        {"accuracy_budget": 1.0, "fallback": ("all-integer",)},
    ],
)
def test_a_budget_that_may_leave_a_targets_file_out_is_refused(given):
    with pytest.raises(UsageError, match=r"--accuracy-budget may leave it out.*--quantize all-integer"):
        with_targets(ExportOptions(targets=("microcontroller",), **given))


def test_a_missing_package_is_told_with_the_command_that_installs_it():
    spec = TargetSpec("x", "x", ("int8",), rules.LITERT, package="no-such-package", extra="micro")
    assert spec.installed is None
    with pytest.raises(ExportError, match=r"needs no-such-package, .* pip install 'keras-transfer\[micro\]'"):
        spec.require()


def test_a_package_that_is_too_old_is_told_with_the_command_that_renews_it():
    spec = TargetSpec("x", "x", ("int8",), rules.LITERT, package="numpy", oldest="1.2", extra="micro")
    spec.require()
    old = replace(spec, oldest="99.1")
    assert old.installed is None
    with pytest.raises(
        ExportError, match=r"needs numpy 99.1 or newer, and .* pip install -U 'keras-transfer\[micro\]'"
    ):
        old.require()
    beside = replace(spec, beside=(("no-such-package", "1.0"),))
    assert beside.installed is None
    with pytest.raises(ExportError, match="needs no-such-package, which is not installed"):
        beside.require()


def test_a_target_brings_the_precision_it_is_made_from(monkeypatch):
    monkeypatch.setattr(TargetSpec, "require", lambda self: None)
    options = with_targets(ExportOptions(targets=("microcontroller", "litert")))
    assert options.asked == ("float32", "int8") and options.all_integer
    both = with_targets(ExportOptions(targets=("ethos-u", "microcontroller")))
    assert source_precisions(builtin.ETHOS_U, both) == ("int8",)
    assert with_targets(options) == options


def test_a_target_writes_into_its_own_folder_alone(tmp_path):
    facts = inspect_bytes(model_for("ABS", "int8"))
    source = Source(tmp_path, "model.tflite", facts, np.zeros(1), np.zeros(1), 0.1, ExportOptions())
    (tmp_path / "targets" / "hut").mkdir(parents=True)
    (tmp_path / "targets" / "hut" / "door").touch()
    require_own_files("hut", source, Made(("targets/hut/door", "model.tflite")))
    for file in ("targets/barn/door", "targets/hut/roof", "bundle.json"):
        with pytest.raises(PluginError, match="files in targets/hut/ are expected"):
            require_own_files("hut", source, Made((file,)))


def test_a_bundle_names_targets_of_its_own_models_alone():
    row = {"target": "hut", "source": "model_int8.tflite", "allowed": 0}
    assert TargetRecord.parse(row) == TargetRecord("hut", "model_int8.tflite", 0.0)
    for key, value in (("source", "../model.tflite"), ("allowed", "0"), ("target", None)):
        with pytest.raises(DamagedError, match=key if key != "source" else "no .tflite of an export"):
            TargetRecord.parse({**row, key: value})


def test_the_extras_of_the_targets_are_there():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for spec in all_targets():
        if spec.extra:
            assert f'\n{spec.extra} = ["{spec.package}' in text, spec.name
