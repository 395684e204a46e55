"""A target from a package: found by its entry point, and refused with the reason where something is wrong."""

import json

import pytest
from helpers_plugins import distribution

from keras_transfer.errors import PluginError
from keras_transfer.export.targets.specs import TARGETS, target_spec
from keras_transfer.testing.command import call


def test_a_plugin_brings_a_target_and_a_wrong_one_says_why(tmp_path, monkeypatch):
    code = "from keras_transfer.export.targets.rules import Rules\n"
    code += "from keras_transfer.export.targets.specs import TargetSpec\n"
    code += "SPEC = TargetSpec('hut', 'A hut.', {precisions}, Rules(operators={{}}))\n"
    for name, precisions in (("hut", "('int8',)"), ("barn", "('int8',)"), ("shed", "('int7',)")):
        text = code.format(precisions=precisions).replace("'hut'", "'hut'" if name != "shed" else "'shed'")
        distribution(tmp_path, f"kt-{name}", name, text, group=TARGETS.group)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert target_spec("hut").summary == "A hut."
    with pytest.raises(PluginError, match="it is called 'hut' and its entry point 'barn'"):
        target_spec("barn")
    with pytest.raises(PluginError, match="its precisions are int7; known are float32"):
        target_spec("shed")
    states = {one["name"]: one["state"] for one in json.loads(call("targets", "--json")[0])}
    assert (states["hut"], states["barn"], states["shed"]) == ("ok", "broken", "broken")
    assert states["litert"] == "ok"
