"""The border between the light and the heavy tier, and the list of public names, each in a fresh interpreter."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import keras_transfer
from keras_transfer.cli import VERBS

HEAVY = ("tensorflow", "keras", "numpy", "sklearn", "PIL", "matplotlib")
LIGHT = (
    "keras_transfer",
    "keras_transfer.errors",
    "keras_transfer.quiet",
    "keras_transfer.progress",
    "keras_transfer.paths",
    "keras_transfer.hashing",
    "keras_transfer.options",
    "keras_transfer.wording",
    "keras_transfer.setting_values",
    "keras_transfer.settings",
    "keras_transfer.device_choice",
    "keras_transfer.engine_choice",
    "keras_transfer.catalog",
    "keras_transfer.discovery",
    "keras_transfer.backbone_specs",
    "keras_transfer.tasks.specs",
    "keras_transfer.run",
    "keras_transfer.records",
    "keras_transfer.tasks.base",
    "keras_transfer.tasks.builtin",
    "keras_transfer.cli",
    *(f"keras_transfer.cli.{verb}" for verb in VERBS),
)


def heavy_after(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has imported after running ``code``."""
    tail = (
        f"\nimport sys, json; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


def test_light_modules_import_nothing_heavy():
    assert heavy_after("\n".join(f"import {name}" for name in LIGHT)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["backbones"], ["plugins"], *([verb, "--help"] for verb in VERBS)],
)
def test_help_and_lists_answer_without_tensorflow(arguments):
    code = (
        f"import sys; sys.argv = ['keras-transfer', *{arguments!r}]\n"
        "from keras_transfer.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code"
    )
    assert heavy_after(code) == []


def test_bad_arguments_are_refused_before_anything_heavy_is_imported():
    code = (
        "import sys; sys.argv = ['keras-transfer', 'train', 'x', '-o', 'y', '--epochs', '0']\n"
        "from keras_transfer.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2, stop.code"
    )
    assert heavy_after(code) == []


def test_the_public_names_are_these_and_all_exist():
    assert sorted(keras_transfer.__all__) == [
        "FreezePlan",
        "ImageTable",
        "Preprocessing",
        "adapt_batchnorm",
        "add_head",
        "check",
        "compare",
        "describe",
        "diagnose_quantization",
        "evaluate",
        "explain",
        "export_model",
        "export_run",
        "extract",
        "find_similar",
        "fine_tune",
        "fit_probe",
        "freeze",
        "load_backbone",
        "load_bundle",
        "load_data",
        "pick",
        "predict",
        "replay",
        "report",
        "save_features",
        "set_trainable",
        "train",
        "unfreeze_from",
        "verify",
    ]
    for name in keras_transfer.__all__:
        assert getattr(keras_transfer, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_transfer.nothing


def test_the_command_line_in_a_tests_process_leaves_the_logger_as_it_was():
    """Else a test that expects silence fails, or not, by which files ran before it in the same process."""
    from keras_transfer.testing.command import call

    logger = logging.getLogger("keras_transfer")
    before = (list(logger.handlers), logger.level, logger.propagate)
    call("backbones")
    call("train", "nowhere", "-o", "neither", code=2)
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    root = Path(__file__).parents[1]
    files = [*root.glob("tests/**/*.py"), *root.glob("plugins/*/tests/**/*.py")]
    around = [file.name for file in files if "CliRunner" + "(" in file.read_text(encoding="utf-8")]
    assert files and around == []
