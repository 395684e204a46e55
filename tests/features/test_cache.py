"""The cache gives back what was computed, never anything stale or damaged, and survives kills, races and full disks."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import worker_features
from PIL import Image
from worker_features import PREPROCESSING, small_backbone

from keras_transfer.data import load_data
from keras_transfer.errors import UsageError
from keras_transfer.features import cache as cache_module
from keras_transfer.features import extract, extraction, model_hash
from keras_transfer.features.cache import FeatureCache, parse_size
from keras_transfer.paths import cache_dir
from keras_transfer.preprocessing import Preprocessing


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Ten shards for the 40 images."""
    monkeypatch.setattr(extraction, "SHARD_IMAGES", 4)


@pytest.fixture(scope="module")
def filled(photo_folder, tmp_path_factory):
    """A cache folder with the features of both engines. Read-only: tests change a copy."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "SHARD_IMAGES", 4)
        patch.setenv("KERAS_TRANSFER_CACHE", str(folder))
        run(load_data(photo_folder), small_backbone(), "keras")
        run(load_data(photo_folder), small_backbone(), "litert", indices=range(4))
    return folder


@pytest.fixture
def kept(filled):
    """The cache of the test holds the features that Keras gave for all images, and those of four that LiteRT gave."""
    shutil.copytree(filled, cache_dir(), dirs_exist_ok=True)


def run(table, backbone, engine="keras", preprocessing=PREPROCESSING, **options):
    return extract(table, backbone, preprocessing=preprocessing, engine=engine, batch_size=4, **options)


def shards(suffix: str = ".json") -> list[Path]:
    found = (cache_dir() / "features").rglob(f"*{suffix}")
    return sorted(path for path in found if path.name != "key.json")


def close(values, expected) -> bool:
    return np.abs(values - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "litert"])
def test_the_second_time_nothing_is_computed(table, backbone, expected, engine):
    first, second = run(table, backbone, engine), run(table, backbone, engine)
    assert (first.computed, first.cached) == (40, 0)
    assert (second.computed, second.cached) == (0, 40)
    assert np.array_equal(first.values, second.values) and close(second.values, expected)


@pytest.mark.slow
def test_the_engines_do_not_share_features(table, backbone):
    run(table, backbone, "keras")
    assert run(table, backbone, "litert").computed == 40


@pytest.mark.slow
def test_without_cache_nothing_is_read_or_written(table, backbone, kept):
    before = {path: path.stat().st_mtime_ns for path in cache_dir().rglob("*")}
    for engine in ("keras", "litert"):
        assert run(table, backbone, engine, cache=False).computed == 40
    assert {path: path.stat().st_mtime_ns for path in cache_dir().rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing((48, 48), resize="crop"),
        Preprocessing((48, 48), interpolation="bicubic"),
        Preprocessing((48, 48), antialias=False),
    ],
    ids=["resize", "interpolation", "antialias"],
)
def test_another_preprocessing_is_computed(table, backbone, preprocessing, kept):
    assert run(table, backbone, preprocessing=preprocessing).computed == 40


@pytest.mark.slow
def test_another_size_is_computed(table):
    free = small_backbone(size=(None, None))
    run(table, free)
    assert run(table, free, preprocessing=Preprocessing((32, 32))).computed == 40


@pytest.mark.slow
def test_one_weight_changed_is_computed(table):
    model = small_backbone()
    before = run(table, model)
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] += 0.5
    model.set_weights(weights)
    after = run(table, model)
    assert after.computed == 40 and np.abs(after.values - before.values).max() > 1e-3


@pytest.mark.slow
def test_one_pixel_changed_is_computed_alone(photo_folder, backbone, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "data")
    before = run(load_data(tmp_path / "data"), backbone)
    path = tmp_path / "data" / "china" / "007.png"
    pixels = np.array(Image.open(path))
    pixels[50, 50] = 255 - pixels[50, 50]
    Image.fromarray(pixels).save(path)
    table = load_data(tmp_path / "data")
    after = run(table, backbone)
    assert (after.computed, after.cached) == (1, 39)
    row = next(i for i in range(40) if table.images.path(i) == path)
    assert not np.array_equal(after.values[row], before.values[row])
    rest = np.arange(40) != row
    assert np.array_equal(after.values[rest], before.values[rest])


def test_renamed_images_are_still_known(photo_folder, backbone, tmp_path):
    run(load_data(photo_folder), backbone)
    for name in ("china", "flower"):
        shutil.copytree(photo_folder / name, tmp_path / "other" / f"renamed {name}")
    assert run(load_data(tmp_path / "other"), backbone).computed == 0


@pytest.mark.slow
def test_a_moved_cache_still_answers(table, backbone, tmp_path, monkeypatch):
    for engine in ("keras", "litert"):
        run(table, backbone, engine)
    shutil.move(cache_dir(), tmp_path / "moved")
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path / "moved"))
    for engine in ("keras", "litert"):
        assert run(table, backbone, engine).computed == 0


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_shard_is_computed_again(table, backbone, expected, kept, damage, suffix, caplog):
    damage(shards(suffix)[3])
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        result = run(table, backbone)
    assert (result.computed, result.cached) == (4, 36) and close(result.values, expected)
    if damage is not Path.unlink or suffix == ".npy":
        assert "damaged" in caplog.text
    caplog.clear()
    assert run(table, backbone).computed == 0 and caplog.text == ""


def test_a_list_of_images_that_was_edited_is_not_believed(table, backbone, expected):
    """Two digests swapped: valid JSON, wrong answers."""
    run(table, backbone)
    path = shards()[0]
    body = json.loads(path.read_text())
    body["images"][:2] = body["images"][1::-1]
    path.write_text(json.dumps(body))
    result = run(table, backbone)
    assert result.computed == 4 and close(result.values, expected)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink])
@pytest.mark.parametrize("pattern", ["*.tflite", "*.json"])
def test_a_damaged_converted_model_is_made_again(table, backbone, expected, kept, damage, pattern):
    (path,) = (cache_dir() / "litert").glob(pattern)
    damage(path)
    result = run(table, backbone, "litert")
    assert result.engine == "litert" and close(result.values, expected)


def worker(folder: Path, output: Path, engine: str, pause: float = 0) -> subprocess.Popen:
    command = [sys.executable, worker_features.__file__, folder, output, engine, str(pause)]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


@pytest.mark.nightly
def test_two_processes_at_once(photo_folder, table, backbone, expected, tmp_path):
    """Both find the same hash of the network, although in this one others were built before."""
    process = worker(photo_folder, tmp_path / "other.npy", "litert")
    assert process.stdout.readline().strip() == model_hash(backbone)  # now it begins
    results = [run(table, backbone, "litert").values]
    assert process.wait(240) == 0
    results.append(np.load(tmp_path / "other.npy"))
    assert all(close(values, expected) for values in results)
    result = run(table, backbone, "litert")
    assert (result.computed, result.cached) == (0, 40) and close(result.values, expected)


@pytest.mark.nightly
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_then_resumed(photo_folder, table, backbone, expected, tmp_path, stop):
    process = worker(photo_folder, tmp_path / "never.npy", "keras", pause=0.5)
    deadline = time.monotonic() + 200
    while len(shards()) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(stop)
    assert process.wait(60) != 0 and not (tmp_path / "never.npy").exists()
    result = run(table, backbone)
    assert result.cached >= 12 and result.computed == 40 - result.cached > 0
    assert close(result.values, expected)


def test_interrupted_work_keeps_what_was_done(table, backbone, expected, monkeypatch):
    """Also what was not yet enough for a shard."""
    monkeypatch.setattr(extraction, "SHARD_IMAGES", 1000)
    honest = extraction.engines.KerasRunner.predict
    fourth = table.images.load(
        12, PREPROCESSING
    )  # the first image of the fourth batch: two are computed at a time

    def interrupted(self, pixels):
        if np.array_equal(pixels[0], fourth):
            raise KeyboardInterrupt
        return honest(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(extraction.engines.KerasRunner, "predict", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(table, backbone)
    result = run(table, backbone)
    assert (result.computed, result.cached) == (28, 12) and close(result.values, expected)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "litert"])
@pytest.mark.parametrize("allowed", [0, 5])
def test_a_full_disk_is_a_warning(table, backbone, expected, monkeypatch, caplog, engine, allowed):
    """After ``allowed`` files the disk has no space left."""
    honest, files = os.fsync, []

    def full(descriptor):
        files.append(1)
        if len(files) > allowed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(descriptor)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "keras_transfer"):
        patch.setattr(os, "fsync", full)
        result = run(table, backbone, engine)
    assert result.engine == engine and result.computed == 40 and close(result.values, expected)
    about_features = [r for r in caplog.records if "disk is full" in r.message and "features" in r.message]
    assert len(about_features) == 1, "said once, not for every shard"
    assert not [path for path in cache_dir().rglob("*") if path.name.startswith(".")], "nothing half-written"
    later = run(table, backbone, engine)
    assert later.cached == (0 if allowed == 0 else 8 if engine == "keras" else 4)
    assert close(later.values, expected)


def test_a_cache_that_cannot_be_written_is_a_warning(
    table, backbone, expected, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path / "file" / "cache"))
    for engine in ("keras", "litert"):
        result = run(table, backbone, engine)
        assert result.engine == engine and result.computed == 40 and close(result.values, expected)
    assert "cannot be written" in caplog.text and "KERAS_TRANSFER_CACHE" in caplog.text


def test_a_read_only_cache_is_still_read(table, backbone, expected, caplog):
    run(table, backbone, indices=range(20))
    folders = [cache_dir(), *(path for path in cache_dir().rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    if os.access(cache_dir(), os.W_OK):
        pytest.skip("this user may write anywhere")
    try:
        result = run(table, backbone)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert (result.cached, result.computed) == (20, 20) and close(result.values, expected)
    assert "cannot be written" in caplog.text


def age(path: Path, days: float) -> None:
    """Pretend ``path`` and what belongs to it were last used so long ago."""
    for part in (path, path.with_suffix(".npy")):
        if part.exists():
            os.utime(part, (time.time() - days * 86400,) * 2)


@pytest.mark.slow
def test_the_limit_evicts_what_was_used_least_recently(table, backbone, monkeypatch):
    old = run(table, backbone, indices=range(20))
    assert old.computed == 20
    for path in shards():
        age(path, 2)
    run(table, backbone, indices=range(4))  # one shard is used again
    used = {path for path in shards() if path.stat().st_mtime > time.time() - 3600}
    assert len(used) == 1
    shard = sum(path.stat().st_size for path in (shards()[0], shards(".npy")[0]))
    total = FeatureCache().total_bytes()
    monkeypatch.setenv("KERAS_TRANSFER_CACHE_SIZE", f"{total + shard // 2}B")
    run(table, backbone, indices=range(20, 28))  # two more shards
    assert FeatureCache().total_bytes() <= total + shard // 2
    left = shards()
    assert used <= set(left) and len(left) == 5, "two old shards made room for two new ones"


def test_what_this_run_wrote_is_never_evicted(table, backbone, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_CACHE_SIZE", "1KB")
    run(table, backbone)
    assert run(table, backbone).computed == 0


def test_prune_by_size_and_by_age(table, backbone):
    run(table, backbone)
    for i, path in enumerate(shards()):
        age(path, i + 0.5)
    oldest = shards()[-1]
    cache = FeatureCache()
    assert cache.prune() == 0, "under the default limit nothing goes"
    total = cache.total_bytes()
    freed = cache.prune(max_bytes=total - 1)
    assert freed > 0 and cache.total_bytes() == total - freed and not oldest.exists() and len(shards()) == 9
    cache.prune(older_than_days=4)
    assert len(shards()) == 4
    cache.prune(max_bytes=0)
    assert shards() == shards(".npy") == []


def test_prune_removes_leftovers_of_crashes(table, backbone):
    run(table, backbone)
    folder = shards()[0].parent
    fresh, old = folder / ".fresh.json.abc", folder / ".old.npy.abc"
    orphan, young_orphan = folder / f"{'a' * 32}.npy", folder / f"{'b' * 32}.npy"
    for path in (fresh, old, orphan, young_orphan):
        path.write_bytes(b"1234567")
    age(old, 0.1), age(orphan, 0.1)
    assert FeatureCache().prune() == 14
    assert fresh.exists() and young_orphan.exists() and not old.exists() and not orphan.exists()
    assert run(table, backbone).computed == 0


@pytest.mark.slow
def test_entries_and_clear_cover_everything(table, backbone):
    run(table, backbone, "keras"), run(table, backbone, "litert", indices=range(8))
    (cache_dir() / "images" / "ab").mkdir(parents=True)
    (cache_dir() / "images" / "ab" / "x.png").write_bytes(b"12345")
    cache = FeatureCache()
    rows = cache.entries()
    json.dumps(rows)
    assert [row["kind"] for row in rows] == ["features", "features", "litert", "images", "checked"]
    features = {row["summary"]: row["images"] for row in rows if row["kind"] == "features"}
    assert features == {"small keras 48x48": 40, "small litert 48x48": 8}
    assert (
        sum(row["bytes"] for row in rows) + sum(path.stat().st_size for path in cache_dir().rglob("key.json"))
        == cache.total_bytes()
    )
    stranger = cache_dir() / "notes.txt"
    stranger.write_text("not ours")
    assert cache.clear() > 0
    assert cache.total_bytes() == 0 and cache.entries() == []
    assert stranger.exists() and [p for p in cache_dir().rglob("*") if p.is_file()] == [stranger]


def test_an_absent_cache_is_empty(tmp_path):
    cache = FeatureCache(tmp_path / "absent")
    assert (cache.entries(), cache.total_bytes(), cache.prune(), cache.clear()) == ([], 0, 0, 0)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("1.5 MB", 1_500_000), ("300", 300), ("2gib", 2 * 10**9), ("0", 0)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "-1GB", "10XB", "GB"])
def test_a_size_that_is_not_understood_stops_before_the_work(text, table, backbone, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_CACHE_SIZE", text)
    with pytest.raises(UsageError, match="expected something like"):
        run(table, backbone)
    assert shards() == []


def test_negative_limits_are_refused():
    with pytest.raises(UsageError):
        FeatureCache().prune(max_bytes=-1)


@pytest.mark.slow
def test_looking_at_the_cache_loads_no_tensorflow():
    script = (
        "import sys; from keras_transfer.features import cache; cache.entries()\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_the_module_functions_are_the_default_cache(table, backbone):
    run(table, backbone)
    assert cache_module.entries() == FeatureCache().entries()
    assert FeatureCache().total_bytes() > 0
    assert cache_module.prune(max_bytes=0) > 0 and shards() == []
    cache_module.clear()
    assert FeatureCache().total_bytes() == 0


def test_batch_statistics_in_the_key(table, kept):
    """Two networks that differ in a moving variance alone do not share features."""
    other = small_backbone()
    norm = next(layer for layer in other.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_variance.assign(norm.moving_variance * 3)
    assert run(table, other).computed == 40
