"""``make`` asks for what an environment needs before it makes one, and says in a sentence what is missing."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "support" / "preflight.py"
_spec = importlib.util.spec_from_file_location("preflight", SCRIPT)
preflight = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(preflight)

WHOLE = ("venv", "ensurepip")
ROOM = 10**11


@pytest.mark.parametrize(
    ("version", "modules", "free", "said"),
    [
        ((3, 10), WHOLE, ROOM, r"3\.11 to 3\.13 is needed; py is 3\.10.*make PYTHON=python3\.13"),
        ((3, 14), WHOLE, ROOM, r"3\.11 to 3\.13 is needed; py is 3\.14"),
        ((2, 7), (), 0, "is needed"),
        ((3, 11), ("ensurepip",), ROOM, r"no module venv.*python3\.11-venv"),
        ((3, 12), ("venv",), ROOM, r"no module ensurepip.*python3\.12-venv"),
        ((3, 11), WHOLE, 10**9, r"5 GB of disk space are needed .*; 1\.0 GB are free"),
        ((3, 13), WHOLE, ROOM, "^$"),
    ],
)
def test_what_is_missing_is_said(version, modules, free, said):
    assert re.search(said, preflight.problem("py", version, modules, free))


def test_the_range_is_the_projects():
    found = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert ((3, int(found[1])), (3, int(found[2]) - 1)) == (preflight.OLDEST, preflight.NEWEST)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python 3.{preflight.OLDEST[1]} to 3.{preflight.NEWEST[1]}" in readme


@pytest.fixture
def workplace(tmp_path):
    """What ``make`` needs to begin, and nothing else."""
    for name in ("Makefile", "pyproject.toml", "tests/support/preflight.py", "tests/support/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(workplace, python):
    done = subprocess.run(
        ["make", "test", f"PYTHON={python}"], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not (workplace / ".venv").exists()
    return done.stderr


def test_make_refuses_another_python(workplace):
    """One that says that it is 3.8, and one that is not there."""
    old = workplace / "python3.8"
    pretend = "import sys, runpy; sys.version_info = (3, 8, 20); sys.argv.pop(0)"
    code = f"{pretend}; runpy.run_path(sys.argv[0], run_name='__main__')"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\nexec {sys.executable} -c "{code}" "$@"\n'
    )
    old.chmod(0o755)
    assert f"{old} is 3.8" in make(workplace, old)
    assert "There is no python3.99 here that runs" in make(workplace, "python3.99")
