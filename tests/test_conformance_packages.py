"""The kit on packages of backbones, weights and verbs: each kind of fault gets its sentence, right ones pass."""

import os
import textwrap
import tomllib
from pathlib import Path

import pytest
from helpers_plugins import as_installed, distribution

from keras_transfer.errors import PluginError, UsageError
from keras_transfer.testing import CHECKS, CHECKS_OF, Broken, Kit, conformance, kinds_of
from keras_transfer.testing.command import call

BACKBONES, WEIGHTS, COMMANDS = (f"keras_transfer.{group}" for group in ("backbones", "weights", "commands"))


@pytest.mark.slow
@conformance("tiny")
def test_the_backbone_and_the_weights_of_the_tests_keep_their_promises(check):
    check()


@pytest.mark.slow
def test_the_example_of_a_backbone_keeps_its_promises(tmp_path, monkeypatch):
    """As if it were installed; installing it is tried in test_installs.py."""
    example = Path(__file__).parents[1] / "examples" / "plugin_backbone"
    as_installed(tmp_path, tomllib.loads((example / "pyproject.toml").read_text())["project"])
    for place in (tmp_path, example / "src"):
        monkeypatch.syspath_prepend(str(place))
    kit = Kit("gabor")
    assert kit.kinds == ["backbone", "weights"]
    for check in kit.checks:
        if check != "reloads_with_keras_alone":  # its layers are Keras's own
            kit.check(check)


WIDTHS = (8, 8, 8, 16)
STRIDES = (4, 2, 2, 2)
SIZES = list(zip((3, *WIDTHS[:-1]), WIDTHS, strict=True))
ROW = {
    "feature_dim": 16,
    "params": sum(9 * given * made + made for given, made in SIZES),
    "default_size": 64,
    "min_size": 32,
    "input_mode": "tf",
    "pyramid": ("block1_act", "block2_act", "block3_act", "block4_act"),
    "licence": "MIT",
}
NETWORK = """
import keras
import numpy as np

def network(*, input_tensor):
    x = input_tensor
    for number, (width, stride) in enumerate(zip({widths}, {strides}), 1):
        name = f"block{{number}}_conv"
        x = keras.layers.Conv2D(width, 3, strides=stride, padding="same", name=name)(x)
        x = keras.layers.ReLU(name=f"block{{number}}_act")(x)
    return x

def weights():
    rng = np.random.default_rng(0)
    return {{
        f"block{{number}}_conv": [rng.normal(0, 0.2, (3, 3, given, made)).astype("float32"), np.zeros(made, "float32")]
        for number, (given, made) in enumerate({sizes}, 1)
    }}
"""
OF_A_BACKBONE = {
    "heavy": (
        "row_is_light",
        "imports numpy; put the constructor into another module",
        {},
        "",
        "import numpy",
    ),
    "boasting": (
        "row_is_true",
        "not what its BackboneSpec says: feature_dim 32, and it is 16",
        {"feature_dim": 32},
        "",
    ),
    "mixed_up": (
        "row_is_true",
        "the pyramid's P3, 'block3_act', is 4 pixels wide for images of 64; at stride 8 about 8",
        {"pyramid": ("block1_act", "block3_act", "block2_act", "block4_act")},
        "",
    ),
    "demanding": (
        "row_is_true",
        "its min_size is 96 and its default_size 64",
        {"min_size": 96},
        "",
    ),
    "picky": (
        "row_is_true",
        "cannot be built at its min_size 32: too small for me",
        {},
        """
        inner = network
        def network(*, input_tensor):
            if input_tensor.shape[1] < 48:
                raise ValueError("too small for me")
            return inner(input_tensor=input_tensor)
        """,
    ),
    "nameless": ("row_is_true", "There is no input mode 'grey'", {"input_mode": "grey"}, ""),
    "greedy": (
        "builds_alike_offline",
        "the network was reached for",
        {},
        """
        inner = network
        def network(*, input_tensor):
            import socket
            socket.create_connection(("example.org", 80))
            return inner(input_tensor=input_tensor)
        """,
    ),
    "restless": (
        "builds_alike_offline",
        "two calls gave different layers, such as block1_conv",
        {},
        """
        inner, calls = network, []
        def network(*, input_tensor):
            calls.append(1)
            x = inner(input_tensor=input_tensor)
            keras.Model(input_tensor, x).get_layer("block1_conv").name = f"block1_conv{len(calls)}x"
            return x
        """,
    ),
    "doubled": (
        "pixels_are_scaled_once",
        "input_mode is 'tf', and the network scales the pixels itself, too .rescaling.: they are scaled twice",
        {},
        """
        inner = network
        def network(*, input_tensor):
            return inner(input_tensor=keras.layers.Rescaling(1 / 255)(input_tensor))
        """,
    ),
    "raw": ("pixels_are_scaled_once", "nothing in the network scales the pixels", {"input_mode": "none"}, ""),
    "blind": (
        "features_tell_images_apart",
        "two different photographs give the same features",
        {},
        """
        inner = network
        def network(*, input_tensor):
            return inner(input_tensor=input_tensor * 0.0 + 1.0)
        """,
    ),
    "monolithic": (
        "layers_can_be_frozen",
        r"all its layers with weights are one block \(net\).*begin the names of a block's layers alike",
        {"pyramid": ("net_act1", "net_act2", "net_act3", "net_act4")},
        """
        def network(*, input_tensor):
            x = input_tensor
            for number, (width, stride) in enumerate(zip((8, 8, 8, 16), (4, 2, 2, 2)), 1):
                x = keras.layers.Conv2D(width, 3, strides=stride, padding="same", name=f"net_conv{number}")(x)
                x = keras.layers.ReLU(name=f"net_act{number}")(x)
            return x
        """,
    ),
    "promising": (
        "weights_can_be_had",
        "its licence is 'MIT', and no package gives its weights",
        {},
        "del weights",
    ),
    "unportable": (
        "converts_to_tflite",
        "Cannot convert|could not be converted|erfinv|Erfinv",
        {},
        """
        inner = network
        def network(*, input_tensor):
            return keras.ops.erfinv(keras.ops.tanh(inner(input_tensor=input_tensor)) * 0.5)
        """,
    ),
    "clinging": (
        "reloads_with_keras_alone",
        "network.keras does not load with Keras alone",
        {},
        """
        @keras.saving.register_keras_serializable("clinging")
        class Twice(keras.layers.Layer):
            def call(self, x):
                return x * 2.0
        inner = network
        def network(*, input_tensor):
            return Twice(name="block4_twice")(inner(input_tensor=input_tensor))
        """,
    ),
}
OF_WEIGHTS = {
    "lost": (
        "weights_fill_the_network",
        r"names the file .*nowhere\.weights\.h5, which is not there",
        {},
        """
        def weights():
            return "nowhere.weights.h5"
        """,
    ),
    "partial": (
        "weights_fill_the_network",
        r"the weights do not fit the backbone 'partial': .*not in it: 1 \(block1_conv\)",
        {},
        """
        whole = weights
        def weights():
            return {name: arrays for name, arrays in whole().items() if name != "block1_conv"}
        """,
    ),
    "too_many": (
        "weights_fill_the_network",
        r"unused: 1 \(block9_conv\)",
        {},
        """
        whole = weights
        def weights():
            return {**whole(), "block9_conv": [np.zeros((1, 1, 1, 1), "float32")]}
        """,
    ),
    "far_away": (
        "weights_fill_the_network",
        "the network was reached for",
        {},
        """
        def weights():
            import socket
            socket.create_connection(("example.org", 80))
        """,
    ),
    "drawn": (
        "weights_are_the_same_each_time",
        "asked twice, the package gave different weights",
        {},
        """
        whole = weights
        def weights():
            import os
            drawn = 1e-3 * os.urandom(1)[0] / 255 + 1e-6 * os.urandom(1)[0]
            return {name: [one + drawn for one in arrays] for name, arrays in whole().items()}
        """,
    ),
    "dead": (
        "weights_tell_images_apart",
        "two different photographs give the same features",
        {},
        """
        whole = weights
        def weights():
            return {name: [one * 0 for one in arrays] for name, arrays in whole().items()}
        """,
    ),
    "nobodys": (
        "licence_is_told",
        "the row of the backbone 'nobodys' says that there are no weights",
        {"licence": "no weights"},
        "",
    ),
}
VERB = """
import click
{above}
@click.command({arguments})
@click.option("--size", help={help!r})
def SPEC({parameters}):
    {body}
"""
RIGHT_VERB = {
    "above": "",
    "arguments": "",
    "help": "How large.",
    "parameters": "size",
    "body": '"""Tell the size."""',
}
OF_A_VERB = {
    "weighty": (
        "verb_is_light",
        "imports numpy; import them inside the command's body",
        {"above": "import numpy"},
    ),
    "mute": ("help_is_whole", "does not say what the verb does", {"body": "click.echo(size)"}),
    "silent": ("help_is_whole", "--size have no help text", {"help": None}),
    "marked": (
        "help_is_whole",
        r"`marked --help` shows '\\x08', which belongs to the source",
        {"body": '"""Tell the size: \\b marked --size 3"""'},
    ),
    "swallowing": (
        "wrong_use_is_said",
        "--no-such-option` does not end with exit code 2 and a message",
        {
            "arguments": 'context_settings={"ignore_unknown_options": True, "allow_extra_args": True}',
        },
    ),
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution with a backbone of this name, and its weights unless there are none."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def make(name, row, body, above=""):
        fields = {**ROW, **row}
        told = ", ".join(f"{field}={value!r}" for field, value in fields.items())
        source = (
            f"from keras_transfer.catalog import BackboneSpec\n{above}\n"
            f'SPEC = BackboneSpec(name={name!r}, constructor="kt_{name}_network:network", family="own", {told}, '
            'weights_file=None, paper="nobody 2026")\n'
        )
        distribution(tmp_path, f"kt-{name}", name, source, group=BACKBONES)
        text = NETWORK.format(widths=WIDTHS, strides=STRIDES, sizes=SIZES) + textwrap.dedent(body)
        (tmp_path / f"kt_{name}_network.py").write_text(text)
        if "del weights" not in body:
            with (tmp_path / f"kt_{name}-1.0.dist-info" / "entry_points.txt").open("a") as file:
                file.write(f"[{WEIGHTS}]\n{name} = kt_{name}_network:weights\n")
        return name

    return make


def marked(cases, slow=(), nightly=()):
    marks = {**dict.fromkeys(slow, pytest.mark.slow), **dict.fromkeys(nightly, pytest.mark.nightly)}
    return [pytest.param(name, marks=marks.get(name, ())) for name in cases]


@pytest.mark.parametrize("name", marked(OF_A_BACKBONE, slow=("unportable",), nightly=("clinging",)))
def test_a_wrong_backbone_fails_its_check_with_one_sentence(install, name):
    check, sentence, row, body, *above = OF_A_BACKBONE[name]
    kit = Kit(install(name, row, body, *above), kind="backbone")
    with pytest.raises(Broken, match=sentence):
        kit.check(check)


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_wrong_weights_fail_their_check_with_one_sentence(install, name):
    check, sentence, row, body = OF_WEIGHTS[name]
    kit = Kit(install(name, row, body), kind="weights")
    with pytest.raises(Broken, match=sentence):
        kit.check(check)


def test_weights_for_a_network_of_the_catalog_tell_their_licence_themselves(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "kt-mine", "resnet18", "def SPEC(): ...", group=WEIGHTS)
    kit = Kit("resnet18")
    assert kit.kinds == ["weights"]
    with pytest.raises(Broken, match="the package kt-mine states no licence"):
        kit.check("licence_is_told")
    with (tmp_path / "kt_mine-1.0.dist-info" / "METADATA").open("a") as file:
        file.write("License-Expression: MIT\n")
    kit.check("licence_is_told")


@pytest.mark.parametrize("name", OF_A_VERB)
def test_a_wrong_verb_fails_its_check_with_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(tmp_path))
    check, sentence, values = OF_A_VERB[name]
    distribution(tmp_path, f"kt-{name}", name, VERB.format(**{**RIGHT_VERB, **values}), group=COMMANDS)
    kit = Kit(name)
    assert kit.kinds == ["command"]
    with pytest.raises(Broken, match=sentence):
        kit.check(check)


@pytest.mark.slow
def test_a_right_verb_and_a_right_backbone_keep_all_promises(install, tmp_path):
    distribution(tmp_path, "kt-verb", "right", VERB.format(**RIGHT_VERB), group=COMMANDS)
    kit = Kit(install("right", {}, ""))
    assert kit.kinds == ["backbone", "weights", "command"]
    costly = ("converts_to_tflite", "reloads_with_keras_alone")  # of the tiny backbone, above
    for check in kit.checks:
        if check not in costly:
            kit.check(check)


def test_the_name_says_what_is_checked():
    assert kinds_of("tiny") == ["backbone", "weights"]
    assert kinds_of("classification") == ["task"] and kinds_of("segment") == ["command"]
    assert kinds_of("siamese") == ["task", "command"] and kinds_of("siamese", "command") == ["command"]
    assert kinds_of("nothing") == []
    names = [check for checks in CHECKS_OF.values() for check in checks]
    assert len(names) == len(set(names)) > len(CHECKS)


def test_what_cannot_be_checked_is_said(install):
    with pytest.raises(UsageError, match=r"There is no plugin 'tinny'\. Did you mean tiny"):
        Kit("tinny")
    with pytest.raises(UsageError, match="no kind of plugin 'network'"):
        Kit("tiny", kind="network")
    with pytest.raises(UsageError, match="There is no task 'tiny'"):
        Kit("tiny", kind="task")
    with pytest.raises(UsageError, match=r"settings: 'tiny' is no task \(backbone, weights\)\. Leave it out"):
        Kit("tiny", settings={"epochs": 2})
    with pytest.raises(UsageError, match="There is no check 'tflite_agrees'"):
        Kit("tiny", expected_failures={"tflite_agrees": "it is of tasks"})
    with pytest.raises(PluginError, match="is broken"):
        Kit(install("broken", {}, "", "raise RuntimeError('on import')"))


@pytest.mark.slow
def test_the_command_line_finds_out_what_it_is(install, monkeypatch):
    for check in ("converts_to_tflite", "reloads_with_keras_alone"):  # costly, and not what is tried here
        monkeypatch.setitem(CHECKS_OF["backbone"], check, lambda trial: None)
    name = install("half", {"licence": "no weights"}, "")
    shown = call("plugins", "check", name, code=1)[0]
    rows = [line.split() for line in shown.splitlines() if line.strip()]
    found = {row[1]: row[:1] + row[2:3] for row in rows if row[0] in ("backbone", "weights")}
    assert found["row_is_true"] == ["backbone", "passed"] and found["licence_is_told"] == [
        "weights",
        "failed",
    ]
    assert set(found) == {*CHECKS_OF["backbone"], *CHECKS_OF["weights"]}
