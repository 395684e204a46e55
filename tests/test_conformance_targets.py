"""The kit on targets: the example keeps every promise, and a broken promise is told in one sentence."""

import importlib.util
import tomllib
from pathlib import Path

import pytest
from helpers_plugins import as_installed, distribution

from keras_transfer.errors import PluginError
from keras_transfer.export.targets.specs import TARGETS
from keras_transfer.testing import CHECKS_OF, Broken, Kit, kinds_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin_target"
SPEC = """
from keras_transfer.export.targets.rules import Rules
from keras_transfer.export.targets.specs import TargetSpec
{above}
SPEC = TargetSpec({name!r}, "A hut.", ("float32",), Rules(operators={{}}, others=True), factory="kt_{name}_target:Hut")
"""
TARGET = """
import numpy as np
from keras_transfer.export.targets.base import Made, Target
from keras_transfer.inference import LiteRTRunner

class Hut(Target):
    allowed = None

    def make(self, source):
        (source.own({name!r}) / "door").write_text("open")
        {made}
        return Made(("targets/{name}/door",){told})

    def open(self, path):
        runner = LiteRTRunner(path)
        predict = runner.predict
        {opened}
        return runner
"""
WRONG = {
    "heavy": ("target_is_light", "imports numpy; name a factory as text", {"above": "import numpy"}),
    "untidy": (
        "target_writes_into_its_folder",
        "it wrote targets/untidy/window, which is not among the files",
        {"made": '(source.own("untidy") / "window").write_text("")'},
    ),
    "greedy": (
        "target_writes_into_its_folder",
        r"The target 'greedy' wrote 'model.tflite', which was there before",
        {"made": 'source.path.write_bytes(source.path.read_bytes() + b"0")'},
    ),
    "vague": (
        "target_tells_what_it_made",
        "not JSON serializable",
        {"told": ", measured={'size': np.float32(1)}"},
    ),
    "drifting": (
        "target_answers_like_litert",
        r"differs by 0\.01 from LiteRT's; at most 0\.0001 is allowed",
        {"opened": "runner.predict = lambda batch: predict(batch) + np.float32(0.01)"},
    ),
    "mixing": (
        "target_answers_any_number",
        "an image alone is answered otherwise than with others",
        {"opened": "runner.predict = lambda batch: predict(batch) + np.float32(len(batch) / 50)"},
    ),
    "rooted": (
        "target_opens_a_moved_bundle",
        "FileNotFoundError",
        {
            "made": 'type(self).place = source.folder / "targets" / "rooted" / "door"',
            "opened": "self.place.read_text()",
        },
    ),
}


def test_the_kit_knows_targets():
    assert kinds_of("litert") == kinds_of("onnx") == ["target"]


@pytest.mark.slow
def test_the_example_of_a_target_keeps_its_promises(tmp_path, monkeypatch):
    """As if it were installed; installing it is tried in test_installs.py."""
    as_installed(tmp_path, tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"])
    for place in (tmp_path, EXAMPLE / "src"):
        monkeypatch.syspath_prepend(str(place))
    kit = Kit("compiled-model")
    assert kit.kinds == ["target"]
    found = list(kit.results())
    assert [one.check for one in found] == list(CHECKS_OF["target"])
    assert {one.state for one in found} == {"passed"}, found


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_target_fails_its_check_with_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(tmp_path))
    check, sentence, values = WRONG[name]
    distribution(
        tmp_path,
        f"kt-{name}",
        name,
        SPEC.format(name=name, above=values.get("above", "")),
        group=TARGETS.group,
    )
    parts = {"made": "pass", "told": "", "opened": "pass", **values}
    (tmp_path / f"kt_{name}_target.py").write_text(TARGET.format(name=name, **parts))
    kit = Kit(name)
    with pytest.raises(Broken, match=sentence):
        kit.check(check)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["litert", "microcontroller", "ethos-u", "openvino", "onnx", "edgetpu"])
def test_the_targets_of_this_package_keep_their_promises(name):
    module = {
        "microcontroller": "tflite_micro",
        "ethos-u": "ethosu",
        "openvino": "openvino",
        "onnx": "tf2onnx",
    }
    if name in module and importlib.util.find_spec(module[name]) is None:
        pytest.skip(f"{module[name]} is not installed")
    kit = Kit(name, kind="target")
    for check in kit.checks:
        kit.check(check)


def test_a_target_whose_name_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    text = SPEC.format(name="../hut", above="").replace("kt_../hut_target", "os")
    distribution(tmp_path, "kt-away", "../hut", text, group=TARGETS.group)
    with pytest.raises(PluginError, match=r"its name is '\.\./hut', which is no name of a folder"):
        Kit("../hut", kind="target")
