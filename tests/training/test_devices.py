"""Several devices: the same losses as one, the same promises, and a sentence for what cannot be had."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_transfer.device_choice import DeviceChoice, read_devices
from keras_transfer.errors import UsageError
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.base import TaskSpec
from keras_transfer.tasks.checked import refuse_ignored
from keras_transfer.testing.command import call
from keras_transfer.training.devices import Devices, prepare_devices

NORMS = {f"block{block}_bn/{name}" for block in (2, 3) for name in ("moving_mean", "moving_variance")}


@pytest.fixture(scope="module")
def came_out(photo_folder, tmp_path_factory):
    """What ``worker_devices.py`` found."""
    output = tmp_path_factory.mktemp("devices") / "found.json"
    worker = Path(__file__).with_name("worker_devices.py")
    done = subprocess.run([sys.executable, worker, photo_folder, output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "norms", "everything", "bfloat16"])
def test_three_devices_have_the_losses_of_one(came_out, case):
    """With batches of 7 and 4 images, and of 1 for validation: less than there are devices."""
    one, three = came_out[case]
    assert (one["count"], three["count"]) == (1, 3)
    assert len(one["history"]) == 3
    for row, its_row in zip(one["history"], three["history"], strict=True):
        assert row.keys() == its_row.keys()
        np.testing.assert_allclose(list(row.values()), list(its_row.values()), atol=1e-4)
    assert one["best"] == three["best"]
    losses = [row["loss"] for row in one["history"][1:]]
    assert abs(losses[0] - losses[1]) > 3e-3, "nothing was learned, so equality would prove nothing"


@pytest.mark.slow
def test_each_device_computes(came_out):
    assert came_out["used"] == ["CPU:0", "CPU:1", "CPU:2"]


@pytest.mark.slow
def test_what_is_frozen_is_bit_identical_on_several_devices(came_out):
    one, three = came_out["plain"]
    assert three["changed"] == one["changed"]
    assert {path.split("/")[0] for path in three["changed"]} == {"block2_conv", "block3_conv", "logits"}
    assert {path for path in came_out["norms"][1]["changed"] if "moving" in path} == NORMS


@pytest.mark.slow
def test_normalization_that_learns_sees_the_whole_batch(came_out):
    one, three = (case["weights"] for case in came_out["norms"])
    for path in NORMS:
        np.testing.assert_allclose(three[path], one[path], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_an_interrupted_training_on_several_devices_ends_with_the_same_weights(came_out):
    whole, parts = came_out["interrupted"]
    assert (whole["resumed"], parts["resumed"]) == (0, 2)
    assert parts["history"] == whole["history"]
    assert parts["hash"] == whole["hash"]


@pytest.mark.slow
def test_a_loss_that_compares_images_compares_those_of_other_devices_too(came_out):
    one, three = came_out["comparing"]
    np.testing.assert_allclose(three, one, atol=1e-5)


@pytest.mark.slow
def test_a_run_says_what_computed(photo_folder, tmp_path):
    command = [
        *(sys.executable, "-m", "keras_transfer", "train", photo_folder, "--output", tmp_path / "run"),
        *(
            "--backbone",
            "tiny",
            "--image-size",
            "32",
            "--engine",
            "keras",
            "--strategy",
            "full",
            "--epochs",
            "1",
        ),
        *("--devices", "cpu:2", "--json", "--quiet"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    info = json.loads(done.stdout)
    assert info["training"]["gradient"]["devices"] == {"count": 2, "names": ["CPU:0", "CPU:1"]}
    assert info["request"]["settings"]["devices"] == "cpu:2"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("1", DeviceChoice(1)),
        ("4", DeviceChoice(4)),
        ("auto", DeviceChoice(None)),
        ("cpu:3", DeviceChoice(3, True)),
    ],
)
def test_what_can_be_asked_for(text, choice):
    assert read_devices(text) == choice


@pytest.mark.parametrize("text", ["0", "-1", "two", "cpu:1", "cpu:0", "cpu", "gpu:2", "1.5", "²", ""])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError) as error:
        read_devices(text)
    assert str(error.value) == (
        f"--devices {text} was given; a number of at least 1 is expected, auto (all accelerators there are), or "
        "cpu:N with N of at least 2 (the processor in N parts, to try it out)."
    )


def test_the_command_line_refuses_them_before_it_reads_anything(tmp_path):
    said = call("train", tmp_path / "nowhere", "--output", tmp_path / "run", "--devices", "0", code=2)[1]
    assert said.startswith("Error: --devices 0 was given; a number of at least 1 is expected, auto")


@pytest.mark.parametrize(
    ("there", "told"), [(0, "no accelerator"), (1, "1 (GPU:0)"), (2, "2 (GPU:0, GPU:1)")]
)
def test_more_devices_than_there_are_is_refused_with_what_there_is(monkeypatch, there, told):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [None] * there)
    with pytest.raises(UsageError) as error:
        prepare_devices("3")
    assert str(error.value) == (
        f"--devices 3 was given, and TensorFlow finds {told} here. Give at most that many, or --devices cpu:3 to try "
        "it out on the processor."
    )


def test_auto_takes_what_there_is(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert prepare_devices("auto") == Devices(("CPU:0",))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [None])
    assert prepare_devices("auto") == prepare_devices("1") == Devices(("GPU:0",))


def test_a_processor_that_computes_already_is_not_divided():
    assert float(tf.constant(1.0) + 1) == 2
    there = len(tf.config.list_logical_devices("CPU"))
    with pytest.raises(UsageError) as error:
        prepare_devices(f"cpu:{there + 1}")
    assert str(error.value) == (
        f"--devices cpu:{there + 1} was given, and TensorFlow already computes on {there} here. Ask for it before "
        "anything else is computed in this process."
    )


def test_a_task_that_trains_in_its_own_way_refuses_several_devices():
    spec = TaskSpec("own", "", "nowhere:Task", {"accuracy": "higher"}, "accuracy")
    with pytest.raises(UsageError) as error:
        refuse_ignored(spec, TrainSettings.of(devices="2"))
    assert str(error.value) == "--devices 2 was given, and the task own does not follow it. Leave it out."


@pytest.mark.slow
def test_a_probe_says_that_devices_do_nothing(photo_folder, tmp_path):
    command = (
        "train",
        photo_folder,
        "--output",
        tmp_path / "run",
        "--backbone",
        "tiny",
        "--image-size",
        "32",
    )
    said = call(*command, "--engine", "keras", "--strategy", "probe", "--devices", "auto")[1]
    assert "Warning: --devices: for training by gradients. Only the head is fitted here" in said


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            '{"cluster": {"chief": ["a:2000"], "worker": ["b:2000"]}, "task": {"type": "chief"}}',
            r"TF_CONFIG names a cluster of 2 hosts \(a:2000, b:2000\)\. A training runs on one host",
        ),
        ("{", "TF_CONFIG is set and is not what TensorFlow expects"),
        ("[]", "TF_CONFIG is set and is not what TensorFlow expects"),
    ],
)
def test_a_cluster_of_hosts_is_refused(value, sentence, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(UsageError, match=sentence):
        prepare_devices("1")


def test_one_host_is_no_cluster(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"worker": ["a:2000"]}, "task": {"type": "worker", "index": 0}}'
    )
    assert prepare_devices("1").count == 1
