"""``join``: what a run knew and what was labelled since is one table, and what is measured on stays the same."""

import json
import shutil

import pytest
from keras_transfer_tests import SMALL
from keras_transfer_tests.images import write_crops

import keras_transfer as ktr
from keras_transfer.data import load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.run import open_run
from keras_transfer.testing.command import call
from keras_transfer.workflow.join import join


@pytest.fixture
def place(finished_run, photo_folder, photos, tmp_path):
    """``labelled.json`` of Label Studio: ten new images of ``pool/``, and two that the run knows."""
    pool = tmp_path / "pool"
    tasks = []
    for name, photo in photos.items():
        write_crops(pool / name, photo, 5, 77)
        shutil.copy(photo_folder / name / "000.png", pool / name / "known.png")
        for path in sorted((pool / name).iterdir()):
            result = [{"type": "choices", "value": {"choices": [name]}}]
            address = f"/data/local-files/?d={name}/{path.name}"
            tasks.append({"id": len(tasks), "data": {"image": address}, "annotations": [{"result": result}]})
    (tmp_path / "labelled.json").write_text(json.dumps(tasks))
    return tmp_path


@pytest.mark.slow
def test_old_and_new_images_go_into_one_training(place, finished_run, tmp_path):
    export, pool = place / "labelled.json", place / "pool"
    out, _ = call("join", finished_run.path, export, "--image-root", pool, "-o", tmp_path / "all" / "all.csv")
    assert (
        "50 images in" in out and "40 of" in out and "10 of" in out and "(2 more were known already)" in out
    )
    root = out.split("--image-root ")[1].split(" ")[0]
    run = ktr.train(tmp_path / "all" / "all.csv", tmp_path / "second", image_root=root, **SMALL)
    first, second = (one.record.data for one in (finished_run, run))
    assert second.images("test") == first.images("test") and second.images("val") == first.images("val")
    assert second.images("train") == first.images("train") + 10
    tests = []
    for one in (finished_run, run):
        lines = one.split_path.read_text(encoding="utf-8").splitlines()
        tests.append({line.split(",")[5] for line in lines if line.split(",")[2] == "test"})
    assert tests[0] == tests[1], "the same images are measured on"


def test_a_table_above_its_images_needs_no_root(place, photo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "photos")
    found = join(
        [tmp_path / "photos", place / "labelled.json"], tmp_path / "all.csv", image_root=place / "pool"
    )
    assert found.image_root is None and found.known == 2
    table = load_data(tmp_path / "all.csv")
    assert len(table) == 50 and set(table.splits) == {"train", "val", "test"}, "none was given: they are made"
    told = json.loads(
        call(
            *("join", tmp_path / "photos", place / "labelled.json", "--image-root", place / "pool"),
            *("-o", tmp_path / "all.csv", "--json"),
        )[0]
    )
    assert list(told["images"].values()) == [40, 10]


def test_what_cannot_be_joined_is_said_in_a_sentence(place, photo_folder, finished_run, tmp_path):
    export, pool = place / "labelled.json", place / "pool"

    def refused(error, sources, output=tmp_path / "all.csv"):
        with pytest.raises(error) as caught:
            join(sources, output, image_root=pool)
        return str(caught.value)

    assert refused(UsageError, [export]) == "1 source was given; at least 2 are expected to be joined."
    assert "ends in .csv is expected" in refused(UsageError, [photo_folder, export], tmp_path / "all.txt")
    assert "nowhere" in refused(UsageError, [photo_folder, tmp_path / "nowhere"])
    (tmp_path / "mine.csv").write_text("mine")
    assert "did not write it" in refused(UsageError, [photo_folder, export], tmp_path / "mine.csv")
    (pool / "numbers.csv").write_text("path,label\nchina/000.png,1.5\nflower/000.png,2.5\n")
    assert "Join sources of one kind." in refused(DataError, [pool / "numbers.csv", photo_folder])
    tasks = json.loads(export.read_text())
    for one in tasks:
        one["annotations"][0]["result"][0]["value"]["choices"] = ["flower"]
    export.write_text(json.dumps(tasks))
    known = photo_folder / "china" / "000.png"
    assert refused(DataError, [photo_folder, export]) == (
        f"{known} of {photo_folder} is labelled 'china', and the same image in {export} "
        f"({pool / 'china' / 'known.png'}) is labelled 'flower'. Correct one of them."
    )
    assert not (tmp_path / "all.csv").exists()
    assert open_run(finished_run.path)
