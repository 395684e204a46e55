"""docs/plugins.md: its files are the example's, and its tables of checks the kit's. Its commands: test_installs.py."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from helpers_plugins import as_installed

from keras_transfer.testing import CHECKS, CHECKS_OF, Kit
from keras_transfer.testing.command import call

ROOT = Path(__file__).parents[1]
TINY = ("--backbone", "tiny", "--image-size", 64)
EXAMPLE = ROOT / "examples" / "plugin_minimal"
TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TUTORIAL = TEXT[TEXT.index("## A task in an afternoon") : TEXT.index("## The contract")]
FILES = dict(
    re.findall(r"`([\w/]+\.(?:toml|py))`[^`]*?(?:`[^`]*`[^`]*?)*?```\w+\n(.*?)```", TUTORIAL, re.DOTALL)
)


def test_the_tutorial_builds_the_example():
    kept = {
        path.relative_to(EXAMPLE).as_posix(): path.read_text(encoding="utf-8")
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml") and "build" not in path.parts
    }
    assert kept == FILES


def test_the_tables_of_checks_are_the_kit():
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| (.*) \|$",
            TEXT[TEXT.index("| check | promise |") : TEXT.index("## Verbs, backbones, weights")],
            re.MULTILINE,
        )
    )
    assert rows == {
        name: " ".join(check.__doc__.split()).replace("``", "`")
        for checks in CHECKS_OF.values()
        for name, check in checks.items()
    }


@pytest.mark.nightly
def test_the_example_keeps_its_promises(tmp_path, monkeypatch):
    """As if it were installed; installing it is tried in test_installs.py."""
    as_installed(tmp_path, tomllib.loads(FILES["pyproject.toml"])["project"])
    for place in (tmp_path, EXAMPLE / "src"):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(EXAMPLE / "src"), os.environ.get("PYTHONPATH", "")])
    )
    kit = Kit("novelty", settings={"backbone": "tiny"})
    for name in CHECKS:
        if name != "answers_alike_in_a_fresh_process":  # for all tasks in test_tasks_with_keras_alone.py
            kit.check(name)
    source = kit.trials["task"].source
    shown, _ = call("train", source, "--task", "novelty", "--dry-run", "--strategy", "probe", *TINY)
    assert re.search(r"^\s*top\s+\d+\s+[\d,]+\s+frozen\s*$", shown, re.MULTILINE)
    assert re.search(r"^\s*standardise\s+1\s+\d+\s+novelty decides\s*$", shown, re.MULTILINE)
    assert "for one pass over all images" in shown and "novelty does not tell" in shown
    assert "A training would write RUN: run.json, model.keras" in shown
    told, _ = call("train", source, "--task", "novelty", "--dry-run", "-o", tmp_path / "run", *TINY)
    assert "frozen" not in told and f"would write {tmp_path / 'run'}: " in told.replace("\n", "")
    assert not (tmp_path / "run").exists()
