"""Every command of docs/training.md is run, on real crops, as small as they get: 64 pixels, one epoch."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "cli"))
from keras_transfer.testing.command import call

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    keras-transfer (.*)$", TEXT, re.MULTILINE)
SMALL = {"--image-size": "64", "--engine": "keras", "--batch-size": "16", "--epochs": "1"}
OFFLINE = {"mobilenet_v3_small": ["--weights", "none"]}
"""Backbones whose weights are not on this machine."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, photo_folder):
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
        call("train", "photos/", "--output", "run", "--image-size", "64", "--engine", "keras", "--quiet")
    return folder


def made_small(arguments: list[str]) -> list[str]:
    """The same command with less work."""
    if arguments[0] != "train":
        return [argument.replace("mobilenet_v2", "efficientnet_lite0") for argument in arguments]
    if "--milestone" in arguments:  # its epochs must come
        arguments = [*arguments, "--epochs", "7"]
    if "--accumulate" in arguments:  # so many batches must come
        arguments = [*arguments, "--epochs", "2"]
    if "--epochs" in arguments:
        arguments = [*arguments]
        place = arguments.index("--epochs") + 1
        arguments[place] = str(min(int(arguments[place]), 7))
    for option, value in SMALL.items():
        arguments = arguments if option in arguments else [*arguments, option, value]
    weights = [more for name, extra in OFFLINE.items() if name in arguments for more in extra]
    return [*arguments, *weights]


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_runs(line, workplace, tmp_path, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(workplace / "cache"))
    arguments = made_small(shlex.split(line))
    if "--output" in arguments:
        place = arguments.index("--output") + 1
        arguments[place] = str(tmp_path / arguments[place])
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
    assert ("lr_finder.png" in plots) == ("--find-lr" in arguments)
    if "--strategy" in arguments and arguments[arguments.index("--strategy") + 1] != "probe":
        assert training["gradient"]["epochs"] >= 1
        assert bool(training["gradient"]["boundary"]) == ("--cache-boundary" in arguments)
    if "--batchnorm" in arguments:
        assert training["adapted"]["images"] > 0
