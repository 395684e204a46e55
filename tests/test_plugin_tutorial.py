"""docs/plugins.md: its files are the example's, and its table of checks the kit's. Its commands: test_installs.py."""

import re
from pathlib import Path

from keras_transfer.testing import CHECKS

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
