"""What the README and the documents show is what the program does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from keras_transfer_tests.documents import understand, words
from keras_transfer_tests.images import copy_crops
from PIL import Image

from keras_transfer.cli import cli
from keras_transfer.discovery import statuses
from keras_transfer.options import option_infos
from keras_transfer.tasks.specs import TASKS, task_spec
from keras_transfer.testing.command import call

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
TEXT = "\n".join(DOCUMENTS.values())
SCRIPT = (ROOT / "keras_transfer" / "export" / "standalone" / "classify.py").read_text(encoding="utf-8")
OPTION = r"(?<![\w-])--[a-z][a-z0-9-]+"
OF_A_SCRIPT = r"python ((?:benchmarks|examples)/[\w/]+\.py)([^`\n]*)"
COMMANDS = [
    line.strip().split("#")[0]
    for line in re.findall(r"^    (.*)$", TEXT, re.MULTILINE)
    if line.strip().startswith("keras-transfer") and "novelty" not in line
]
BOARD = r"^    (python edge/classify\.py [^\n]*)$"


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    understand(line)


def test_every_make_target_and_linked_file_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^    make (\w+)|`make (\w+)`", README, re.MULTILINE)):
        assert re.search(rf"^{target[0] or target[1]}:", makefile, re.MULTILINE), target
    for name, text in DOCUMENTS.items():
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_every_option_named_in_the_text_exists():
    known = set()
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        nested = command.commands.values() if isinstance(command, click.Group) else [command]
        parameters = [parameter for each in nested for parameter in each.params]
        known |= {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    for status in statuses(TASKS):
        for info in option_infos(task_spec(status.entry.name).options):
            known |= {info.flag, info.flag.replace("--", "--no-")}
    for option in set(re.findall(OPTION, re.sub(OF_A_SCRIPT, "", TEXT))):
        if option in ("--normal", "--alarm", "--help", "--tflite"):
            continue  # of the tutorial's task, of every verb, of tf2onnx
        if option == "--self-test":
            assert option in SCRIPT
            continue
        assert option in known, option


def test_every_option_of_a_script_exists():
    found = re.findall(OF_A_SCRIPT, TEXT)
    assert found
    for script, rest in found:
        code = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(OPTION, rest):
            assert f'"{option}"' in code, f"{script} {option}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What a reader's machine has computed already: the commands come after the example."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(photo_folder, photos, tmp_path, monkeypatch, cache):
    """What the README takes for granted: ``photos/``, 15 real crops a class, and ``new_photo.jpg``."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(cache))
    copy_crops(photo_folder, tmp_path / "photos", 15)
    Image.fromarray(photos["flower"]).save(tmp_path / "new_photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ON_TINY = {"efficientnet_lite0": "tiny", "(224, 224)": "(64, 64)", "block6a": "block4a"}
"""The Python example where real features do not matter."""


@pytest.mark.parametrize(
    ("other", "accurate"),
    [
        pytest.param({}, 0.8, marks=pytest.mark.nightly, id="word by word"),
        pytest.param(ON_TINY, 0.3, id="tiny"),
    ],
)
def test_the_python_example_runs(other, accurate, workplace, capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    for word, instead in other.items():
        assert word in code
        code = code.replace(word, instead)
    exec(compile(code, "README.md", "exec"), {})
    accuracy, probabilities = capsys.readouterr().out.split("\n", 1)
    assert float(accuracy) >= accurate and len(re.findall(r"\d\.\d+", probabilities)) == 2
    assert {"model.tflite", "saved_model", "labels.txt", "bundle.json"} <= {
        path.name for path in Path("edge").iterdir()
    }


@pytest.mark.slow
def test_the_commands_run_in_their_order(workplace):
    """On the default backbone with its real weights, word by word; ``demo`` has a test of its own."""
    commands = re.findall(rf"^    (keras-transfer [^\n]*)$|{BOARD}", README, re.MULTILINE)
    done = []
    for command, on_the_board in commands:
        if on_the_board:
            line = [sys.executable, *shlex.split(on_the_board)[1:]]
            said = subprocess.run(line, capture_output=True, text=True, check=False)
            assert said.returncode == 0 and "Traceback" not in said.stderr, said.stderr
        elif "demo" not in command:
            sure = ["--yes"] if command.endswith("cache clear") else []  # what one answers to its question
            call(*words(command), *sure)
        done.append(command or on_the_board)
    assert len(done) >= 20
    assert {"run", "edge", "features.npz", "features.npy", "cost.png"} <= {
        path.name for path in workplace.iterdir()
    }
