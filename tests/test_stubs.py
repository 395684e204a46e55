"""What editors and type checkers are told is what Python does: the public names, and what ``train`` takes by name."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from stubs import FILES

import keras_transfer
from keras_transfer import setting_values, settings

ROOT = Path(__file__).parents[1]
RIGHT = """\
import keras_transfer as ktr

run = ktr.train("photos", "run", backbone="resnet50", strategy="probe", epochs=3, ema=None, milestone=["2=all"])
ktr.fine_tune(ktr.add_head(ktr.load_backbone("resnet50"), 2), ktr.load_data("photos"), ktr.Preprocessing((224, 224)),
              epochs=3)
reveal_type(run)
"""
WRONG = """\
import keras_transfer as ktr
from keras_transfer.settings import TrainSettings

ktr.train("photos", "run", epoch=3)
ktr.train("photos", "run", epochs="3")
ktr.train("photos", "run", strategy="fine-tune")
TrainSettings.of(backbon="resnet50")
ktr.compare("photos", ["resnet50"], image_size=0.5)
ktr.extrakt
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_are_what_the_script_writes(path):
    assert path.read_text(encoding="utf-8") == FILES[path](), "Run: python tests/stubs.py"


@pytest.mark.parametrize("group", ["Data", "Model", "Fit", "Gradient"])
def test_the_names_are_those_of_the_dataclasses(group):
    values = getattr(setting_values, f"{group}Values").__annotations__
    assert list(values) == [field.name for field in fields(getattr(settings, f"{group}Settings"))]


def test_train_is_told_every_setting():
    assert set(setting_values.TrainValues.__annotations__) == set(settings.TrainSettings().flat())
    stub = (ROOT / "keras_transfer" / "__init__.pyi").read_text(encoding="utf-8")
    assert re.findall(r'^    "(\w+)",$', stub, re.MULTILINE) == keras_transfer.__all__


@pytest.mark.nightly
def test_a_type_checker_accepts_right_calls_and_refuses_wrong_ones(tmp_path):
    for name, text in {"right": RIGHT, "wrong": WRONG}.items():
        (tmp_path / f"{name}.py").write_text(text)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"),
            *("--follow-imports", "silent", "--cache-dir", tmp_path / "cache", "--no-error-summary"),
            *(tmp_path / "right.py", tmp_path / "wrong.py"),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line.partition(f"{tmp_path.name}/")[2] for line in done.stdout.splitlines()]
    assert [line for line in said if line.startswith("right")] == [
        'right.py:6: note: Revealed type is "keras_transfer.run.Run"'
    ], done.stdout + done.stderr
    assert [int(line.split(":")[1]) for line in said if ": error: " in line] == [4, 5, 6, 7, 8, 9], (
        done.stdout
    )
