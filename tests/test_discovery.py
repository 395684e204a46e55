"""Discovery: hand-made distributions of every broken kind, and a command line that survives each."""

import os
import subprocess
import sys
import textwrap

import pytest
from helpers_plugins import distribution

from keras_transfer.backbone_specs import BACKBONES, WEIGHTS
from keras_transfer.cli.commands import COMMANDS
from keras_transfer.discovery import entries, statuses
from keras_transfer.errors import PluginError, UsageError
from keras_transfer.tasks.specs import TASKS, task_spec

PLUGINS = ("segmentation", "gan", "siamese")
"""Tasks of plugins in this repository, which may be installed."""
GOOD = """
from keras_transfer.tasks.base import TaskSpec
print("noise at import")
SPEC = TaskSpec(name="{name}", summary="A good one.", factory="{module}:Task", metrics={{"score": "higher"}},
                main_metric="score", contract={contract})
"""


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
    ours = ("keras-transfer", "kt-")  # plugins of this repository may be installed, too
    found = {
        status.entry.distribution: status
        for status in statuses(TASKS)
        if status.entry.distribution == ours[0] or status.entry.distribution.startswith(ours[1])
    }
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
        task_spec(name)


def test_listing_entries_imports_nothing(site):
    before = set(sys.modules)
    assert len([one for one in entries(TASKS) if one.name not in PLUGINS]) == 14
    assert not [name for name in set(sys.modules) - before if name.startswith("kt_")]


def test_an_unknown_task_names_the_known_ones(site):
    with pytest.raises(UsageError, match="classification"):
        task_spec("clasification")


def test_the_environment_restricts_plugins_but_never_the_built_in_task(site, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_PLUGINS", "good, syntax")
    assert [entry.name for entry in entries(TASKS)] == [
        "classification",
        "good",
        "multilabel",
        "regression",
        "syntax",
    ]


@pytest.mark.slow
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


VERB = """
import click
@click.command()
@click.argument("name")
def greet(name):
    "Say hello."
    from keras_transfer.errors import UsageError
    if name == "nobody":
        raise UsageError("nobody was given; a name is expected.")
    click.echo(f"hello {name}")
"""

ROW = """
from keras_transfer.catalog import BackboneSpec
SPEC = BackboneSpec(name="{name}", constructor="{module}_net:layers", family="stranger", feature_dim=8, params=224,
                    default_size=32, min_size=8, input_mode="unit", pyramid=("c", "c", "c", "c"), weights_file=None,
                    paper="Stranger 2026", licence="MIT")
"""

NET = """
import keras
def layers(input_tensor):
    return keras.layers.Conv2D(8, 3, strides=4, name="c")(input_tensor)
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Verbs, a backbone and weights, good ones and wrong ones."""
    verbs, rows = "keras_transfer.commands", "keras_transfer.backbones"
    distribution(tmp_path, "kt-greet", "greet", VERB, value="kt_greet:greet", group=verbs)
    distribution(tmp_path, "kt-verb-exits", "leave", "import sys; sys.exit(3)", group=verbs)
    distribution(tmp_path, "kt-verb-wrong", "wrongverb", "SPEC = print", group=verbs)
    distribution(tmp_path, "kt-verb-train", "train", VERB, value="kt_verb_train:greet", group=verbs)
    distribution(tmp_path, "kt-net", "tiny_net", ROW.format(name="tiny_net", module="kt_net"), group=rows)
    (tmp_path / "kt_net_net.py").write_text(NET)
    distribution(tmp_path, "kt-alias", "alias", ROW.format(name="other", module="kt_net"), group=rows)
    distribution(tmp_path, "kt-alike", "vgg-16", ROW.format(name="vgg-16", module="kt_net"), group=rows)
    distribution(tmp_path, "kt-vgg", "vgg16", ROW.format(name="vgg16", module="kt_net"), group=rows)
    distribution(tmp_path, "kt-row", "norow", "SPEC = 1", group=rows)
    weights = "keras_transfer.weights"
    distribution(
        tmp_path, "kt-weights", "tiny_net", "def give(): return {}", value="kt_weights:give", group=weights
    )
    distribution(tmp_path, "kt-lost", "vgg19", "", value="not_there_at_all:give", group=weights)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_every_kind_of_thing_a_plugin_brings_has_a_state(strangers):
    found = {
        status.entry.distribution: status
        for point in (TASKS, COMMANDS, BACKBONES, WEIGHTS)
        for status in statuses(point)
        if status.entry.distribution.startswith("kt-")
    }
    assert {name: status.state for name, status in found.items()} == {
        "kt-greet": "ok",
        "kt-verb-exits": "broken",
        "kt-verb-wrong": "broken",
        "kt-verb-train": "duplicate",
        "kt-net": "ok",
        "kt-alias": "broken",
        "kt-vgg": "duplicate",
        "kt-alike": "duplicate",
        "kt-row": "broken",
        "kt-weights": "ok",
        "kt-lost": "broken",
    }
    assert found["kt-greet"].to_dict()["state"] == "ok" and found["kt-greet"].summary == "Say hello."
    assert "not a click.Command" in found["kt-verb-wrong"].reason
    assert "'other'" in found["kt-alias"].reason and "not_there_at_all" in found["kt-lost"].reason


@pytest.mark.slow
def test_verbs_of_plugins_are_listed_run_and_survived(strangers):
    environment = {**os.environ, "PYTHONPATH": f"{strangers}{os.pathsep}{os.environ['PYTHONPATH']}"}

    def call(*arguments, code=0):
        command = [sys.executable, "-m", "keras_transfer", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    environment["_KERAS_TRANSFER_COMPLETE"] = "bash_complete"
    environment.update(COMP_WORDS="keras-transfer ", COMP_CWORD="1")
    offered = call()
    assert (
        "plain,greet" in offered and "plain,leave" in offered
    )  # the broken one, too, without being imported
    for name in ("_KERAS_TRANSFER_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
        del environment[name]
    listed = call("--help")
    assert "From kt-greet 1.0." in listed and "From kt-verb-exits 1.0." in listed
    assert "kt-verb-train" not in listed  # the core's own verb stays what it is
    assert call("greet", "world") == "hello world\n"
    assert "a name is expected" in call("greet", "nobody", code=2)
    assert "SystemExit: 3" in call("leave", code=1)
    assert "not a click.Command" in call("wrongverb", code=1)
    assert "Did you mean" in call("gret", code=2) and "greet" in call("gret", code=2)
    assert "tiny_net" in call("backbones") and "Stranger 2026" in call("backbones", "tiny-net")
    assert "not a BackboneSpec" in call("backbones", "norow", code=1)


def test_listing_verbs_and_backbones_imports_no_plugin(strangers):
    before = set(sys.modules)
    assert {"greet", "leave", "wrongverb"} <= {entry.name for entry in entries(COMMANDS)}
    assert not [name for name in set(sys.modules) - before if name.startswith("kt_")]


def test_a_backbone_of_a_plugin_is_built_like_any_other(strangers):
    from keras_transfer.backbone_specs import get_spec
    from keras_transfer.backbones import load_backbone

    assert get_spec("Tiny-Net").feature_dim == 8
    model = load_backbone("tiny_net", weights="none", image_size=32)
    assert model.output_shape == (None, 8, 8, 8) and model.count_params() == 224
    assert get_spec("vgg16").family == "vgg"
    with pytest.raises(PluginError, match="give both one name"):
        get_spec("alias")
    with pytest.raises(UsageError, match="tiny_net"):
        get_spec("tiny_ned")


@pytest.mark.slow
def test_a_slow_plugin_slows_nobody_who_does_not_use_it(tmp_path):
    """Importing it leaves a trace: help, lists and other tasks leave none, using it does."""
    trace = tmp_path / "imported"
    noise = f"import pathlib; pathlib.Path({str(trace)!r}).touch()\n"
    good = GOOD.format(name="slow", module="kt_slow", contract=1)
    distribution(tmp_path, "kt-slow", "slow", noise + textwrap.dedent(good))
    verbs, rows = "keras_transfer.commands", "keras_transfer.backbones"
    distribution(
        tmp_path, "kt-crawl", "crawl", noise + textwrap.dedent(VERB), value="kt_crawl:greet", group=verbs
    )
    row = ROW.format(name="heavy_net", module="kt_heavy_net")
    distribution(tmp_path, "kt-heavy-net", "heavy_net", noise + textwrap.dedent(row), group=rows)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"}

    def call(*arguments):
        command = [sys.executable, "-m", "keras_transfer", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for arguments in (
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["backbones", "vgg16"],
        ["cache", "ls"],
    ):
        call(*arguments)
        assert not trace.exists(), arguments
    for arguments in (["train", "--task", "slow", "--help"], ["crawl", "--help"], ["backbones", "heavy_net"]):
        call(*arguments)
        assert trace.exists(), arguments
        trace.unlink()


def test_a_factory_that_is_not_there_is_said(tmp_path, monkeypatch):
    """Its module when tasks are listed, which imports nothing heavy; its class when the task is used."""
    from keras_transfer.tasks.loading import load_task

    for name, module in (("hollow", "kt_nowhere"), ("half", "kt_half")):
        source = GOOD.format(name=name, module=module, contract=1)
        distribution(tmp_path, f"kt-{name}", name, source)
    monkeypatch.syspath_prepend(str(tmp_path))
    states = {one.entry.name: one for one in statuses(TASKS)}
    assert (states["hollow"].state, states["half"].state) == ("broken", "ok")
    assert states["hollow"].reason == "its factory is 'kt_nowhere:Task': there is no such module."
    with pytest.raises(PluginError, match=r"cannot be loaded from kt_half:Task: AttributeError"):
        load_task("half")


def test_the_core_keeps_the_names_of_its_tasks(tmp_path, monkeypatch):
    source = GOOD.format(name="classification", module="kt_usurper", contract=1)
    distribution(tmp_path, "kt-usurper", "classification", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    states = {one.entry.distribution: one for one in statuses(TASKS) if one.entry.name == "classification"}
    assert {name: state.state for name, state in states.items()} == {
        "keras-transfer": "ok",
        "kt-usurper": "duplicate",
    }
    assert states["kt-usurper"].reason == "keras-transfer has a task 'classification' of its own."
    assert task_spec("classification").summary != "A good one."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name="{name}"', 'name="another"'), "it is called 'another' and its entry point"),
        (("contract=", "options=Far, contract="), r"its options' defaults are refused .*at most 1"),
    ],
)
def test_a_spec_that_cannot_be_used_is_not_ok(tmp_path, monkeypatch, change, words):
    name = f"lying_{len(words)}"
    head = (
        "from dataclasses import dataclass\nfrom keras_transfer.options import option\n"
        "@dataclass(frozen=True)\nclass Far:\n    shade: float = option(2.0, 'How dark.', maximum=1.0)\n"
    )
    source = GOOD.replace(*change).format(name=name, module=f"kt_{name}", contract=1)
    distribution(tmp_path, f"kt-{name}", name, head + source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=words):
        task_spec(name)


@pytest.mark.parametrize(
    ("row", "net", "words"),
    [
        (("feature_dim=8", "feature_dim=9"), NET, r"feature_dim 9, and it is 8"),
        (("params=224", "params=225"), NET, r"params 225, and it is 224"),
        (('"c", "c", "c", "c"', '"c", "c", "c", "d"'), NET, r"pyramid \('c', 'c', 'c', 'd'\), and it is"),
        (("", ""), "def layers(input_tensor):\n    pass\n", "gave a NoneType; the feature map"),
        (
            ("", ""),
            "def layers(include_top, weights, input_tensor, input_shape):\n    pass\n",
            "a Keras model is",
        ),
    ],
)
def test_a_backbone_that_is_not_what_it_says_is_refused(tmp_path, monkeypatch, row, net, words):
    from keras_transfer.backbones import load_backbone

    name = f"false_net_{len(words)}"
    text = ROW.replace(*row) if row[0] else ROW
    distribution(
        tmp_path,
        f"kt-{name}",
        name,
        text.format(name=name, module=f"kt_{name}"),
        group="keras_transfer.backbones",
    )
    (tmp_path / f"kt_{name}_net.py").write_text(net)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=words):
        load_backbone(name, weights="none", image_size=32)


@pytest.mark.parametrize(
    ("metrics", "main", "words"),
    [
        ('{"precision": "higher"}', "precision", "reports use themselves: precision"),
        ('{"score": "upward"}', "score", "do not fit each other"),
        ('{"score": "higher"}', "value", "do not fit each other"),
    ],
)
def test_metrics_that_cannot_be_reported_break_a_task(tmp_path, monkeypatch, metrics, main, words):
    name = f"odd_{main}_{len(metrics)}"  # modules are imported once
    source = GOOD.format(name=name, module=f"kt_{name}", contract=1)
    source = source.replace('{"score": "higher"}', metrics).replace(
        'main_metric="score"', f'main_metric="{main}"'
    )
    distribution(tmp_path, f"kt-{name}", name, source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=words):
        task_spec(name)


def test_weights_of_a_plugin_that_is_left_out_are_not_asked(strangers, monkeypatch):
    from keras_transfer.backbones.weights import find_provider

    assert find_provider("tiny_net")[0] == "the package kt-weights"
    monkeypatch.setenv("KERAS_TRANSFER_PLUGINS", "greet")
    assert find_provider("tiny_net") is None
