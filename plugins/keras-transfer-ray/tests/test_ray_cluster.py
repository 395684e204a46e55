"""On a cluster of two nodes on this machine: the answers of one machine bit for bit, whoever is killed meanwhile."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers_ray import DATA, TINY, same_bits, shards, small_shards, with_bad_files
from keras_transfer_ray.checking import check
from keras_transfer_ray.cluster import import_ray
from keras_transfer_ray.features import features
from keras_transfer_ray.predicting import predict

import keras_transfer

pytestmark = pytest.mark.slow
PATIENCE = 240.0
"""Seconds that anything may take on a busy machine."""


class TwoNodes:
    """Two nodes of one CPU each, on the loopback address. The second can be removed, and comes back for others."""

    def __init__(self):
        self.ray = import_ray("local")
        from ray.cluster_utils import Cluster

        self.settings = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=self.settings)
        self.second = None
        self.complete()

    def complete(self):
        """Both nodes are there."""
        if self.second is None:
            self.second = self.cluster.add_node(**self.settings)
            self.cluster.wait_for_nodes(timeout=PATIENCE)

    def remove_second(self):
        """The second node dies, with everything on it."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None

    def workers(self):
        """Process ids of the actors that work, by the node they are on."""
        nodes = [node for node in (self.cluster.head_node, self.second) if node is not None]
        raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if name.startswith(b"ray::MapWorker") and parent in raylets:
                    found.append(int(entry.name))
        return found

    def settings_for(self, **values):
        """Settings of a driver that joins it."""
        return small_shards(address=self.cluster.address, **values)


@pytest.fixture(scope="module")
def two_nodes():
    found = TwoNodes()
    yield found
    found.ray.shutdown()
    found.cluster.shutdown()


@pytest.fixture(scope="module", params=[150, pytest.param(1000, marks=pytest.mark.nightly)])
def count(request):
    """Images a class."""
    return request.param


@pytest.fixture(scope="module")
def many(shared, photos, count):
    """Some hundred images, two of them bad; and what one machine makes of them."""
    from keras_transfer_tests.images import write_crops

    def make(folder):
        for seed, (name, photo) in enumerate(photos.items()):
            write_crops(folder / "good" / name, photo, count, seed)
        with_bad_files(folder / "good", folder / "photos")

    return shared(f"ray_many_{count}", make) / "photos"


@pytest.fixture(scope="module")
def alone(many, tmp_path_factory):
    """The table and the features of one machine."""
    from keras_transfer.workflow.features import save_features

    return save_features(
        many, tmp_path_factory.mktemp("alone") / "one.npz", model=TINY, data=DATA, engine="litert"
    )


def when_there_are(folder, number, act):
    """Do something as soon as so many shards are there; gives a thread, whose ``there`` is how many there were."""

    def wait():
        until = time.monotonic() + PATIENCE
        while len(shards(folder)) < number:
            if time.monotonic() > until:
                return
            time.sleep(0.005)
        thread.there = len(shards(folder))
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.there = None
    thread.start()
    return thread


@pytest.mark.nightly  # with more to go wrong: the next test
def test_two_workers_give_what_one_machine_gives(two_nodes, many, alone, tmp_path):
    two_nodes.complete()
    done = features(
        str(many), str(tmp_path / "f"), model=TINY, data=DATA, cluster=two_nodes.settings_for(workers=2)
    )
    assert same_bits(tmp_path / "f", *alone)
    assert done.table.skipped == alone[0].skipped and len(done.table.skipped) == 2
    answers = done.outcome.answers
    assert done.outcome.workers == len({one["pid"] for one in answers}) == 2
    assert not any(one["heavy"] for one in answers)
    assert not two_nodes.ray.is_initialized() and not (tmp_path / "f" / "lease.json").exists()


def test_a_killed_worker_and_a_lost_node_lose_no_image(two_nodes, many, alone, tmp_path):
    two_nodes.complete()

    def kill():
        os.kill(two_nodes.workers()[0], signal.SIGKILL)

    killed = when_there_are(tmp_path / "f", 5, kill)
    lost = when_there_are(tmp_path / "f", 20, two_nodes.remove_second)
    done = features(
        str(many), str(tmp_path / "f"), model=TINY, data=DATA, cluster=two_nodes.settings_for(workers=2)
    )
    killed.join(PATIENCE)
    lost.join(PATIENCE)
    total = len(shards(tmp_path / "f"))
    assert 5 <= killed.there < total and 20 <= lost.there < total, "they were not killed in the middle"
    assert two_nodes.second is None
    assert same_bits(tmp_path / "f", *alone)
    assert done.table.skipped == alone[0].skipped and len(done.table.skipped) == 2
    assert not any(one["heavy"] for one in done.outcome.answers), "a worker has imported TensorFlow"


def test_a_driver_that_is_killed_and_started_again_repeats_no_finished_shard(
    two_nodes, many, alone, tmp_path
):
    two_nodes.complete()
    place = tmp_path / "f"
    words = [
        "ray",
        "features",
        many,
        "--output",
        place,
        "--address",
        two_nodes.cluster.address,
        "--shard-images",
        4,
    ]
    words += ["--backbone", "tiny", "--image-size", 64, "--max-skipped", 0.2, "--quiet"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "keras_transfer", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    killing = when_there_are(place, 5, driver.kill)
    _, said = driver.communicate(timeout=PATIENCE)
    killing.join(PATIENCE)
    assert driver.returncode == -signal.SIGKILL, said
    assert (place / "lease.json").exists() and not (place / "features.json").exists()
    until = time.monotonic() + PATIENCE
    while two_nodes.workers() and time.monotonic() < until:  # what they were at, they may finish
        time.sleep(0.1)
    before = {path: path.stat().st_mtime_ns for path in shards(place)}
    done = features(str(many), str(place), model=TINY, data=DATA, cluster=two_nodes.settings_for())
    total = len(shards(place))
    assert 5 <= len(before) < total, "it was not killed in the middle"
    assert done.outcome.computed_shards == total - len(before)
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert same_bits(place, *alone)


@pytest.mark.nightly  # without Ray: test_ray_jobs.py
def test_check_finds_what_one_machine_finds(two_nodes, many, count, tmp_path):
    two_nodes.complete()
    found, outcome = check(
        str(many), str(tmp_path / "r"), model=TINY, cluster=two_nodes.settings_for(shard_images=40)
    )
    one = keras_transfer.check(many, model=TINY, engine="litert")
    assert found.issues == one.issues and found.clusters == one.clusters and found.issues
    assert {issue.kind for issue in found.issues} >= {"unreadable"} and outcome.computed == 2 * count + 2
    folder = one.write_report(tmp_path / "one").parent
    for name in ("issues.csv", "groups.csv", "report.html"):
        assert (tmp_path / "r" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.nightly
def test_predict_answers_as_one_machine(two_nodes, finished_run, many, count, tmp_path):
    from keras_transfer.workflow.export import export_run
    from keras_transfer.workflow.predict import predict as alone

    two_nodes.complete()

    bundle = tmp_path / "edge"
    export_run(finished_run.path, bundle, formats=("tflite",), precisions=("float32",))
    (model,) = bundle.glob("*.tflite")
    done = predict(
        str(model), str(many), str(tmp_path / "p"), cluster=two_nodes.settings_for(shard_images=50)
    )
    told = [json.loads(line) for line in (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()]
    assert told == list(alone(str(model), [many]))
    assert (done.images, done.unreadable) == (2 * count + 2, 2)
    assert re.search("not an image|truncated", next(one["error"] for one in told if "error" in one))
