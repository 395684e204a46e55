"""docs/plugins.md: its files are the example's, and its table of checks the kit's. Its commands: test_installs.py."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from keras_transfer.testing import CHECKS, Kit

ROOT = Path(__file__).parents[1]
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


def test_the_table_of_checks_is_the_kit():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT[TEXT.index("| check | promise |") :], re.MULTILINE)
    )
    assert rows == {
        name: " ".join(check.__doc__.split()).replace("``", "`") for name, check in CHECKS.items()
    }


@pytest.mark.slow
def test_the_example_keeps_its_promises(tmp_path, monkeypatch):
    """As if it were installed; installing it is tried in test_installs.py."""
    facts = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = tmp_path / f"kt_novelty-{facts['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {facts['version']}\n"
    )
    offered = facts["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {one}\n" for name, one in them.items()) for group, them in offered
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    for place in (tmp_path, EXAMPLE / "src"):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(EXAMPLE / "src"), os.environ.get("PYTHONPATH", "")])
    )
    kit = Kit("novelty", settings={"backbone": "tiny"})
    for name in CHECKS:
        if name != "answers_alike_in_a_fresh_process":  # for all tasks in test_tasks_with_keras_alone.py
            kit.check(name)
