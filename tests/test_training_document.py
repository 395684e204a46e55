"""Every command and block of docs/training.md is run, on real crops, as small as they get: 64 pixels, two epochs."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from keras_transfer_tests.documents import on_tiny, python_on_tiny, smaller, words

from keras_transfer.cli import cli
from keras_transfer.testing.command import call

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (keras-transfer .*)$", TEXT, re.MULTILINE)
ALWAYS = (
    *("--dry-run", "--unfreeze from:block6a --cache-boundary", "--accumulate", "--batchnorm adapt"),
    *("--head svm", "evaluate", "multilabel", "regression"),
)
"""What is run in ``make test``; every other command is only parsed there, and run in ``make nightly``."""
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module", params=["tiny", pytest.param("real", marks=pytest.mark.nightly)])
def backbone(request):
    """The tiny one, or the ones that the document names."""
    return request.param


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, photo_folder, backbone):
    """Where the commands are given: photos/, labels.csv, numbers.csv, and a finished run as teacher."""
    folder = tmp_path_factory.mktemp("document")
    (folder / "photos").symlink_to(photo_folder)
    paths = sorted(photo_folder.glob("*/*.png"))
    for name, label in (
        ("labels.csv", lambda path, i: f"{path.parent.name}{';third' if i % 3 == 0 else ''}"),
        ("numbers.csv", lambda path, i: str(path.stat().st_size)),
    ):
        with (folder / name).open("w", newline="") as file:
            rows = [
                (f"photos/{path.parent.name}/{path.name}", label(path, i)) for i, path in enumerate(paths)
            ]
            csv.writer(file).writerows([("path", "label"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("KERAS_TRANSFER_CACHE", str(folder / "cache"))
        more = ["--backbone", "tiny"] if backbone == "tiny" else []
        call("train", "photos/", "--output", "run", "--image-size", "64", "--engine", "keras", *more)
    return folder


def how_often(line):
    """``make test`` has one command of each kind; all are in ``make nightly``, where the backbones are real, too."""
    chosen = any(re.search(rf"{option}(?![-\w])", line) for option in ALWAYS)
    return pytest.mark.slow if chosen else pytest.mark.nightly


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_is_understood(line):
    verb, *arguments = words(line)
    command = cli.get_command(click.Context(cli), verb)
    assert command.make_context(verb, arguments).params


@pytest.mark.parametrize("line", [pytest.param(line, marks=how_often(line)) for line in COMMANDS])
def test_the_command_runs(line, workplace, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(workplace / "cache"))
    arguments = (on_tiny if backbone == "tiny" else smaller)(words(line))
    if "--output" in arguments:
        place = arguments.index("--output") + 1
        arguments[place] = str(tmp_path / arguments[place])
    if any(
        argument.startswith("cpu:") for argument in arguments
    ):  # the processor is divided before it computes
        command = [sys.executable, "-m", "keras_transfer", *arguments, "--json"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        out, _ = call(*arguments, "--json")
    told = json.loads(out)
    if arguments[0] == "replay":
        assert told["identical"]
    if arguments[0] != "train" or "--dry-run" in arguments:
        return
    run, training = Path(arguments[arguments.index("--output") + 1]), told["training"]
    plots = {path.name for path in (run / "plots").iterdir()}
    assert (run / "model.keras").is_file()
    assert ("augmentation.png" in plots) == ("--augment" in arguments)
    if backbone == "real":  # what random features give away may be too little for the finder
        assert ("lr_finder.png" in plots) == ("--find-lr" in arguments)
    if "--strategy" in arguments and arguments[arguments.index("--strategy") + 1] != "probe":
        assert training["gradient"]["epochs"] >= 1
        assert bool(training["gradient"]["boundary"]) == ("--cache-boundary" in arguments)
    if "--batchnorm" in arguments:
        assert training["adapted"]["images"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_block_of_python_runs(code, workplace, backbone, tmp_path, monkeypatch):
    (tmp_path / "photos").symlink_to(workplace / "photos")
    monkeypatch.chdir(tmp_path)
    exec(compile(python_on_tiny(code) if backbone == "tiny" else code, "training.md", "exec"), {})
