"""Discovery: hand-made distributions of every broken kind, and a command line that survives each."""

import os
import subprocess
import sys
import textwrap

import pytest

from keras_transfer import plugins
from keras_transfer.errors import PluginError, UsageError

GOOD = """
from keras_transfer.tasks.base import TaskSpec
print("noise at import")
SPEC = TaskSpec(name="{name}", summary="A good one.", factory="{module}:Task", metrics={{"score": "higher"}},
                main_metric="score", contract={contract})
"""


def distribution(site, dist, name, source, *, value=None, version="1.0"):
    """Write a module and the metadata of a distribution that offers it as a task."""
    module = dist.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(source))
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[keras_transfer.tasks]\n{name} = {value or module + ':SPEC'}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions, one of each kind."""
    distribution(tmp_path, "kt-good", "good", GOOD.format(name="good", module="kt_good", contract=1))
    distribution(tmp_path, "kt-future", "future", GOOD.format(name="future", module="kt_future", contract=99))
    distribution(tmp_path, "kt-missing", "missing", "import a_module_that_is_not_there")
    distribution(tmp_path, "kt-syntax", "syntax", "def broken(:")
    distribution(tmp_path, "kt-exits", "exits", "import sys; sys.exit(3)")
    distribution(tmp_path, "kt-wrong", "wrong", "SPEC = 42")
    distribution(tmp_path, "kt-nothing", "nothing", "", value="kt_nothing:ABSENT")
    text = GOOD.format(name="text", module="kt_text", contract='"1"')
    distribution(tmp_path, "kt-text", "text", text)
    taken = GOOD.format(name="taken", module="kt_taken", contract=1).replace(
        "contract=", "options=O, contract="
    )
    head = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass O:\n    epochs: int = 3\n"
    distribution(tmp_path, "kt-taken", "taken", head + taken)
    distribution(tmp_path, "kt-twin-a", "twin", GOOD.format(name="twin", module="kt_twin_a", contract=1))
    distribution(tmp_path, "kt-twin-b", "twin", GOOD.format(name="twin", module="kt_twin_b", contract=1))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_every_kind_of_plugin_gets_its_state_and_its_reason(site):
    found = {status.entry.distribution: status for status in plugins.task_statuses()}
    states = {name: status.state for name, status in found.items()}
    assert states == {
        "keras-transfer": "ok",
        "kt-good": "ok",
        "kt-future": "incompatible",
        "kt-missing": "broken",
        "kt-syntax": "broken",
        "kt-exits": "broken",
        "kt-wrong": "broken",
        "kt-nothing": "broken",
        "kt-text": "broken",
        "kt-taken": "broken",
        "kt-twin-a": "duplicate",
        "kt-twin-b": "duplicate",
    }
    assert "a_module_that_is_not_there" in found["kt-missing"].reason
    assert "epochs" in found["kt-taken"].reason and "whole number" in found["kt-text"].reason
    assert "SystemExit: 3" in found["kt-exits"].reason
    assert "contract 99" in found["kt-future"].reason
    assert "kt-twin-a and kt-twin-b" in found["kt-twin-a"].reason


@pytest.mark.parametrize(
    ("name", "said"), [("missing", "a_module_that"), ("twin", "uninstall one"), ("future", "99")]
)
def test_using_one_that_is_not_ok_repeats_the_reason(site, name, said):
    with pytest.raises(PluginError, match=said):
        plugins.task_spec(name)


def test_listing_entries_imports_nothing(site):
    before = set(sys.modules)
    assert len(plugins.entries(plugins.TASKS)) == 14
    assert not [name for name in set(sys.modules) - before if name.startswith("kt_")]


def test_an_unknown_task_names_the_known_ones(site):
    with pytest.raises(UsageError, match="classification"):
        plugins.task_spec("clasification")


def test_the_environment_restricts_plugins_but_never_the_built_in_task(site, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_PLUGINS", "good, syntax")
    assert [entry.name for entry in plugins.entries(plugins.TASKS)] == [
        "classification",
        "good",
        "multilabel",
        "regression",
        "syntax",
    ]


def test_the_command_line_survives_them_all(site):
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ['PYTHONPATH']}"}
    for arguments, code in (
        (["plugins", "--json"], 0),
        (["train", "--help"], 0),
        (["train", "x", "-o", "y", "--task", "exits"], 1),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "keras_transfer", *arguments], env=environment, capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert "SystemExit: 3" in done.stderr
