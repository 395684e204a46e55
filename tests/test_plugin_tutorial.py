"""docs/plugins.md, word by word: its files in an empty folder, its commands in a virtual environment of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from keras_transfer.testing import CHECKS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin_minimal"
TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TUTORIAL = TEXT[TEXT.index("## A task in an afternoon") : TEXT.index("## The contract")]
FILES = dict(
    re.findall(r"`([\w/]+\.(?:toml|py))`[^`]*?(?:`[^`]*`[^`]*?)*?```\w+\n(.*?)```", TUTORIAL, re.DOTALL)
)
COMMANDS = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", TUTORIAL, flags=re.DOTALL), re.MULTILINE)


def test_the_tutorial_builds_the_example():
    kept = {
        path.relative_to(EXAMPLE).as_posix(): path.read_text(encoding="utf-8")
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml") and "build" not in path.parts
    }
    assert kept == FILES


def test_the_table_of_checks_is_the_kit():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT[TEXT.index("| check | promise |") :], re.MULTILINE)
    )
    assert rows == {
        name: " ".join(check.__doc__.split()).replace("``", "`") for name, check in CHECKS.items()
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with nothing of its own, on top of the packages the tests run with."""
    folder = tmp_path_factory.mktemp("plugin") / "venv"
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    here = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    lines = [f"import site; site.addsitedir({str(path)!r})" for path in here]
    (site / "parent.pth").write_text("\n".join([*lines, str(ROOT)]) + "\n")
    return {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "PIP_NO_BUILD_ISOLATION": "0",  # what builds it is installed already: nothing is fetched
        "PIP_NO_INDEX": "1",
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The tutorial's files, and photographs beside them."""
    from keras_transfer.testing.samples import two_photographs

    folder = tmp_path_factory.mktemp("kt-novelty")
    for name, code in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code, encoding="utf-8")
    (folder / "photos").mkdir()
    two_photographs(folder / "photos")
    (folder / "photos" / "china").rename(folder / "photos" / "normal")
    (folder / "photos" / "flower").rename(folder / "photos" / "unusual")
    return folder


def run(command, folder, environment):
    arguments = shlex.split(command)
    if arguments[0] in (
        "pip",
        "keras-transfer",
    ):  # scripts of the environment the tests run in know another Python
        module = {"pip": "pip", "keras-transfer": "keras_transfer"}[arguments[0]]
        arguments = ["python", "-m", module, *arguments[1:]]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(environment, project):
    said = {command: run(command, project, environment) for command in COMMANDS}
    assert re.search(r"novelty\s+ok\s+How unlike", said["keras-transfer plugins"])
    assert said["keras-transfer plugins check novelty"].count("passed") == len(CHECKS)
    assert "--alarm" in said["keras-transfer train --task novelty --help"]
    assert "auroc" in said["keras-transfer evaluate run"]
    found = json.loads(run("keras-transfer predict run photos --json", project, environment))
    scores = {True: [], False: []}
    for answer in found:
        scores["unusual" in answer["path"]].append(answer["novelty"])
    assert min(map(len, scores.values())) == 16
    assert sorted(scores[True])[8] > max(scores[False])  # a dahlia is nothing like a palace
    run("python -m pytest -q -p no:cacheprovider tests", project, environment)
    run("pip uninstall -q -y kt-novelty", project, environment)
    for arguments in (
        ["evaluate", "run"],
        ["verify", "edge", "photos/"],
        ["predict", "edge/model.tflite", "photos"],
    ):
        command = ["python", "-m", "keras_transfer", *arguments]
        left = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert left.returncode != 0 and "kt-novelty" in left.stderr and "Traceback" not in left.stderr
