"""Installing the plugin alone brings the core; without the plugin the core goes on, and a run says what is missing."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from keras_transfer_segmentation.sample import photographs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
PLUGIN = "keras-transfer-segmentation"


class Environment:
    """A virtual environment that sees every package the tests run with, but for this project's."""

    def __init__(self, folder):
        venv.create(folder / "venv", with_pip=True)
        (site,) = (folder / "venv").glob("lib/python3*/site-packages")
        shared = folder / "shared"
        shared.mkdir()
        for path in (Path(text) for text in sys.path if Path(text).name == "site-packages"):
            for one in path.iterdir():
                ours = one.name.lower().lstrip("_").startswith(("keras_transfer", "editable__"))
                if not ours and one.suffix != ".pth" and not (shared / one.name).exists():
                    (shared / one.name).symlink_to(one)
        (site / "shared.pth").write_text(f"{shared}\n")
        self.python = folder / "venv" / "bin" / "python"
        self.variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    def __call__(self, *arguments, code=0):
        """``python -m ...`` in an empty folder: what it said."""
        done = subprocess.run(
            [str(part) for part in (self.python, "-m", *arguments)],
            capture_output=True,
            text=True,
            cwd=self.python.parent,
            env=self.variables,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The core's wheel and the plugin's, built from copies of their sources."""
    folder = tmp_path_factory.mktemp("wheels")
    left_out = shutil.ignore_patterns(
        ".*", "build", "*.egg-info", "__pycache__", "tests", "benchmarks", "plugins"
    )
    for name, source in (("core", ROOT), ("plugin", ROOT / "plugins" / PLUGIN)):
        copy = folder / name
        shutil.copytree(source, copy, ignore=left_out)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
        done = subprocess.run([*command, "-w", folder, copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_plugin_brings_the_core_and_leaves_it_behind(wheels, tmp_path):
    there = Environment(tmp_path)
    assert "No module named" in there("keras_transfer", "--version", code=1)
    offline = ["--no-index", "--find-links", wheels]
    said = there("pip", "install", *offline, PLUGIN)
    assert "Successfully installed keras-transfer-0" in said and f"{PLUGIN}-0" in said
    assert "segmentation" in there("keras_transfer", "plugins")
    (tmp_path / "data").mkdir()
    photographs(tmp_path / "data")
    training = [
        "--task",
        "segmentation",
        "--weights",
        "none",
        "--image-size",
        "32",
        "--epochs",
        "1",
        "--quiet",
    ]
    there(
        "keras_transfer", "train", tmp_path / "data", "-o", tmp_path / "run", "--strategy", "probe", *training
    )
    there(
        "keras_transfer",
        "export",
        tmp_path / "run",
        "--to",
        tmp_path / "edge",
        "--format",
        "tflite",
        "--quiet",
    )

    there("pip", "uninstall", "-y", PLUGIN)
    assert "efficientnet_lite0" in there("keras_transfer", "backbones")
    assert "segmentation" not in there("keras_transfer", "plugins")
    missing = f"of {PLUGIN} {version(PLUGIN)}, which is not installed. Install it"
    assert missing in there("keras_transfer", "evaluate", tmp_path / "run", code=1)
    assert missing in there("keras_transfer", "verify", tmp_path / "edge", tmp_path / "data", code=1)
    done = subprocess.run(  # the bundle's script needs neither of them
        [there.python, tmp_path / "edge" / "segment.py", "--self-test"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("passed\n"), done.stderr
