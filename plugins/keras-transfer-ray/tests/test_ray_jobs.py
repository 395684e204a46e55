"""Everything but Ray: shards, resuming, the lease, bad input, and what train takes from a folder of features."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys

import fsspec
import keras
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from helpers_ray import (
    DATA,
    TINY,
    features_in,
    in_this_process,
    on_one_machine,
    same_bits,
    shards,
    small_shards,
)
from helpers_ray import with_bad_files as copy_with_bad_files
from keras_transfer_ray import job, lease, store, worker
from keras_transfer_ray.cluster import joined
from keras_transfer_ray.features import features
from keras_transfer_ray.lease import leased
from keras_transfer_ray.settings import ClusterSettings, VectorSettings
from keras_transfer_ray.store import Store

import keras_transfer
from keras_transfer.errors import DataError, KerasTransferError, UsageError
from keras_transfer.settings import ModelSettings
from keras_transfer.testing import conformance


@pytest.fixture
def mixed(photo_folder, tmp_path):
    """22 files a class, two of all of them bad."""
    return copy_with_bad_files(photo_folder, tmp_path / "photos")


@pytest.fixture
def blocks(monkeypatch):
    """Without Ray; the shards that were computed."""
    return in_this_process(monkeypatch)


def compute(mixed, output, **values):
    values = {"model": TINY, "data": DATA, "cluster": small_shards(), **values}
    return features(str(mixed), str(output), **values)


@pytest.fixture
def written(mixed, blocks, tmp_path):
    """A finished folder of features."""
    return compute(mixed, tmp_path / "features")


@pytest.mark.slow
def test_shards_hold_what_one_machine_gives_bit_for_bit_and_the_same_bad_files(mixed, written, tmp_path):
    table, found = on_one_machine(mixed)
    assert same_bits(tmp_path / "features", table, found)
    assert written.table.skipped == table.skipped and len(table.skipped) == 2
    assert written.table.csv_text() == table.csv_text()
    assert written.to_dict()["shards"] == 11 and written.outcome.computed == 42


@pytest.mark.slow
def test_finished_shards_are_not_computed_again_and_a_damaged_one_is(mixed, written, blocks, tmp_path):
    folder = tmp_path / "features"
    before = features_in(folder)
    blocks.clear()
    assert compute(mixed, folder).outcome.to_dict()["computed_shards"] == 0 and not blocks
    first, second, third = shards(folder)[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    shutil.copy(third, third.with_name(f".{third.name}.half"))  # of a worker that died
    again = compute(mixed, folder).outcome
    assert (again.computed_shards, len(blocks)) == (2, 2)
    assert not list((folder / "shards").glob(".*"))
    after = features_in(folder)
    assert after.keys() == before.keys() and all(np.array_equal(after[one], before[one]) for one in after)


@pytest.mark.slow
def test_train_learns_from_the_folder_what_it_learns_from_its_own_features(mixed, written, tmp_path):
    asked = {"backbone": "tiny", "image_size": 64, "strategy": "probe", "max_skipped": 0.2}
    one = keras_transfer.train(mixed, tmp_path / "one", engine="litert", **asked)
    other = keras_transfer.train(mixed, tmp_path / "other", features=str(tmp_path / "features"), **asked)
    left, right = (keras.models.load_model(run.model_path).get_weights() for run in (one, other))
    assert all(np.array_equal(*pair) for pair in zip(left, right, strict=True))
    assert other.record.contract.notes["features"]["computed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image_size": 96}, r"holds features of images that were prepared in another way \(tiny, 64x64\)"),
        ({"weights": "none"}, r"holds features of another network \(tiny, 64x64\)"),
        (
            {"engine": "keras"},
            "--features gives what the network as it is makes of the images; --engine keras",
        ),
        pytest.param({"strategy": "scratch"}, "asks for something else", marks=pytest.mark.nightly),
    ],
)
def test_features_that_are_not_the_networks_own_are_refused(mixed, written, tmp_path, values, sentence):
    asked = {"backbone": "tiny", "image_size": 64, "strategy": "probe", "max_skipped": 0.2, **values}
    with pytest.raises(UsageError, match=sentence):
        keras_transfer.train(mixed, tmp_path / "run", features=str(tmp_path / "features"), **asked)


@pytest.mark.slow
def test_an_image_that_changed_since_has_no_features(mixed, written, tmp_path):
    china, flower = (sorted((mixed / name).glob("[0-9]*.png")) for name in ("china", "flower"))
    shutil.copy(flower[0], china[0])
    content = china[1].read_bytes()
    china[1].write_bytes(content + b"\0")  # still a sound PNG, and another file
    asked = {"backbone": "tiny", "image_size": 64, "strategy": "probe", "max_skipped": 0.2, "seed": 1}
    with pytest.raises(
        DataError, match=r"1 of \d+ images have no features in .*such as .*Make the features again"
    ):
        keras_transfer.train(
            mixed, tmp_path / "run", features=str(tmp_path / "features"), test_fraction=0.0, **asked
        )


@pytest.mark.slow
def test_a_damaged_shard_is_not_learned_from(mixed, written, tmp_path):
    shard = shards(tmp_path / "features")[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    asked = {"backbone": "tiny", "image_size": 64, "strategy": "probe", "max_skipped": 0.2}
    with pytest.raises(
        DataError, match=f"the shard {shard.name} cannot be used: its checksum does not match"
    ):
        keras_transfer.train(mixed, tmp_path / "run", features=str(tmp_path / "features"), **asked)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "is no folder of features: it holds no features.json"),
        (["shards/x.parquet"], r"The features in .* are not finished"),
    ],
)
def test_a_folder_without_a_record_is_refused(tmp_path, files, sentence):
    from keras_transfer.features.given import read_record

    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=sentence):
        read_record(tmp_path, "DIR")


def test_a_damaged_record_is_one_sentence(tmp_path):
    from keras_transfer.features.given import read_record

    (tmp_path / "features.json").write_text(json.dumps({"format": 1, "shards": []}))
    with pytest.raises(DataError, match=r"^DIR/features.json is damaged: 'network' is missing"):
        read_record(tmp_path, "DIR")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"model": ModelSettings("tiny", image_size=64, resize="crop")},
            "on images that were prepared in another way",
        ),
        pytest.param(
            {"vectors": VectorSettings(pooling="max")}, "of another network", marks=pytest.mark.nightly
        ),
        ({"cluster": ClusterSettings(shard_images=5)}, "in shards of 4 images; --shard-images 5 was given"),
        pytest.param(
            "new file", "on other data: 1 files are new, such as china/new", marks=pytest.mark.nightly
        ),
        ("changed file", r"on other data: 1 files are changed, such as china/0000.png"),
    ],
)
def test_a_folder_with_other_work_in_it_is_refused(mixed, written, tmp_path, change, sentence):
    values = change if isinstance(change, dict) else {}
    if change == "new file":
        shutil.copy(mixed / "china" / "bad.png", mixed / "china" / "new.png")
    if change == "changed file":
        first = sorted((mixed / "china").iterdir())[0]
        sentence = sentence.replace("0000.png", first.name)
        first.write_bytes(first.read_bytes() + b"\0")
    before = [path.read_bytes() for path in shards(tmp_path / "features")]
    with pytest.raises(UsageError, match=f"holds the work {sentence}.*--overwrite"):
        compute(mixed, tmp_path / "features", **values)
    assert [path.read_bytes() for path in shards(tmp_path / "features")] == before
    compute(mixed, tmp_path / "features", overwrite=True, **values)


def test_a_folder_of_the_users_and_a_file_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    for place, sentence in (("mine", "holds thesis.txt, which"), ("file", "is a file; a folder is expected")):
        with (
            pytest.raises(UsageError, match=sentence),
            job.opened("features", str(tmp_path / place), ClusterSettings()),
        ):
            pass
    (tmp_path / "mine" / "job.json").write_text(json.dumps({"command": "check"}))
    with pytest.raises(UsageError, match="holds what `keras-transfer ray check` wrote"):
        with job.opened("features", str(tmp_path / "mine"), ClusterSettings()):
            pass


@pytest.mark.slow
def test_results_do_not_go_among_the_data(mixed, blocks):
    with pytest.raises(UsageError, match=r"where the data are\. Choose another --output"):
        compute(mixed, mixed / "features")


@pytest.mark.slow
def test_a_file_that_changes_under_way_stops_the_work_with_one_sentence(mixed, monkeypatch, blocks, tmp_path):
    listed = job.listed

    def then_change(images):
        manifest = listed(images)
        last = images.path(len(images) - 1)
        last.write_bytes(last.read_bytes() + b"\0")
        return manifest

    monkeypatch.setattr(job, "listed", then_change)
    with pytest.raises(DataError, match="has changed since the work began"):
        compute(mixed, tmp_path / "features")
    assert len(shards(tmp_path / "features")) == 10  # what was finished is kept
    assert not (tmp_path / "features" / "features.json").exists()


def test_a_file_of_the_same_age_and_another_size_has_changed(tmp_path):
    from keras_transfer_ray.shards import listed

    from keras_transfer.data.table import PathImages

    (tmp_path / "a.png").write_bytes(b"half")
    (row,) = listed(PathImages(tmp_path, ("a.png",))).to_pylist()
    check = worker.Worker.require_unchanged
    check(tmp_path / "a.png", row)
    (tmp_path / "a.png").write_bytes(b"the whole")
    os.utime(tmp_path / "a.png", ns=(row["mtime"], row["mtime"]))
    with pytest.raises(worker.FaultError, match="has changed since the work began"):
        check(tmp_path / "a.png", row)


@pytest.mark.slow
def test_a_file_that_a_node_does_not_see_is_no_bad_image(mixed, monkeypatch, blocks, tmp_path):
    listed = job.listed
    gone = sorted((mixed / "china").glob("[0-9]*.png"))[0]
    monkeypatch.setattr(job, "listed", lambda images: [listed(images), gone.unlink()][0])
    with pytest.raises(
        DataError, match=f"was there when the work began, and {socket.gethostname()} does not find it"
    ):
        compute(mixed, tmp_path / "features")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(mixed, monkeypatch, blocks, tmp_path):
    genuine, writes = store.os.fsync, []

    def full(descriptor):
        writes.append(descriptor)
        if len(blocks) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            KerasTransferError, match=r"cannot write to .*: the disk is full; free some space\. What was"
        ):
            compute(mixed, tmp_path / "features")
    folder = tmp_path / "features" / "shards"
    assert len(list(folder.iterdir())) == len(shards(tmp_path / "features")) == 2
    assert compute(mixed, tmp_path / "features").outcome.computed_shards == 9


@pytest.mark.parametrize("what", ["root", "version", "model"])
def test_a_node_that_is_not_as_the_driver_stops_the_work(tmp_path, what):
    import pyarrow

    from keras_transfer.preprocessing import Preprocessing

    told = {**worker.versions(), **({"Pillow": "1.0"} if what == "version" else {})}
    work = worker.Work(
        output=f"file://{tmp_path}",
        model="model-0.tflite",
        sha256="0",
        pixels=Preprocessing((64, 64)).to_dict(),
        root=str(tmp_path / ("nowhere" if what == "root" else "")),
        threads=1,
        looks=False,
        versions=told,
    )
    answer = worker.Worker(work)(pyarrow.table({"shard": ["a.parquet"]})).to_pylist()[0]
    sentence = {
        "root": "does not see .*nowhere: the data must lie at the same path on every machine",
        "version": r"has Pillow [\d.]+ \(the driver has 1\.0\): its numbers would differ",
        "model": "cannot read .*model-0.tflite .*the output folder must be one that every machine",
    }[what]
    assert answer["kind"] == "node" and re.search(sentence, answer["fault"])


def test_two_drivers_do_not_write_one_folder(tmp_path):
    one = Store(str(tmp_path))
    with leased(one):
        with pytest.raises(
            UsageError, match=f"is being written by process {os.getpid()} on {socket.gethostname()}"
        ):
            with leased(Store(str(tmp_path))):
                pass
    assert one.names() == []


@pytest.mark.parametrize("left", ["dead process", "silent host", "half a file"])
def test_the_lease_of_a_driver_that_crashed_is_taken_over(tmp_path, left):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    told = {"host": socket.gethostname(), "pid": done.pid, "token": "x", "seen": lease.time.time()}
    if left == "silent host":
        told |= {"host": "another", "seen": lease.time.time() - lease.LASTS - 1}
    text = json.dumps(told)
    (tmp_path / lease.LEASE).write_text(text[:20] if left == "half a file" else text)
    with leased(Store(str(tmp_path))):
        assert json.loads((tmp_path / lease.LEASE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / lease.LEASE).exists()


class Far(LocalFileSystem):
    """A filesystem that is not this machine's disk, as far as the store knows."""

    protocol = "far"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("far://"))


def test_any_filesystem_holds_whole_files_or_none(tmp_path, monkeypatch):
    fsspec.register_implementation("far", Far, clobber=True)
    place = Store(f"far://{tmp_path}")
    assert place.folder is None
    place.write("shards/a", b"one")
    place.write("shards/a", b"two")
    assert place.read("shards/a") == b"two" and place.names("shards") == ["a"]
    assert place.create("lease", b"x") and not place.create("lease", b"y") and place.read("lease") == b"x"
    with pytest.raises(OSError), place.writing("shards/b") as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert place.names("shards") == ["a"]
    place.remove("shards/a")
    place.remove("shards/a")
    assert not place.exists("shards/a") and place.names("nothing") == []


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("memory://here", "is the memory of one process"), ("nothing://x", "is no address that can be written")],
)
def test_places_that_workers_cannot_write_are_refused(address, sentence):
    with pytest.raises(UsageError, match=sentence):
        Store(address)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("10.0.0.1", "local, auto, HOST:PORT or ray://HOST:PORT is expected"),
        ("ray://host/6379", "local, auto, HOST:PORT"),
        ("127.0.0.1:1", "nothing answers there .*`ray status`"),
        ("ray://127.0.0.1:1", "nothing answers there"),
    ],
)
def test_an_address_that_does_not_answer_is_one_sentence(address, sentence):
    with pytest.raises(UsageError, match=sentence), joined(ClusterSettings(address=address)):
        pass


@pytest.mark.parametrize("name", ["workers", "cpus_per_worker", "shard_images"])
def test_no_workers_are_none_to_ask(name, tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        features("photos", str(tmp_path / "out"), cluster=ClusterSettings(**{name: 0}))
    assert not (tmp_path / "out").exists()


def test_a_ray_that_is_broken_is_one_sentence_and_the_verbs_have_their_help(tmp_path, monkeypatch):
    from keras_transfer.errors import PluginError
    from keras_transfer.testing.command import call

    monkeypatch.setitem(sys.modules, "ray", None)
    for verb in ([], ["features"], ["predict"], ["check"]):
        assert "--help" in call("ray", *verb, "--help")[0]
    with pytest.raises(
        PluginError, match=r"^Ray cannot be imported .*pip install --force-reinstall 'ray\[data\]'"
    ):
        with joined(ClusterSettings()):
            pass


def test_what_workers_import_is_not_tensorflow():
    heavy = ("tensorflow", "keras", "ray")
    code = f"import keras_transfer_ray.worker, sys; print([n for n in {heavy} if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.slow
def test_check_finds_what_one_machine_finds(mixed, blocks, tmp_path):
    from keras_transfer_ray.checking import check

    found, outcome = check(str(mixed), str(tmp_path / "r"), model=TINY, cluster=small_shards())
    one = keras_transfer.check(mixed, model=TINY, engine="litert")
    assert found.issues == one.issues and found.clusters == one.clusters and outcome.computed == 42
    assert sum(issue.kind == "unreadable" for issue in found.issues) == 2
    folder = one.write_report(tmp_path / "one").parent
    for name in job.REPORT:
        assert (tmp_path / "r" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_predict_answers_as_one_machine(mixed, blocks, finished_run, tmp_path):
    from keras_transfer_ray.predicting import predict

    from keras_transfer.workflow.predict import predict as alone

    done = predict(str(finished_run.path), str(mixed), str(tmp_path / "p"), cluster=small_shards())
    told = [json.loads(line) for line in (tmp_path / "p" / job.PREDICTIONS).read_text().splitlines()]
    assert (done.images, done.unreadable) == (42, 2) == (len(told), sum("error" in one for one in told))
    for one, other in zip(told, alone(str(finished_run.path), [mixed]), strict=True):
        assert one["path"] == other["path"] and one.get("error") == other.get("error")
        sure = {row["label"]: row["probability"] for row in one.get("classes", ())}
        expected = {row["label"]: row["probability"] for row in other.get("classes", ())}
        assert sure == pytest.approx(expected, abs=1e-4)  # Keras there, its conversion here


@pytest.mark.slow
def test_the_command_line_tells_it_and_an_unreadable_file_is_exit_code_1(
    mixed, blocks, finished_run, tmp_path
):
    from keras_transfer.testing.command import call

    words = ["--shard-images", 20, "--json", "--quiet"]
    place = tmp_path / "f"
    shown, _ = call(
        *(
            "ray",
            "features",
            mixed,
            "-o",
            place,
            "--backbone",
            "tiny",
            "--image-size",
            64,
            "--max-skipped",
            0.2,
        ),
        *words,
    )
    facts = json.loads(shown)
    assert (facts["images"], facts["skipped"], facts["dimensions"], facts["shards"]) == (40, 2, 64, 3)
    shown, _ = call("ray", "predict", finished_run.path, mixed, "-o", tmp_path / "p", *words, code=1)
    assert json.loads(shown)["unreadable"] == 2
    call("ray", "features", mixed, "-o", place, "--workers", 0, code=2)


@conformance("ray")
def test_the_verbs_keep_their_promises(check):
    check()
