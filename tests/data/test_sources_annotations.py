"""COCO, Pascal VOC, Label Studio, CVAT and Roboflow: what an image shows is its label."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from test_sources_huggingface import images

from keras_transfer.data import load_data
from keras_transfer.errors import DataError

CATEGORIES = [{"id": 7, "name": "person"}, {"id": 3, "name": "car"}, {"id": 9, "name": "never"}]


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, logger="keras_transfer")
    return caplog


def coco(path: Path, shown: dict[str, list[int]], **changes) -> Path:
    """A file in COCO's form: which categories each image shows."""
    pictures = [{"id": i, "file_name": name, "height": 8, "width": 8} for i, name in enumerate(shown)]
    marks = [(i, number) for i, numbers in enumerate(shown.values()) for number in numbers]
    shapes = [
        {"id": k, "image_id": i, "category_id": number, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0,
         "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        for k, (i, number) in enumerate(marks)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"images": pictures, "annotations": shapes, "categories": CATEGORIES} | changes)
    )
    return path


def several(names: list[str]) -> dict[str, list[int]]:
    return {name: [[7], [3, 7, 7], [], [3]][i % 4] for i, name in enumerate(names)}


def single(names: list[str]) -> dict[str, list[int]]:
    return {name: [[7], [3, 3]][i % 2] for i, name in enumerate(names)}


def test_coco_as_it_is_downloaded(tmp_path, said):
    for at, split in enumerate(("train2017", "val2017")):
        names = images(tmp_path / split, 12, 100 * at)
        coco(tmp_path / "annotations" / f"instances_{split}.json", several(names))
        coco(tmp_path / "annotations" / f"person_keypoints_{split}.json", {name: [7] for name in names})
    table = load_data(tmp_path, test_fraction=0)
    assert table.label_mode == "multilabel" and table.classes == ("person", "car")
    assert [len(table.indices(split)) for split in ("train", "val")] == [12, 12]
    assert [table.label_text(i) for i in range(4)] == ["person", "person;car", "", "car"]
    assert table.images.name(0) == "train2017/0.png" and "has no images of never" in said.text


@pytest.mark.parametrize("given", ["folder", "file"])
def test_one_category_an_image_is_its_class(tmp_path, given):
    path = coco(tmp_path / "annotations" / "all.json", single(images(tmp_path / "images", 20)))
    table = load_data(tmp_path if given == "folder" else path)
    assert table.label_mode == "classes" and table.classes == ("person", "car") and len(table) == 20


def test_coco_of_roboflow(tmp_path):
    for at, split in enumerate(("train", "valid", "test")):
        coco(tmp_path / split / "_annotations.coco.json", single(images(tmp_path / split, 8, 100 * at)))
    assert [len(load_data(tmp_path).indices(split)) for split in ("train", "val", "test")] == [8, 8, 8]


def test_coco_with_missing_files(tmp_path):
    shown = single([*images(tmp_path, 20), "gone.png", "away.png"])
    path = coco(tmp_path / "all.json", shown)
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == (
        f"2 of 22 images in {tmp_path} cannot be used (9.1%, the limit is 5.0%): {tmp_path / 'gone.png'}: file not "
        f"found; {tmp_path / 'away.png'}: file not found. Repair or remove them, or raise the limit with --max-skipped."
    )
    assert len(load_data(tmp_path, max_skipped=0.1)) == 20
    coco(path, {"a.png": [7], "b.png": [3]})
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == (
        f"None of the 2 images that all.json names is in {tmp_path}, such as a.png. Put the images there, or say where "
        "they are (--image-root)."
    )


def test_several_categories_where_one_is_asked_for(tmp_path):
    path = coco(tmp_path / "all.json", several(images(tmp_path, 20)))
    with pytest.raises(DataError) as caught:
        load_data(tmp_path, label_mode="classes")
    assert str(caught.value) == (
        f"image '1.png' of {path} has 2 labels (car, person); expected one class an image. Use --task multilabel, or "
        "keep one."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"annotations": [{"id": 5, "image_id": 99, "category_id": 7}]}, "The annotation 5 in {path} has the image_id "
         "99, which is not in the file. Export it again."),
        ({"annotations": [{"id": 5, "image_id": 0, "category_id": 1}]}, "The annotation 5 in {path} has the "
         "category_id 1, which is not in the file. Export it again."),
        ({"images": [{"id": 1}]}, "Entry 0 of 'images' in {path} has no file_name."),
    ],
)  # fmt: skip
def test_coco_that_contradicts_itself(tmp_path, changes, expected):
    path = coco(tmp_path / "all.json", single(images(tmp_path, 4)), **changes)
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == expected.format(path=path)


def test_json_that_is_something_else_or_cut_off(tmp_path):
    images(tmp_path, 4)
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(
        DataError, match=r"a\.json is no COCO file: expected an object with the lists 'images'"
    ):
        load_data(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"images": [')
    with pytest.raises(
        DataError, match=r"a\.json is no JSON, or is cut off \(.*\)\. Export or copy it again\."
    ):
        load_data(tmp_path / "a.json")


def test_files_of_other_programs_leave_a_class_tree_as_it_is(tmp_path):
    for at, name in enumerate(("cat", "dog")):
        for file in images(tmp_path / name, 6, 100 * at):
            (tmp_path / name / file).with_suffix(".xml").write_text(
                "<annotation><object><name>x</name></object></annotation>"
            )
            (tmp_path / name / file).with_suffix(".json").write_text('{"camera": "x"}')
    (tmp_path / "notes.json").write_text("no json")
    (tmp_path / "notes.xml").write_text("no xml")
    assert load_data(tmp_path).classes == ("cat", "dog")


# --- Pascal VOC ---


def voc(path: Path, name: str, objects: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = "".join(f"<object><name>{one}</name><difficult>0</difficult></object>" for one in objects)
    path.write_text(f"<annotation><folder>x</folder><filename>{name}</filename>{inside}</annotation>")


def test_voc_with_its_image_sets(tmp_path):
    names = images(tmp_path / "JPEGImages", 20)
    for i, name in enumerate(names):
        voc(tmp_path / "Annotations" / f"{i}.xml", name, [["dog"], ["cat", "dog", "dog"]][i % 2])
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for split, rows in (("train", range(10)), ("val", range(10, 14)), ("trainval", range(14))):
        (sets / f"{split}.txt").write_text("".join(f"{i}\n" for i in rows))
    (sets / "cat_train.txt").write_text("0 -1\n")
    table = load_data(tmp_path, test_fraction=0)
    assert table.classes == ("cat", "dog") and table.label_mode == "multilabel"
    assert [len(table.indices(split)) for split in ("train", "val", "test")] == [10, 4, 0]


def test_voc_of_roboflow_beside_the_images(tmp_path):
    for at, split in enumerate(("train", "valid", "test")):
        for i, name in enumerate(images(tmp_path / split, 8, 100 * at)):
            voc(tmp_path / split / f"{i}.xml", name, [["dog"], ["cat"]][i % 2])
    table = load_data(tmp_path)
    assert table.label_mode == "classes" and [len(table.indices(s)) for s in ("train", "val", "test")] == [
        8,
        8,
        8,
    ]


def test_voc_that_is_cut_off(tmp_path):
    images(tmp_path / "JPEGImages", 2)
    voc(tmp_path / "Annotations" / "0.xml", "0.png", ["dog"])
    path = tmp_path / "Annotations" / "0.xml"
    path.write_text(path.read_text()[:40])
    with pytest.raises(
        DataError, match=r"0\.xml is no XML, or is cut off \(.*\)\. Export or copy it again\."
    ):
        load_data(tmp_path)


# --- labelling tools ---


def label_studio(names: list[str]) -> list[dict]:
    """As its JSON export: an upload gets a prefix, a local file an address."""
    tasks = []
    for i, name in enumerate(names):
        image = f"/data/upload/1/0a1b2c3d-{name}" if i % 2 else f"/data/local-files/?d=pictures%2F{name}"
        result = [{"type": "choices", "value": {"choices": [["Cat", "Dog"][i % 2]]}}]
        done = {"id": i, "was_cancelled": False, "result": result}
        tasks.append({"id": i, "data": {"image": image}, "annotations": [done] if i else []})
    return tasks


def test_label_studio_json(tmp_path, said):
    path = tmp_path / "project-1.json"
    path.write_text(json.dumps(label_studio(images(tmp_path / "pictures", 21))))
    for source in (path, tmp_path):
        table = load_data(source)
        assert table.classes == ("Cat", "Dog") and len(table) == 20
    assert "1 of 21 images in" in said.text and "no label, such as task 0 of" in said.text


@pytest.mark.parametrize("several", [False, True])
def test_label_studio_min_and_csv(tmp_path, several):
    names = images(tmp_path, 20)
    choices = [
        ["Cat", "Dog"][i % 2] if not several or i % 4 else {"choices": ["Cat", "Dog"]} for i in range(20)
    ]
    tasks = [
        {"image": f"/data/upload/1/{name}", "id": i, "choice": choice, "annotator": 1, "annotation_id": i}
        for i, (name, choice) in enumerate(zip(names, choices, strict=True))
    ]
    (tmp_path / "min.json").write_text(json.dumps(tasks))
    quoted = ['"' + json.dumps(c).replace('"', '""') + '"' if isinstance(c, dict) else c for c in choices]
    rows = [
        f"1,{i},{choice},{i},/data/upload/1/{name}"
        for i, (name, choice) in enumerate(zip(names, quoted, strict=True))
    ]
    (tmp_path / "project.csv").write_text("\n".join(["annotator,id,choice,annotation_id,image", *rows]))
    for name in ("min.json", "project.csv"):
        table = load_data(tmp_path / name)
        assert table.label_mode == ("multilabel" if several else "classes") and table.classes == (
            "Cat",
            "Dog",
        )
        assert len(table) == 20


def test_label_studio_regions_and_two_annotators(tmp_path):
    names = images(tmp_path, 20)
    tasks = label_studio(names)
    for i, task in enumerate(tasks):
        value = {"x": 1, "rectanglelabels": [["Car", "Bus"][i % 2]]}
        task["annotations"] = [{"result": [{"type": "rectanglelabels", "value": value}]}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tasks))
    assert load_data(path).classes == ("Bus", "Car")
    tasks.append({**tasks[0], "id": 99, "annotations": tasks[1]["annotations"]})
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(caught.value) == (
        f"'0.png' has the labels ('Car',) in task 0 of {path} and ('Bus',) in task 99 of {path}. Keep one annotation "
        "of each image."
    )


@pytest.mark.parametrize("kind", ["tag", "box"])
def test_cvat(tmp_path, kind):
    names = images(tmp_path / "images", 20)
    rows = "".join(
        f'<image id="{i}" name="{name}" subset="{["Train", "Validation"][i > 13]}" width="8" height="8">'
        f'<{kind} label="{["cat", "dog"][i % 2]}" source="manual"/><points label="dog"/></image>'
        for i, name in enumerate(names)
    )
    (tmp_path / "annotations.xml").write_text(
        f"<?xml version='1.0'?><annotations><version>1.1</version>{rows}</annotations>"
    )
    for source in (tmp_path, tmp_path / "annotations.xml"):
        table = load_data(source, test_fraction=0)
        assert table.label_mode == ("classes" if kind == "tag" else "multilabel")
        assert table.classes == ("cat", "dog") and [len(table.indices(s)) for s in ("train", "val")] == [
            14,
            6,
        ]


def test_two_images_of_one_name_that_a_path_does_not_tell_apart(tmp_path):
    for at, folder in enumerate(("a", "b")):
        images(tmp_path / folder, 4, 100 * at)
    coco(tmp_path / "all.json", {"0.png": [7]})
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == (
        "'0.png' is the name of 2 images: a/0.png, b/0.png. Give paths that tell them apart."
    )


def test_multiclass_csv_of_roboflow(tmp_path):
    for at, split in enumerate(("train", "valid", "test")):
        rows = [f"{name}, {i % 2}, 1" for i, name in enumerate(images(tmp_path / split, 8, 100 * at))]
        (tmp_path / split / "_classes.csv").write_text("\n".join(["filename, Cat, Dog", *rows]))
    table = load_data(tmp_path)
    assert table.label_mode == "multilabel" and table.classes == ("Cat", "Dog")
    assert [len(table.indices(s)) for s in ("train", "val", "test")] == [8, 8, 8]
