"""What is installed from wheels: a plugin alone brings the core, the plugin tutorial, a backbone from another package.

One set of wheels and one virtual environment, which sees every package the tests run with but for this project's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from keras_transfer_tests.documents import words

from keras_transfer.testing import CHECKS, CHECKS_OF
from keras_transfer.testing.samples import two_photographs

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PLUGIN = "keras-transfer-segmentation"
TUTORIAL = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TUTORIAL = TUTORIAL[TUTORIAL.index("## A task in an afternoon") : TUTORIAL.index("## The contract")]
FILES = dict(
    re.findall(r"`([\w/]+\.(?:toml|py))`[^`]*?(?:`[^`]*`[^`]*?)*?```\w+\n(.*?)```", TUTORIAL, re.DOTALL)
)
COMMANDS = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", TUTORIAL, flags=re.DOTALL), re.MULTILINE)


class Environment:
    """A virtual environment in ``folder``: programs are run as modules, since scripts would know another Python."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv")
        (site,) = (folder / "venv").glob("lib/python3*/site-packages")
        packages = folder / "packages"
        packages.mkdir()
        for path in (Path(text) for text in sys.path if Path(text).name == "site-packages"):
            for one in path.iterdir():
                ours = one.name.lower().lstrip("_").startswith(("keras_transfer", "editable__"))
                if not ours and one.suffix != ".pth" and not (packages / one.name).exists():
                    (packages / one.name).symlink_to(one)
        (site / "packages.pth").write_text(f"{packages}\n")
        self.installed: set[str] = set()
        self.python = folder / "venv" / "bin" / "python"
        kept = {
            name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")
        }
        # What builds a package is there already: nothing is fetched.
        self.variables = {**kept, "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}

    def __call__(self, *arguments, code=0, cwd=None, **variables):
        """``python ARGUMENTS``, by default in an empty folder: what it said."""
        done = subprocess.run(
            [str(part) for part in (self.python, *arguments)],
            capture_output=True,
            text=True,
            cwd=cwd or self.python.parent,
            env={**self.variables, **variables},
            check=False,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def command(self, line: str, cwd: Path) -> str:
        """A line of a document, in a process of its own."""
        program, *arguments = shlex.split(line)
        modules = {"pip": ["-m", "pip"], "keras-transfer": ["-m", "keras_transfer"], "python": []}
        return self(*modules[program], *arguments, cwd=cwd)

    def commands(self, lines: list[str], cwd: Path, code: int = 0, then: str = "") -> dict[str, str]:
        """Lines that begin with ``keras-transfer``, all in one process, and what is done ``then``.

        What each said: on standard output, or on standard error where ``code``, its exit code, says failure.
        """
        program = (
            "import json, sys\n"
            "from keras_transfer.testing.command import call\n"
            "lines, code = json.loads(sys.argv[1]), int(sys.argv[2])\n"
            "said = {line: call(*words, code=code)[int(code != 0)] for line, words in lines.items()}\n"
            "open('said.json', 'w').write(json.dumps(said))\n" + then
        )
        printed = self("-c", program, json.dumps({line: words(line) for line in lines}), code, cwd=cwd)
        return {"then": printed, **json.loads((cwd / "said.json").read_text())}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """The environment; nothing of this project is in it before a test installs it."""
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The core, a plugin and what the tests share, built from copies of their sources."""
    folder = tmp_path_factory.mktemp("wheels")
    left_out = shutil.ignore_patterns(
        ".*", "build", "*.egg-info", "__pycache__", "tests", "benchmarks", "plugins"
    )
    sources = {"core": ROOT, "plugin": ROOT / "plugins" / PLUGIN, "support": ROOT / "tests" / "support"}
    for name, source in sources.items():
        shutil.copytree(source, folder / name, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", folder, *(folder / name for name in sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def install(there, wheels, name):
    """Install a distribution of the wheels, unless it is there already."""
    if name in there.installed:
        return ""
    there.installed |= {name, "keras-transfer"}
    return there("-m", "pip", "install", "--find-links", wheels, name)


@pytest.mark.nightly
def test_a_plugin_brings_the_core_and_leaves_it_behind(there, wheels, tmp_path):
    """Without the plugin the core goes on, and a run or bundle of its task says what is missing."""
    from keras_transfer_segmentation.sample import photographs

    def run(*arguments, code=0):
        return there("-m", "keras_transfer", *arguments, code=code)

    assert "No module named" in run("--version", code=1)
    said = install(there, wheels, PLUGIN)
    assert "Successfully installed keras-transfer-0" in said and f"{PLUGIN}-0" in said
    assert "segmentation" in run("plugins")
    install(there, wheels, "keras-transfer-tests")
    (tmp_path / "data").mkdir()
    photographs(tmp_path / "data")
    small = "--backbone tiny --image-size 32 --epochs 1 --strategy probe --quiet"
    train = f"keras-transfer train data --task segmentation -o run {small}"
    there.commands([train, "keras-transfer export run --to edge --format tflite --quiet"], tmp_path)

    there("-m", "pip", "uninstall", "-y", PLUGIN)
    assert "efficientnet_lite0" in run("backbones")
    assert "segmentation" not in run("plugins")
    missing = f"of {PLUGIN} {version(PLUGIN)}, which is not installed. Install it"
    refused = ["keras-transfer evaluate run", "keras-transfer verify edge data"]
    said = there.commands(refused, tmp_path, code=1)
    assert all(missing in said[line] for line in refused)
    # The bundle's script needs neither of them.
    assert "\npassed\n" in there(tmp_path / "edge" / "segment.py", "--self-test")


@pytest.fixture
def project(tmp_path):
    """The tutorial's files, and photographs beside them."""
    folder = tmp_path / "kt-novelty"
    for name, code in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code, encoding="utf-8")
    (folder / "photos").mkdir()
    two_photographs(folder / "photos")
    (folder / "photos" / "china").rename(folder / "photos" / "normal")
    (folder / "photos" / "flower").rename(folder / "photos" / "unusual")
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize("backbone", ["tiny", "real"])
def test_the_tutorial_runs(there, wheels, project, backbone):
    """Word by word; on the tiny backbone its commands share a process, and the kit is tried by its test alone."""
    install(there, wheels, "keras-transfer-tests")
    asked = "keras-transfer predict run photos --json"
    if backbone == "real":
        said = {command: there.command(command, project) for command in [*COMMANDS, asked]}
        passed = there("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project)
        assert said["keras-transfer plugins check novelty"].count("passed") == len(CHECKS)
    else:
        assert "Successfully installed kt-novelty" in there.command(COMMANDS[0], project)
        lines = [line for line in COMMANDS[1:] if "plugins check" not in line]
        small = {line: line.replace("--image-size 96", "--image-size 64 --backbone tiny") for line in lines}
        test = project / "tests" / "test_novelty.py"
        test.write_text(
            test.read_text().replace('"novelty")', '"novelty", settings={"backbone": "tiny"})', 1)
        )
        kit = "import pytest\nsys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests']))\n"
        found = there.commands([*small.values(), asked], project, then=kit)
        said = {line: found[other] for line, other in small.items()} | {asked: found[asked]}
        passed = found["then"]
    assert re.search(r"novelty\s+ok\s+How unlike", said["keras-transfer plugins"])
    assert "--alarm" in said["keras-transfer train --task novelty --help"]
    assert "auroc" in said["keras-transfer evaluate run"]
    answers = said[asked]
    scores = {True: [], False: []}
    for answer in json.loads(answers[answers.index("[") : answers.rindex("]") + 1]):
        scores["unusual" in answer["path"]].append(answer["novelty"])
    assert min(map(len, scores.values())) == 16
    assert sorted(scores[True])[8] > sorted(scores[False])[8]
    if backbone == "real":
        assert sorted(scores[True])[8] > max(scores[False])  # a dahlia is nothing like a palace
        passed = there("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project)
        assert f"{len(CHECKS)} passed" in passed
    there("-m", "pip", "uninstall", "-q", "-y", "kt-novelty")
    verbs = ("evaluate run", "verify edge photos/", "predict edge/model.tflite photos")
    refused = [f"keras-transfer {line}" for line in verbs]
    said = there.commands(refused, project, code=1)
    assert all("kt-novelty" in said[line] for line in refused)


@pytest.mark.nightly
def test_a_backbone_from_another_package(there, wheels, photo_folder, tmp_path):
    """Its README word by word."""
    install(there, wheels, "keras-transfer")
    package = tmp_path / "examples" / "plugin_backbone"
    shutil.copytree(EXAMPLES / "plugin_backbone", package)
    (tmp_path / "photos").symlink_to(photo_folder)
    text = (package / "README.md").read_text(encoding="utf-8")
    first, *lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    there.command(first, tmp_path)
    said = {line: there.command(line, tmp_path) for line in lines}
    assert re.search(r"gabor\s+ok", said["keras-transfer plugins"])
    promises = len(CHECKS_OF["backbone"]) + len(CHECKS_OF["weights"])
    assert said["keras-transfer plugins check gabor"].count("passed") == promises
    assert "48" in said["keras-transfer backbones gabor"]
    assert "11x11" in said["keras-transfer describe gabor"]
    (trained,) = (text for line, text in said.items() if " train " in line)
    assert float(re.search(r"images: ([\d.]+) %", trained)[1]) >= 75
    there("-m", "pip", "uninstall", "-q", "-y", "kt-gabor")


@pytest.mark.nightly
def test_a_target_from_another_package(there, wheels, photo_folder, tmp_path):
    """Its README word by word, with a run that is there."""
    install(there, wheels, "keras-transfer")
    package = tmp_path / "examples" / "plugin_target"
    shutil.copytree(EXAMPLES / "plugin_target", package)
    (tmp_path / "photos").symlink_to(photo_folder)
    text = (package / "README.md").read_text(encoding="utf-8")
    first, *lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    there.command("keras-transfer train photos/ --output run --strategy probe --image-size 96", tmp_path)
    there.command("keras-transfer export run --to edge --format tflite", tmp_path)
    there.command(first, tmp_path)
    said = {}
    for line in lines:
        extra = " --format tflite --overwrite" if " export " in line else ""
        said[line] = there.command(line + extra, tmp_path)
    assert re.search(r"compiled-model\s+taken", said[lines[2]])
    assert said["keras-transfer plugins check compiled-model"].count("passed") == len(CHECKS_OF["target"])
    assert "compiled-model (model.tflite)" in said["keras-transfer verify edge"]
    there("-m", "pip", "uninstall", "-q", "-y", "kt-compiled-model")
