"""From a folder to a run folder: what is in it, and what one seed fixes."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL
from keras_transfer_tests.images import write_crops

from keras_transfer.errors import UsageError
from keras_transfer.run import open_run
from keras_transfer.workflow.train import train


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_run_folder_is_complete_and_tells_what_happened(lite_run):
    """With the default backbone and its real weights, which tell the two photographs apart."""
    names = {str(p.relative_to(lite_run.path)) for p in lite_run.path.rglob("*") if p.is_file()}
    assert names == {
        "run.json",
        "model.keras",
        "split.csv",
        "history.csv",
        "skipped.csv",
        "predictions.npy",
        "report.html",
        "plots/confusion_matrix.png",
        "plots/regularisation.png",
    }
    info = lite_run.info
    assert info["request"]["settings"]["seed"] == 0
    assert info["training"]["strategy"] == "probe"
    assert info["output"]["names"] == ["china", "flower"]
    assert info["backbone"]["name"] == "efficientnet_lite0"
    assert info["preprocessing"]["size"] == [64, 64]
    assert info["metrics"]["test"]["accuracy"] >= 0.9
    assert info["versions"]["keras"] == keras.__version__
    recorded = rows(lite_run.split_path)
    assert len(recorded) == 40
    assert {row["split"] for row in recorded} == {"train", "val", "test"}
    json.dumps(info, allow_nan=False)


def test_only_the_head_of_a_probe_differs_from_the_backbone(finished_run):
    from keras_transfer.backbones import load_backbone

    backbone = load_backbone("tiny", image_size=64)
    model = finished_run.load_model()
    for layer in backbone.layers:
        for before, after in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_one_seed_gives_the_same_split_weights_and_metrics_and_another_does_not(
    finished_run, photo_folder, tmp_path
):
    again = train(photo_folder, tmp_path / "again", strategy="probe", **SMALL)
    assert again.info["metrics"] == finished_run.info["metrics"]
    assert again.split_path.read_bytes() == finished_run.split_path.read_bytes()
    for a, b in zip(again.load_model().get_weights(), finished_run.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = train(photo_folder, tmp_path / "other", strategy="probe", seed=1, **SMALL)
    assert other.split_path.read_bytes() != finished_run.split_path.read_bytes()


@pytest.mark.slow
def test_a_recorded_split_is_reused_for_moved_files(finished_run, photo_folder, tmp_path):
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(photo_folder, moved)
    (moved / "china" / "000.png").rename(moved / "china" / "renamed.png")
    run = train(moved, tmp_path / "run", strategy="probe", split_from=str(finished_run.path), seed=5, **SMALL)
    before = {row["sha256"]: row["split"] for row in rows(finished_run.split_path)}
    assert {row["sha256"]: row["split"] for row in rows(run.split_path)} == before


@pytest.mark.slow
def test_arrays_go_the_same_way(photos, tmp_path):
    rng = np.random.default_rng(0)
    spots = [(photos[name], *rng.integers(0, 300, 2)) for name in ("china", "flower") for _ in range(15)]
    images = np.stack([photo[y : y + 64, x : x + 64] for photo, y, x in spots])
    run = train((images, np.repeat([0, 1], 15)), tmp_path / "run", strategy="probe", **SMALL)
    assert run.info["request"]["source"] is None
    assert run.info["metrics"]["test"]["accuracy"] >= 0.8


@pytest.mark.slow
def test_unreadable_files_are_counted_listed_and_left_where_they_are(photo_folder, tmp_path):
    import shutil

    shutil.copytree(photo_folder, tmp_path / "data")
    broken = tmp_path / "data" / "china" / "broken.jpg"
    broken.write_text("not an image")
    run = train(tmp_path / "data", tmp_path / "run", strategy="probe", **SMALL)
    assert run.info["data"]["skipped"] == 1
    assert "broken.jpg" in (run.path / "skipped.csv").read_text()
    assert broken.read_text() == "not an image"


def test_settings_are_given_once_and_known(photo_folder, tmp_path):
    from keras_transfer.settings import TrainSettings

    with pytest.raises(UsageError, match="either"):
        train(photo_folder, tmp_path / "run", settings=TrainSettings(), epochs=3)
    with pytest.raises(UsageError, match="Did you mean epochs"):
        train(photo_folder, tmp_path / "run", epoch=3)
    with pytest.raises(UsageError, match="efficientnet_lite0"):
        train(photo_folder, tmp_path / "run", backbone="efficientnet_lite")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_gradient_training_changes_what_may_change_and_nothing_else(photo_folder, tmp_path):
    """Acceptance: after finetune every frozen weight and statistic is bit-identical, and something changed."""
    from keras_transfer.backbones import load_backbone

    settings = {"unfreeze": "from:block5b", "epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **SMALL}
    run = train(photo_folder, tmp_path / "run", strategy="finetune", guard=False, **settings)
    notes = run.info["training"]["gradient"]
    assert notes["best_epoch"] > 0, "nothing was learned, so the comparison below would prove nothing"
    trained = set(notes["trained_layers"])
    model, backbone = run.load_model(), load_backbone("tiny", image_size=64)
    changed = 0
    for layer in backbone.layers:
        for before, after in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            if layer.name in trained:
                changed += not np.array_equal(before, after)
            else:
                np.testing.assert_array_equal(before, after, err_msg=layer.name)
    assert changed > 0
    assert not [
        name for name in trained if isinstance(model.get_layer(name), keras.layers.BatchNormalization)
    ]
    assert [row["epoch"] for row in rows(run.path / "history.csv")] == ["0", "1", "2"]
    assert (run.path / "plots" / "learning_curves.png").stat().st_size > 5000


COMMAND = [sys.executable, "-m", "keras_transfer"]


def in_a_process(*arguments):
    """What the command line prints; what is compared bit by bit is computed by processes that begin alike."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param([signal.SIGKILL], marks=pytest.mark.nightly),
        pytest.param([signal.SIGINT, signal.SIGKILL], marks=pytest.mark.nightly),
    ],
    ids=["killed", "interrupted and killed"],
)
def test_killed_in_the_middle_it_ends_like_one_that_was_not(photo_folder, tmp_path, stops):
    """The same command finishes with the weights of an uninterrupted run."""
    arguments = [
        "train", photo_folder, "--backbone", "tiny", "--strategy", "finetune", "--unfreeze", "from:block5b",
        "--epochs", "12", "--patience", "12", "--batch-size", "8", "--image-size", "64", "--engine", "keras",
        "--learning-rate", "0.001", "--no-guard", "--dropout", "0.3", "--quiet",
    ]  # fmt: skip
    in_a_process(*arguments, "--output", tmp_path / "whole")
    state = tmp_path / ".killed.partial" / "state"

    def epochs_done():
        records = list(state.glob("state.json"))
        return len(json.loads(records[0].read_text())["rows"]) - 1 if records else 0

    for after, stop in enumerate(stops, 1):
        child = subprocess.Popen(
            [*COMMAND, *arguments, "--output", tmp_path / "killed"], stderr=subprocess.PIPE, text=True
        )
        while epochs_done() < after:
            assert child.poll() is None, "it ended before it could be stopped"
            time.sleep(0.01)
        child.send_signal(stop)
        _, said = child.communicate()
        if stop == signal.SIGINT:
            assert child.returncode == 130
            assert "Interrupted" in said and "Traceback" not in said
        assert not (tmp_path / "killed").exists()
    in_a_process(*arguments, "--output", tmp_path / "killed")
    whole, killed = open_run(tmp_path / "whole"), open_run(tmp_path / "killed")
    assert killed.info["resumed"]
    assert killed.info["training"]["gradient"]["resumed_at"] >= len(stops)
    assert killed.info["metrics"] == whole.info["metrics"]
    for a, b in zip(whole.load_model().get_weights(), killed.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("strategy", ["full", "scratch"])
def test_the_other_strategies_train(photo_folder, tmp_path, strategy):
    run = train(
        photo_folder, tmp_path / "run", strategy=strategy, epochs=1, batch_size=16, guard=False, **SMALL
    )
    layers = run.info["training"]["gradient"]["trained_layers"]
    norms = [name for name in layers if "bn" in name or "batch_norm" in name]
    assert bool(norms) == (strategy == "scratch")
    assert (run.info["training"].get("probe") is None) == (strategy == "scratch")


@pytest.mark.nightly
def test_killed_while_extracting_it_goes_on_from_what_was_kept(photos, tmp_path, monkeypatch):
    """SIGKILL after the first shard of features; the same command takes them up, and ends as one that was not."""
    for seed, (name, photo) in enumerate(photos.items()):
        write_crops(tmp_path / "data" / name, photo, 500, seed, size=64)
    arguments = [
        "train", tmp_path / "data", "--backbone", "tiny", "--strategy", "probe", "--quiet", "--image-size", "160",
        "--engine", "keras", "--json",
    ]  # fmt: skip
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path / "cache-whole"))
    told = in_a_process(*arguments, "--output", tmp_path / "whole")
    assert json.loads(told)["training"]["features"]["cached"] == 0
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path / "cache-killed"))
    child = subprocess.Popen(
        [*COMMAND, *arguments, "--output", tmp_path / "killed"], stdout=subprocess.DEVNULL
    )
    while not list((tmp_path / "cache-killed").glob("features/*/[0-9a-f]*.json")):
        assert child.poll() is None, "it ended before it could be stopped"
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert not (tmp_path / "killed").exists()
    told = in_a_process(*arguments, "--output", tmp_path / "killed")
    features = json.loads(told)["training"]["features"]
    assert features["cached"] >= 256 and features["computed"] > 0
    whole, killed = open_run(tmp_path / "whole"), open_run(tmp_path / "killed")
    assert killed.info["metrics"] == whole.info["metrics"]
    for a, b in zip(whole.load_model().get_weights(), killed.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
