"""The README's commands: understood, and nightly one after the other: training, enrolling, matching, the bundle."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_siamese import run_script
from keras_transfer_tests.documents import understand
from PIL import Image

from keras_transfer.testing.command import call

README = Path(__file__).parents[1] / "README.md"


def commands():
    """The block of commands under the installation."""
    (block,) = re.findall(
        r"\n((?:    (?:python|keras-transfer) .*\n)+)",
        README.read_text("utf-8").split("\n## ")[0].split("pip install")[1],
    )
    return [shlex.split(line) for line in block.splitlines()]


def run(command):
    """Run one of them, and give what it printed."""
    if command[0] == "keras-transfer":
        return call(*command[1:])[0]
    if command[1].startswith("edge/"):
        return run_script(Path("edge"), *command[2:], script=Path(command[1]).name)[0]
    return subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True, text=True).stdout


def test_the_commands_of_the_readme_are_understood():
    assert len(commands()) == 11
    for command in commands():
        if command[0] == "keras-transfer":
            understand(shlex.join(command))


@pytest.mark.nightly
def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = [run(command) for command in commands()]
    match, verified, device = said[5], said[6], said[10]
    answers = [line.split(": ", 1)[1].split()[0] for line in match.splitlines()]
    assert answers == ["H", "M", "M", "unknown", "unknown"]
    with Image.open("match.png") as picture:
        assert picture.width > 300
    assert verified.startswith("same: cosine 0.")
    # The device says what the desk says.
    path, first = match.splitlines()[0].split(": ", 1)
    assert device.splitlines()[:2] == [path, "  " + " ".join(first.split()[:2])]
    # Enrolled by the run, matched by the exported float32 file; the integer file is near, and says so.
    images = [path, "letters/M/STIXGeneral.png"]
    by_run, by_file = (
        json.loads(call("siamese", "match", "known.sqlite", *images, "--model", model, "--json", "-q")[0])
        for model in ("run", "edge")
    )
    for one, other in zip(by_run, by_file, strict=True):
        assert one["name"] == other["name"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    out, err = call(
        "siamese", "match", "known.sqlite", *images, "--model", "edge/model_int8.tflite", "--top", "1"
    )
    assert [line.split(": ")[1].split()[0] for line in out.splitlines()] == ["H", "M"]
    assert "the cosine of an image's two embeddings is as low as 0.9" in err
