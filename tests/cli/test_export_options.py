"""What an export can be told: one list for the command line, Python and the documents; refusals are one sentence."""

import re
from dataclasses import fields

import pytest

from keras_transfer.cli.export import export
from keras_transfer.errors import UsageError
from keras_transfer.export import export_model
from keras_transfer.options import option_infos
from keras_transfer.records import ExportOptions
from keras_transfer.testing.command import call
from keras_transfer.workflow.export import export_run

OF_THE_VERB = {"run", "to", "data", "overwrite", "offline", "as_json", "quiet"}
SPELLED = [
    *("--format", "--quantize", "--uint8-input", "--all-integer", "--keep-float", "--calibration-size"),
    *("--accuracy-budget", "--fallback", "--allow-parity-failure", "--client", "--title", "--data-licence"),
    *("--target", "--arena-limit", "--edges", "--batch", "--accelerator", "--require-full-placement"),
]


def parsed(*arguments):
    """The options that the command line makes of these arguments."""
    values = export.make_context("export", ["run", "--to", "edge", *arguments]).params
    return ExportOptions.of(**{name: value for name, value in values.items() if name not in OF_THE_VERB})


def test_the_command_line_the_dataclass_and_the_documented_keywords_are_one_list():
    names = [field.name for field in fields(ExportOptions)]
    own = [parameter for parameter in export.params if parameter.name not in OF_THE_VERB]
    assert [parameter.name for parameter in own] == names
    assert [flag for one in own for flag in (*one.opts, *one.secondary_opts)] == SPELLED
    documented = ExportOptions.__doc__.split("Attributes:")[1].split("Raises")[0]
    assert re.findall(r"^ {8}(\w+): ", documented, re.MULTILINE) == names
    assert all(len(info.help) > 10 for info in option_infos(ExportOptions))


def test_the_command_line_says_what_python_says():
    assert parsed() == ExportOptions() == ExportOptions.given(None, {})
    words = [
        "--format",
        "tflite",
        "--quantize",
        "none",
        "--quantize",
        "float16",
        "--uint8-input",
        "--keep-float",
        "2",
    ]
    words += ["--calibration-size", "8", "--accuracy-budget", "1", "--fallback", "int8,int16x8"]
    words += [
        "--allow-parity-failure",
        "--title",
        "cells",
        "--data-licence",
        "CC0",
        "--client",
        "cpp",
        "--client",
        "java",
    ]
    told = {
        "formats": ["tflite"],
        "precisions": ["none", "float16"],
        "uint8_input": True,
        "keep_float": 2,
        "calibration_size": 8,
        "accuracy_budget": 1,
        "fallback": ["int8", "int16x8"],
        "allow_parity_failure": True,
        "title": "cells",
        "data_licence": "CC0",
        "clients": ["cpp", "java"],
    }
    options = parsed(*words)
    assert options == ExportOptions.given(None, told)
    assert options.asked == ("float32", "float16") and options.candidates == ("int8", "int16x8")
    assert options.makes("int8") and not options.makes("dynamic")
    assert parsed("--quantize", "int8", "--all-integer").all_integer


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--format tflit", {"formats": ("tflit",)}),
        ("--client kotlin", {"clients": ("kotlin",)}),
        ("--quantize int4", {"precisions": ("int4",)}),
        ("--format keras --quantize int8", {"formats": ("keras",), "precisions": ("int8",)}),
        ("--calibration-size 0", {"calibration_size": 0}),
        ("--keep-float 1", {"keep_float": 1}),
        ("--quantize int8 --keep-float -1", {"precisions": ("int8",), "keep_float": -1}),
        (
            "--quantize int8 --keep-float 1 --all-integer",
            {"precisions": ("int8",), "keep_float": 1, "all_integer": True},
        ),
        ("--accuracy-budget 101", {"accuracy_budget": 101}),
        ("--accuracy-budget nan", {"accuracy_budget": float("nan")}),
        ("--accuracy-budget 1 --fallback int8,int4", {"accuracy_budget": 1, "fallback": ("int8", "int4")}),
        ("--accuracy-budget 1 --fallback none", {"accuracy_budget": 1, "fallback": ("none",)}),
        ("--accuracy-budget 1 --format keras", {"accuracy_budget": 1, "formats": ("keras",)}),
        ("--fallback int8", {"fallback": ("int8",)}),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_before_the_run_is_opened(tmp_path, words, values):
    to = tmp_path / "edge"
    with pytest.raises(UsageError) as refused:
        export_run(tmp_path / "nowhere", to, **values)
    _, said = call("export", tmp_path / "nowhere", "--to", to, *words.split(), code=2)
    assert said == f"Error: {refused.value}\n"
    with pytest.raises(UsageError, match=re.escape(str(refused.value))):
        ExportOptions.of(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": ("int8",)}, "Did you mean precisions"),
        ({"precisions": "int8"}, "--quantize: 'int8' was given, a tuple of str is expected"),
        ({"formats": ()}, "No format was given"),
        ({"keep_float": "two"}, "--keep-float: 'two' was given, int is expected"),
        ({"accuracy_budget": True}, "--accuracy-budget: True was given, float is expected"),
    ],
)
def test_what_only_python_can_get_wrong_is_refused_too(tmp_path, values, said):
    with pytest.raises(UsageError, match=said):
        export_run(tmp_path / "nowhere", tmp_path / "edge", **values)


def test_options_and_single_values_together_are_refused(tmp_path):
    both = {"options": ExportOptions(), "formats": ("tflite",)}
    with pytest.raises(UsageError, match="either options= or single options by name, not both"):
        export_run(tmp_path / "nowhere", tmp_path / "edge", **both)
    with pytest.raises(UsageError, match="either options= or single options by name, not both"):
        export_model(None, tmp_path / "edge", table=None, preprocessing=None, **both)
    with pytest.raises(UsageError, match="ExportOptions is expected"):
        export_run(tmp_path / "nowhere", tmp_path / "edge", options={"formats": ("tflite",)})
