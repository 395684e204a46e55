"""``pick``: what the model doubts, different from one another, and nothing that is labelled already."""

import csv
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image, ImageOps
from sklearn.preprocessing import normalize

import keras_transfer as ktr
from keras_transfer.data import load_data
from keras_transfer.data.csv_file import listed_paths
from keras_transfer.errors import DataError, UsageError
from keras_transfer.run import Run, open_run


def crops(photo, count, seed, size=96):
    """Crops with something to see in them, which overlap by less than a half."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        top, left = rng.integers(0, photo.shape[0] - size), rng.integers(0, photo.shape[1] - size)
        apart = all(max(abs(top - y), abs(left - x)) > 35 for y, x in found)
        if apart and photo[top : top + size, left : left + size].std() > 30:
            found.append((top, left))
    return [photo[top : top + size, left : left + size] for top, left in found]


@pytest.fixture(scope="module")
def place(tmp_path_factory, photos):
    """``photos/`` (two classes, 12 images each), a run trained on them, and ``pool/`` with 24 other images."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "pool" / "deep").mkdir(parents=True)
    for name, photo in photos.items():
        (folder / "photos" / name).mkdir(parents=True)
        for number, crop in enumerate(crops(photo, 24, 3)):
            part = folder / "photos" / name if number % 2 else folder / "pool" / "deep"
            Image.fromarray(crop).save(part / f"{name}_{number:02d}.png")
    ktr.train(folder / "photos", folder / "run", strategy="probe", **SMALL)
    return folder


@pytest.fixture
def said(caplog):
    logger = logging.getLogger("keras_transfer")
    caplog.set_level(logging.INFO, logger="keras_transfer")
    before, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = before


def names(found):
    return [one.name for one in found.picks]


@pytest.mark.slow
def test_the_score_is_the_doubt_of_what_predict_answers(place):
    found = ktr.pick(place / "run", place / "pool", count=24)
    answers = {one["path"]: one["classes"] for one in ktr.predict(place / "run", [place / "pool"])}
    assert len(found.picks) == found.images == 24 and {one.path for one in found.picks} == set(answers)
    for one in found.picks:
        first, second = answers[one.path]
        assert one.expected == (first["label"],) and one.second == second["label"]
        assert one.probability == pytest.approx(first["probability"], abs=1e-4)
        assert one.margin == pytest.approx(first["probability"] - second["probability"], abs=1e-4)
        assert one.score == pytest.approx(1 - one.margin, abs=1e-4)
    assert [one.score for one in found.picks] == sorted((one.score for one in found.picks), reverse=True)
    plain = ktr.pick(place / "run", place / "pool", count=5, candidates=1)
    assert names(plain) == names(found)[:5]
    assert all(name.startswith("deep/") for name in names(found)) and found.root == place / "pool"


@pytest.mark.slow
def test_features_are_those_that_the_training_has_kept(place, photos, tmp_path):
    """Of the training images nothing is computed again, of the pool once."""
    run = ktr.train(place / "photos", tmp_path / "run", strategy="probe", **SMALL)
    assert ktr.pick(run, place / "pool", count=3).computed == 24
    first = ktr.pick(run, place / "pool", count=3)
    assert first.computed == 0
    assert names(first) == names(ktr.pick(run, place / "pool", count=3)), "the seed decides"


@pytest.mark.slow
def test_spread_is_the_greedy_cover_of_the_cached_features(place):
    run = open_run(place / "run")
    found = ktr.pick(run, place / "pool", count=4, by="spread")
    backbone = ktr.load_backbone("tiny", image_size=64)
    pixels = run.record.contract.preprocessing
    table = load_data(place / "photos", split_from=place / "run")
    learned = np.flatnonzero(table.splits != "test")
    paths = sorted((place / "pool" / "deep").iterdir())
    pool = np.stack([pixels.load(path) for path in paths]).astype(np.float32)
    from keras_transfer.inference.engines import pooled_model

    network = pooled_model(backbone, (64, 64))
    seen = network.predict(pool, verbose=0)
    known = ktr.extract(table, backbone, preprocessing=pixels, engine="keras", indices=learned).values
    middle = np.concatenate([seen, known]).mean(axis=0)
    values, others = normalize(seen - middle), normalize(known - middle)
    nearest = np.linalg.norm(values[:, None] - others[None], axis=2).min(axis=1)
    for one in found.picks:
        row = int(nearest.argmax())
        assert one.name == f"deep/{paths[row].name}" and one.score == pytest.approx(one.distance)
        nearest = np.minimum(nearest, np.linalg.norm(values - values[row], axis=1))


@pytest.mark.slow
def test_nothing_that_is_labelled_and_nothing_twice(place, tmp_path, said):
    """Copies of training images, copies in the pool, and other forms of either are passed over; bad files are told."""
    pool = tmp_path / "pool"
    shutil.copytree(place / "pool" / "deep", pool)
    trained = sorted((place / "photos" / "china").iterdir())
    for number in range(3):
        shutil.copy(trained[number], pool / f"known_{number}.png")
    original = pool / "flower_02.png"
    shutil.copy(original, pool / "again.png")
    Image.open(original).save(pool / "other_form.jpg", quality=92)
    ImageOps.mirror(Image.open(trained[5])).save(pool / "mirrored.png")
    (pool / "bad.png").write_bytes(b"")
    found = ktr.pick(place / "run", pool, count=26)
    assert (found.known, found.copies, found.images, found.near) == (3, 1, 26, 2)
    assert len(found.picks) == 24 and len(found.skipped) == 1 and "bad.png" in found.skipped[0]["path"]
    taken = set(names(found))
    assert "mirrored.png" not in taken and not any(name.startswith("known") for name in taken)
    assert len(taken & {"flower_02.png", "again.png", "other_form.jpg"}) == 1
    assert "3 of 30 images of" in said.text and "which are labelled: they are left out" in said.text
    assert "24 of 26 images are picked: all others show what these or training images show." in said.text
    with pytest.raises(UsageError) as caught:
        ktr.pick(place / "run", pool / "mirrored.png", count=1)
    assert str(caught.value) == (
        f"All 1 images of {pool / 'mirrored.png'} show what images of {place / 'run'} show. Give other images."
    )
    few = ktr.pick(place / "run", pool, count=5, by="spread")
    assert len(few.picks) == 5


@pytest.mark.slow
@pytest.mark.parametrize("by", ["entropy", "confidence", "gradient"])
def test_other_ways(place, by):
    found = ktr.pick(place / "run", [place / "pool"], count=6, by=by, candidates=2)
    assert len(set(names(found))) == 6 and found.by == by and found.near == 0
    assert [one.score for one in found.picks] == sorted((one.score for one in found.picks), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"strategy": "full", "epochs": 1, "guard": False},
        {"strategy": "scratch", "epochs": 1},
        {"strategy": "probe", "task_options": "svm"},
        {"strategy": "probe", "deploy": "int8"},
    ],
    ids=["full", "scratch", "svm", "int8"],
)
def test_a_run_whose_features_are_its_own(place, tmp_path, how):
    """A network that was trained whole gives its own features, computed once; any head's answer is that of predict."""
    if how.get("task_options"):
        from keras_transfer.tasks.specs import task_spec

        how = {**how, "task_options": task_spec("classification").options(head="svm")}
    run = ktr.train(place / "photos", tmp_path / "run", batch_size=8, **how, **SMALL)
    found = ktr.pick(run, place / "pool", count=24)
    answers = {one["path"]: one["classes"][0] for one in ktr.predict(run, [place / "pool"])}
    # predict runs the float network, of which an int8 backbone's features differ
    tolerance = 0.2 if "deploy" in how else 1e-3
    for one in found.picks:
        if one.margin > 2 * tolerance:
            assert one.expected == (answers[one.path]["label"],)
        assert one.probability == pytest.approx(answers[one.path]["probability"], abs=tolerance)
    assert ktr.pick(run, place / "pool", count=2).computed == 0


@pytest.mark.slow
def test_several_labels_and_numbers(finished, place, tmp_path):
    run = finished("multilabel")
    found = ktr.pick(run, place / "pool", count=4)
    answers = {one["path"]: one["labels"] for one in ktr.predict(run, [place / "pool"])}
    for one in found.picks:
        assert set(one.expected) == {row["label"] for row in answers[one.path]}
        assert one.second in found.names and 0 <= one.margin <= 1 and 0 <= one.score <= 1
    found.write(tmp_path / "labels")
    assert 'choice="multiple"' in (tmp_path / "labels" / "label_studio.xml").read_text()

    run = finished("regression")
    found = ktr.pick(run, place / "pool", count=4)
    assert found.by == "spread" and all(one.margin is None and one.probability is None for one in found.picks)
    assert [one.score for one in found.picks] == [one.distance for one in found.picks]
    written = {path.name for path in found.write(tmp_path / "numbers")}
    assert written == {"picks.csv", "picks.png"}
    with pytest.raises(UsageError) as caught:
        ktr.pick(run, place / "pool", count=4, by="margin")
    assert str(caught.value) == (
        f"--by margin was given, and {run.path} gives numbers, which tell nothing of doubt. Leave --by out: images far "
        "from the training images are picked."
    )


def annotated(tasks):
    """What Label Studio exports once somebody has agreed with every pre-annotation but the first."""
    done = []
    for number, one in enumerate(tasks):
        result = json.loads(json.dumps(one["predictions"][0]["result"]))
        if number == 0:
            result[0]["value"]["choices"] = ["flower"]
        annotation = {"id": number, "was_cancelled": False, "result": result}
        done.append({"id": number, "data": one["data"], "annotations": [annotation], "predictions": []})
    return done


@pytest.mark.slow
def test_the_round_through_label_studio(place, tmp_path):
    """Tasks out, an export back in: alone, and as CSV of a spreadsheet."""
    found = ktr.pick(place / "run", place / "pool", count=16)
    found.write(tmp_path / "picks")
    tasks = json.loads((tmp_path / "picks" / "label_studio.json").read_text())
    assert [one["predictions"][0]["result"][0]["value"]["choices"] for one in tasks] == [
        list(one.expected) for one in found.picks
    ]
    export = tmp_path / "project.json"
    export.write_text(json.dumps(annotated(tasks)))
    again = ktr.train(export, tmp_path / "again", image_root=str(place / "pool"), strategy="probe", **SMALL)
    table = load_data(export, image_root=place / "pool")
    labels = {table.images.name(row): table.label_text(row) for row in range(len(table))}
    assert labels.pop(found.picks[0].name) == "flower"
    assert labels == {one.name: one.expected[0] for one in found.picks[1:]}
    assert sum(again.record.data.images(split) for split in ("train", "val", "test")) == 16

    small = [
        {
            "id": number,
            **one["data"],
            "choice": one["predictions"][0]["result"][0]["value"]["choices"][0],
            "annotation_id": number,
        }
        for number, one in enumerate(tasks)
    ]
    (tmp_path / "min.json").write_text(json.dumps(small))
    table = load_data(tmp_path / "min.json", image_root=place / "pool")
    assert table.label_mode == "classes" and len(table) == 16

    rows = list(csv.DictReader((tmp_path / "picks" / "picks.csv").open(encoding="utf-8")))
    assert [row["path"] for row in rows] == names(found) and not any(row["label"] for row in rows)
    for row in rows:
        row["label"] = row["expected"]
    with (tmp_path / "filled.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = load_data(tmp_path / "filled.csv", image_root=place / "pool")
    assert len(table) == 16 and table.label_mode == "classes"


@pytest.mark.slow
def test_the_written_files_are_ours_and_nobody_elses(place, tmp_path):
    found = ktr.pick(place / "run", place / "pool", count=9)
    found.write(tmp_path / "picks")
    with Image.open(tmp_path / "picks" / "picks.png") as sheet:
        assert sheet.width > 1000 and np.ptp(np.asarray(sheet.convert("L"))) > 100
    found.write(tmp_path / "picks")  # once more
    (tmp_path / "picks" / "picks.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"picks\.csv exists, and this tool did not write it"):
        found.write(tmp_path / "picks")
    assert (tmp_path / "picks" / "picks.csv").read_text() == "mine"
    found.write(tmp_path / "picks", overwrite=True)


@pytest.mark.slow
def test_training_images_that_are_gone_are_told_and_can_be_given(place, tmp_path, said):
    shutil.copytree(place / "photos", tmp_path / "photos")
    run = ktr.train(tmp_path / "photos", tmp_path / "run", strategy="probe", **SMALL)
    before = ktr.pick(run, place / "pool", count=4)
    (tmp_path / "photos").rename(tmp_path / "moved")
    found = ktr.pick(run, place / "pool", count=4)
    assert "The picks are compared with one another, not with the training images: The data of" in said.text
    assert all(one.distance is None for one in found.picks)
    spread = ktr.pick(run, place / "pool", count=4, by="spread")
    assert len(set(names(spread))) == 4 and all(one.score is None for one in spread.picks)
    json.dumps(spread.to_dict(), allow_nan=False)
    assert names(ktr.pick(run, place / "pool", count=4, data=tmp_path / "moved")) == names(before)
    with pytest.raises(UsageError, match="nowhere"):
        ktr.pick(run, place / "pool", count=4, data=tmp_path / "nowhere")


@pytest.mark.slow
def test_what_cannot_be_picked_from_is_said_in_a_sentence(place, tmp_path):
    run, pool, photos = place / "run", place / "pool", place / "photos"

    def refused(*arguments, error=UsageError, **values):
        with pytest.raises(error) as caught:
            ktr.pick(*arguments, **values)
        return str(caught.value)

    assert refused(run, pool, count=0) == "--count 0 was given; at least 1 image is expected."
    assert refused(run, pool, count=2, candidates=0) == "--candidates 0 was given; at least 1 is expected."
    assert "Did you mean margin?" in refused(run, pool, count=2, by="margn")
    assert refused(run, pool, count=25) == (
        f"--count 25 was given, and {pool} has 24 images that could be labelled. Ask for at most 24."
    )
    assert refused(run, [pool, photos], count=25) == (
        f"--count 25 was given, and {pool}, {photos} has 24 images that could be labelled (24 more are the run's own, "
        "0 more are copies). Ask for at most 24."
    )
    assert refused(run, photos, count=1) == (
        f"All 24 images of {photos} are images of {run}, which are labelled. Give images that it does not know."
    )
    (tmp_path / "empty").mkdir()
    assert refused(run, tmp_path / "empty", count=1).startswith(f"{tmp_path / 'empty'} holds no image (")
    (tmp_path / "bad.png").write_bytes(b"")
    said = refused(run, tmp_path / "bad.png", count=1, error=DataError)
    assert said == f"There is no usable image in {tmp_path / 'bad.png'}. Nothing can be done with it."
    assert "no such folder" in refused(tmp_path / "nowhere", pool, count=1)
    opened = open_run(run)
    contract = dataclasses.replace(opened.record.contract, task="segmentation")
    other = Run(opened.path, opened.info, dataclasses.replace(opened.record, contract=contract))
    assert refused(other, pool, count=1) == (
        f"{run} is a run of the task segmentation; images can be picked for runs of classification, multilabel, "
        "regression."
    )


def test_a_list_of_images(tmp_path, photo_folder):
    china = photo_folder / "china"
    (tmp_path / "china").mkdir()
    shutil.copy(china / "000.png", tmp_path / "china")
    path = tmp_path / "list.csv"
    path.write_text(f"path,label\nchina/000.png,china\n{china / '001.png'},\nchina\\000.png,\n")
    assert listed_paths(path) == [tmp_path / "china" / "000.png", china / "001.png"]
    for text, told in {
        "name\na.png\n": f"{path} has no column 'path'. A list of images names it in its first line.",
        "path\n": f"{path} has no rows below its header. Expected one row for each image.",
        "path\na.png\n": (
            f"{tmp_path / 'a.png'}, in line 2 of {path}, is no file. Paths are relative to the list's folder."
        ),
        "path,label\n,cat\n": f"The path is empty in line 2 of {path}.",
    }.items():
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            listed_paths(path)
        assert str(caught.value) == told
