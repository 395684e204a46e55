"""The kit fails, with the right sentence, on every kind of wrong task, and passes on a right one."""

import json
import shutil
import textwrap

import numpy as np
import pytest
from helpers_plugins import distribution

from keras_transfer.errors import PluginError, UsageError
from keras_transfer.testing import CHECKS, Broken, Kit, conformance
from keras_transfer.testing.command import call
from keras_transfer.testing.samples import two_photographs

pytestmark = pytest.mark.slow

TINY = {"backbone": "tiny", "strategy": "probe"}

SPEC = """
from dataclasses import dataclass
from keras_transfer.options import option
from keras_transfer.tasks.base import TaskSpec

{extra}

@dataclass(frozen=True)
class Options:
    {options}

SPEC = TaskSpec(name="{name}", summary="One label per image, by its colours.",
                factory="{module}_task:Colours", options=Options, metrics={metrics},
                main_metric="accuracy", needs_backbone={backbone}, standalone={standalone},
                sample="keras_transfer.testing.samples:two_photographs")
"""

TASK = """
import keras
import numpy as np
from keras_transfer import load_data
from keras_transfer.data import batches
from keras_transfer.tasks.base import Fitted, OutputContract, Task

class Right(Task):
    def load_data(self, source, settings, seed, *, names=None):
        return load_data(source, seed=seed, classes=names, **vars(settings))

    def build(self, data, context):
        image = keras.Input((*context.preprocessing.size, 3))
        x = keras.layers.Rescaling(1 / 255)(image)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(len(data.classes), kernel_initializer="zeros", name="logits")(x)
        return keras.Model(image, keras.layers.Softmax()(x))

    def fit(self, model, data, context):
        rows = data.indices("train")
        pixels = np.concatenate(list(batches(data, context.preprocessing, indices=rows)))
        model.compile(keras.optimizers.SGD(20.0), "sparse_categorical_crossentropy")
        history = []
        for epoch in range(40):
            loss = model.train_on_batch(pixels.astype("float32"), data.labels[rows])
            history.append({"epoch": epoch, "loss": float(loss)})
        return Fitted(model, history=history)

    def evaluate(self, outputs, data):
        right = outputs.argmax(axis=1) == data.labels
        return {"images": len(right), "accuracy": float(right.mean())}

    def predict(self, outputs, names, top):
        return [{"label": names[int(row.argmax())]} for row in outputs]

    def output_contract(self, shape, data):
        return OutputContract("probabilities", (len(data.classes),), data.classes)

class Colours(Right):
    pass
"""

RIGHT = {
    "extra": "",
    "options": 'shade: float = option(0.5, "How dark.", maximum=1.0)',
    "metrics": '{"accuracy": "higher"}',
    "backbone": "False",
    "standalone": '""',
}

WRONG = {
    "heavy": ("spec_is_light", "imports numpy", {"extra": "import numpy"}, ""),
    "mute": ("options_round_trip", "--shade have no help text", {"options": "shade: float = 0.5"}, ""),
    "restless": (
        "data_are_read_alike",
        "two tables for the same data and seed",
        {},
        """
        count = 0
        def load_data(self, source, settings, seed, *, names=None):
            Colours.count += 1
            return super().load_data(source, settings, seed + Colours.count, names=names)
        """,
    ),
    "clumsy": (
        "bad_input_is_said",
        "raised FileNotFoundError",
        {},
        """
        def load_data(self, source, settings, seed, *, names=None):
            import os
            os.listdir(source)
            return super().load_data(source, settings, seed, names=names)
        """,
    ),
    "greedy": (
        "builds_offline",
        "the network was reached for",
        {},
        """
        def build(self, data, context):
            import socket
            socket.create_connection(("example.org", 80))
            return super().build(data, context)
        """,
    ),
    "exploding": (
        "training_is_finite",
        "a trained weight is not finite",
        {},
        """
        def fit(self, model, data, context):
            dense = model.get_layer("logits")
            dense.set_weights([np.full_like(weight, np.nan) for weight in dense.get_weights()])
            return Fitted(model)
        """,
    ),
    "thawing": (
        "frozen_weights_stay",
        "changed the backbone under --strategy probe",
        {"backbone": "True"},
        """
        def build(self, data, context):
            pooled = keras.layers.GlobalAveragePooling2D()(context.backbone.output)
            outputs = keras.layers.Dense(len(data.classes), activation="softmax", name="logits")(pooled)
            return keras.Model(context.backbone.inputs, outputs)
        def fit(self, model, data, context):
            for layer in model.layers:
                layer.set_weights([weight * 1.01 for weight in layer.get_weights()])
            return Fitted(model)
        """,
    ),
    "upside_down": (
        "metrics_are_as_declared",
        "the direction is wrong",
        {"metrics": '{"accuracy": "lower"}'},
        "",
    ),
    "random": (
        "same_seed_same_result",
        "gave different weights",
        {},
        """
        def fit(self, model, data, context):
            import os
            super().fit(model, data, context)
            dense = model.get_layer("logits")
            noise = np.random.default_rng(int.from_bytes(os.urandom(8), "big"))
            dense.set_weights([weight + noise.normal(0, 1e-3, weight.shape) for weight in dense.get_weights()])
            return Fitted(model)
        """,
    ),
    "numpy": (
        "predictions_are_json",
        "predict holds 'probability', which JSON cannot hold",
        {},
        """
        def predict(self, outputs, names, top):
            return [{"probability": row.max()} for row in outputs]
        """,
    ),
    "misnamed": (
        "output_contract_fits",
        "output_contract says 1 names",
        {},
        """
        def output_contract(self, shape, data):
            return OutputContract("probabilities", (2,), ("one",))
        """,
    ),
    "absent_minded": (
        "nothing_is_remembered",
        "predict of a new task answers otherwise than of one that was asked before",
        {},
        """
        found = None
        def evaluate(self, outputs, data):
            self.found = super().evaluate(outputs, data)
            return self.found
        def predict(self, outputs, names, top):
            return [{"label": names[0], "known": self.found is not None} for row in outputs]
        """,
    ),
    "two_faced": (
        "nothing_is_remembered",
        r"score says that accuracy is 0.0, and evaluate",
        {},
        """
        def score(self, outputs, data, metric):
            return 0.0
        """,
    ),
    "clinging": (
        "answers_alike_in_a_fresh_process",
        "does not load with Keras alone",
        {},
        """
        def build(self, data, context):
            model = super().build(data, context)
            return keras.Model(model.input, Twice()(model.output))

    @keras.saving.register_keras_serializable("clinging")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return x * 1.0
        """,
    ),
    "unportable": (
        "tflite_agrees",
        "Cannot convert",
        {},
        """
        def build(self, data, context):
            model = super().build(data, context)
            return keras.Model(model.input, keras.ops.erfinv(model.output * 0.5) * 2)
        """,
    ),
    "empty_handed": (
        "the_bundle_is_proven",
        "standalone script is 'kt_nowhere.tell'",
        {"standalone": '"kt_nowhere.tell"'},
        "",
    ),
    "boastful": (
        "the_plan_is_told",
        "training_plan says 'full', and the training followed 'probe'",
        {},
        """
        def training_plan(self, model, data, context):
            from keras_transfer.tasks.base import TrainingPlan
            phase = {"epoch": 0, "rule": "all", "parameters": 9, "trainable": 9, "blocks": []}
            return TrainingPlan("full", "it sounds better", [phase])
        def fit(self, model, data, context):
            return Fitted(model, {"strategy": "probe"}, super().fit(model, data, context).history)
        """,
    ),
    "sketchy": (
        "the_plan_is_told",
        r"training_plan gave a phase without parameters, trainable, blocks",
        {},
        """
        def training_plan(self, model, data, context):
            from keras_transfer.tasks.base import TrainingPlan
            return TrainingPlan("probe", "it is quick", [{"epoch": 0, "rule": "none"}])
        """,
    ),
    "scribbling": (
        "the_plan_is_told",
        r"training_plan gave a dict .*; a TrainingPlan, or None, is expected",
        {},
        """
        def training_plan(self, model, data, context):
            return {"strategy": "full"}
        """,
    ),
    "indecisive": (
        "decisions_fit",
        r"decide gave something of the shape \(1,\) for \d+ images; one decision per image",
        {},
        """
        def decide(self, outputs):
            return [outputs[0].argmax()]
        """,
    ),
    "fickle": (
        "decisions_fit",
        "decide gave two decisions for the same outputs",
        {},
        """
        asked = 0
        def decide(self, outputs):
            Colours.asked += 1
            return (outputs.argmax(axis=1) + Colours.asked) % 2
        """,
    ),
    "opaque": (
        "it_is_explained_or_refused",
        "`explain` ended in .*no way back",
        {},
        """
        def build(self, data, context):
            model = super().build(data, context)
            pooled = OneWay()(model.layers[-3].output)
            dense = keras.layers.Dense(len(data.classes), kernel_initializer="zeros", name="logits")
            return keras.Model(model.input, keras.layers.Softmax()(dense(pooled)))

    @keras.saving.register_keras_serializable("opaque")
    class OneWay(keras.layers.Layer):
        def call(self, x):
            def forward(x):
                def backward(*arguments, upstream=None):
                    raise ValueError("no way back")
                return x * 1.0, backward
            return keras.ops.custom_gradient(forward)(x)
        """,
    ),
    "deaf": (
        "the_bundle_is_proven",
        "kt_deaf.py --self-test` of the bundle does not end with 'passed'",
        {"standalone": '"kt_deaf"'},  # a module that does nothing when it is run
        "",
    ),
}

CARELESS = """
import pathlib
import click

@click.command()
@click.argument("image")
@click.option("--output")
def scribble(image, output):
    pathlib.Path(output, pathlib.Path(image).name).write_text("mine now")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution with a task of this name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, spec, body):
        module = f"kt_{name}"
        source = SPEC.format(name=name, module=module, **{**RIGHT, **spec})
        distribution(tmp_path, f"kt-{name}", name, source)
        body = textwrap.indent(textwrap.dedent(body), "    ").replace("\n    \n", "\n")
        outside = body.split("\n    @keras.saving", 1) if "@keras.saving" in body else [body]
        text = TASK.rstrip().removesuffix("pass") + (outside[0].lstrip() or "pass") + "\n"
        if len(outside) > 1:
            text += textwrap.dedent("    @keras.saving" + outside[1])
        (tmp_path / f"{module}_task.py").write_text(text)
        return name

    return make


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.nightly if name == "clinging" else ()) for name in WRONG],
)
def test_a_wrong_task_fails_its_check_with_the_right_sentence(install, name):
    check, sentence, spec, body = WRONG[name]
    kit = Kit(install(name, spec, body), settings=TINY)
    with pytest.raises(Broken, match=sentence):
        kit.check(check)


def test_a_verb_that_replaces_a_photo_is_found(install, tmp_path):
    name = install("careless", {}, "")
    (tmp_path / "kt_scribble.py").write_text(CARELESS)
    with (tmp_path / "kt_careless-1.0.dist-info" / "entry_points.txt").open("a") as file:
        file.write("[keras_transfer.commands]\nscribble = kt_scribble:scribble\n")
    with pytest.raises(Broken, match=r"`scribble --output` .*replaced 0.png|ended in"):
        Kit(name, settings=TINY).check("nothing_is_overwritten")


@pytest.mark.nightly
def test_a_right_task_keeps_all_promises(install):
    results = list(Kit(install("right", {}, "")).results())
    assert [(one.check, one.state, one.reason) for one in results] == [
        (name, "passed", "") for name in CHECKS
    ]


def test_decisions_may_be_a_list(install):
    """From the export on: what the formats must agree on, and what the bundle tells of it."""
    name = install(
        "listing",
        {},
        """
        def decide(self, outputs):
            return [int(row.argmax()) for row in outputs]
        """,
    )
    kit = Kit(name, settings=TINY)
    for check in ("decisions_fit", "the_bundle_is_proven"):
        kit.check(check)
    report, folder = kit.trials["task"].bundle
    assert [one["agreement"] for one in report.to_dict()["artefacts"]] == [1.0]
    assert json.loads((folder / "bundle.json").read_text())["artefacts"][0]["agreement"] == 1.0


def test_an_expected_failure_is_expected_and_a_kept_promise_is_not(install):
    name = install("known", *WRONG["numpy"][2:])
    kit = Kit(
        name,
        expected_failures={"predictions_are_json": "a float of NumPy", "output_contract_fits": "it is not"},
    )
    states = {}
    for one in kit.results():  # each as soon as it is known: the costly ones that follow are not asked for
        states[one.check] = one
        if kit.expected_failures.keys() <= states.keys():
            break
    assert states["predictions_are_json"].state == "expected"
    assert (
        states["output_contract_fits"].state == "failed"
        and "remove its name" in states["output_contract_fits"].reason
    )


def test_one_cause_is_told_once_and_with_its_place(install):
    name = install(
        "failing",
        {},
        """
        def fit(self, model, data, context):
            raise ZeroDivisionError("nothing to divide by")
        """,
    )
    results = json.loads(call("plugins", "check", name, "--backbone", "tiny", "--json", code=1)[0])
    failed = {one["check"]: one["reason"] for one in results if one["state"] == "failed"}
    traces = [one["traceback"] for one in results if one["traceback"]]
    assert len(traces) == 1 and traces[0].endswith("ZeroDivisionError: nothing to divide by\n")
    told = [reason for reason in failed.values() if "nothing to divide by" in reason]
    assert len(told) == 1 and "kt_failing_task.py, line " in told[0] and "in fit)" in told[0]
    others = [reason for reason in failed.values() if reason == "for the same reason as training_is_finite."]
    assert len(others) >= 5


def test_the_decorator_makes_a_strict_test_of_every_check():
    @conformance("anything", expected_failures={"tflite_agrees": "no converter for it"})
    def test(check):
        check()

    (mark,) = test.pytestmark
    assert [case.id for case in mark.args[1]] == list(CHECKS)
    marked = {case.id: case.marks for case in mark.args[1] if case.marks}
    assert list(marked) == ["tflite_agrees"]
    (expected,) = marked["tflite_agrees"]
    assert expected.kwargs == {"strict": True, "raises": Broken, "reason": "no converter for it"}


def test_what_cannot_be_checked_is_said():
    with pytest.raises(UsageError, match="tflite_agrees"):
        Kit("classification", expected_failures={"tflite_agreed": "?"})
    with pytest.raises(UsageError, match="classification"):
        Kit("clasification")
    with pytest.raises(UsageError, match="spec_is_light"):
        Kit("classification").check("spec_is_ligt")


def test_a_task_without_sample_asks_for_data(install, monkeypatch):
    name = install("plain", {}, "")
    kit = Kit(name)
    object.__setattr__(kit.trials["task"].spec, "sample", "")
    with pytest.raises(Broken, match="names no sample"):
        kit.check("data_are_read_alike")
    Kit(name, data=two_photographs).check("data_are_read_alike")


@pytest.mark.nightly
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_the_built_in_tasks_keep_their_promises_with_a_probe(task):
    """All but those in another process: ``tests/tasks/test_tasks_with_keras_alone.py`` has one for all three."""
    kit = Kit(task, settings=TINY)
    for name in CHECKS:
        if name != "answers_alike_in_a_fresh_process":
            kit.check(name)


@pytest.mark.nightly
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_the_built_in_tasks_keep_their_promises(task):
    failed = {one.check: one.reason for one in Kit(task).results() if one.state != "passed"}
    assert failed == {}


def test_using_a_task_that_vanished_says_so(install, tmp_path):
    kit = Kit(install("gone", {}, ""))
    run = kit.trials["task"].run
    shutil.rmtree(tmp_path / "kt_gone-1.0.dist-info")
    from keras_transfer.workflow.evaluate import evaluate

    with pytest.raises(PluginError, match=r"task 'gone' of kt-gone 1\.0, which is not installed"):
        evaluate(run)
    assert np.isfinite(run.load_model().get_weights()[0]).all()
