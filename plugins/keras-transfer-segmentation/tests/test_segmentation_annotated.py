"""Masks from COCO's annotations and from Pascal VOC's layout."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_segmentation.annotated import VOC_NAMES
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_segmentation.shapes import region
from PIL import Image

from keras_transfer.errors import DataError
from keras_transfer.paths import cache_dir

CATEGORIES = [{"id": 7, "name": "person"}, {"id": 3, "name": "car"}, {"id": 9, "name": "never"}]
SQUARE = [[2, 1, 6, 1, 6, 5, 2, 5]]
RUNS = {"size": [9, 11], "counts": "m05400MM03300007LM"}
"""Of pycocotools 2.0.11: rows 2 to 6 and columns 3 to 8 without (4, 5), and the pixel (0, 10)."""


def picture(path: Path, seed: int, height: int = 9, width: int = 11) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def coco(root: Path, name: str, shapes: list[list[dict]], below: str = "images", seed: int = 0) -> Path:
    """Images with these shapes each, and their file."""
    images, annotations = [], []
    for i, marks in enumerate(shapes):
        picture(root / below / f"{i}.png", seed + i)
        images.append({"id": i, "file_name": f"{i}.png", "height": 9, "width": 11})
        annotations += [{"image_id": i, "id": 100 * i + k, **mark} for k, mark in enumerate(marks)]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def shape(category: int, segmentation=SQUARE, **more) -> dict:
    return {"category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def test_a_region_is_the_pixels_with_their_centre_inside():
    expected = np.zeros((9, 11), bool)
    expected[1:5, 2:6] = True
    assert np.array_equal(region(SQUARE, 9, 11, "it"), expected)
    beyond = region([[-5, -5, 20, -5, 20, 3.4, -5, 3.4]], 9, 11, "it")
    assert beyond[:3].all() and not beyond[3:].any()
    two = region([*SQUARE, [8, 6, 10, 6, 10, 8, 8, 8]], 9, 11, "it")
    assert two.sum() == 20 and two[6:8, 8:10].all()


def test_run_lengths_are_those_of_the_coco_api():
    expected = np.zeros((9, 11), bool)
    expected[2:7, 3:9] = True
    expected[4, 5], expected[0, 10] = False, True
    assert np.array_equal(region(RUNS, 9, 11, "it"), expected)
    counts = [int(n) for n in np.diff(np.flatnonzero(np.diff(np.r_[2, expected.T.ravel(), 2])))]
    assert np.array_equal(region({"size": [9, 11], "counts": counts}, 9, 11, "it"), expected)


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (
            [[1, 2, 3, 4]],
            "The segmentation of it is neither polygons of three points and more nor run lengths.",
        ),
        (
            {"size": [9, 9], "counts": [81]},
            "The run lengths of it are of [9, 9] pixels, its image of [9, 11].",
        ),
        ({"size": [9, 11], "counts": [5]}, "The run lengths of it have 5 pixels, its image 99."),
    ],
)
def test_regions_that_are_none(segmentation, expected):
    with pytest.raises(DataError) as caught:
        region(segmentation, 9, 11, "it")
    assert str(caught.value) == expected


def test_coco_becomes_masks_once(tmp_path):
    small = [[3, 2, 5, 2, 5, 4, 3, 4]]
    shapes = [[shape(3, small), shape(7)], [shape(7, RUNS, iscrowd=1), shape(3)], [], [shape(7)]] * 3
    path = coco(tmp_path, "annotations/instances_all.json", shapes)
    pairs = load_pairs(tmp_path)
    assert pairs.classes.names == ("background", "person", "car") and len(pairs) == 12
    mask = pairs.mask(0)
    assert (
        mask[1, 2] == 1 and (mask[2:4, 3:5] == 2).all() and mask[0, 0] == 0
    )  # the small one lies on the large one
    assert pairs.mask(1)[0, 10] == 255 and not pairs.mask(2).any()
    made = sorted(cache_dir().glob("sources/*"))
    again = load_pairs(path)
    assert again.sha256 == pairs.sha256 and len(made) == 1
    assert sorted(cache_dir().glob("sources/*")) == made


def test_coco_with_a_models_classes(tmp_path):
    coco(tmp_path, "all.json", [[shape(7)], [shape(3)]] * 4)
    known = Classes(("background", "car", "bus", "person"))
    assert load_pairs(tmp_path, known).mask(0).max() == 3
    with pytest.raises(DataError) as caught:
        load_pairs(tmp_path, Classes(("background", "car")))
    assert str(caught.value) == (
        f"{tmp_path / 'all.json'} has the category 'person', which is none of the classes background, car. Leave it "
        "out, or name it alike."
    )


def test_coco_with_missing_files_and_with_boxes_alone(tmp_path):
    path = coco(tmp_path, "all.json", [[shape(7)], [shape(3)]] * 6)
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images in .* cannot be used .*5\.png: file not found"):
        load_pairs(tmp_path)
    assert len(load_pairs(tmp_path, max_skipped=0.1)) == 11
    coco(tmp_path, "all.json", [[{"category_id": 7, "bbox": [1, 1, 2, 2]}]] * 4)
    with pytest.raises(DataError) as caught:
        load_pairs(tmp_path)
    assert str(caught.value) == f"Not one annotation in {path} has a segmentation: boxes tell no pixels."


def test_splits_of_coco_files(tmp_path):
    for at, split in enumerate(("train", "valid", "test")):
        shapes = [[shape(7)], [shape(3)]] * 3
        coco(tmp_path, f"{split}/_annotations.coco.json", shapes, split, 100 * at)
    assert [len(load_pairs(tmp_path).indices(split)) for split in ("train", "val", "test")] == [6, 6, 6]


def voc(root: Path, count: int = 12) -> None:
    for i in range(count):
        picture(root / "JPEGImages" / f"{i}.png", i)
        mask = np.zeros((9, 11), np.uint8)
        mask[2:5, 2:5], mask[2, 2] = 8 if i % 2 else 15, 255
        if i < count - 2:
            (root / "SegmentationClass").mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / "SegmentationClass" / f"{i}.png")
        (root / "Annotations").mkdir(exist_ok=True)
        name = "cat" if i % 2 else "person"
        (root / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.png</filename><object><name>{name}</name></object></annotation>"
        )


def test_voc(tmp_path):
    voc(tmp_path)
    pairs = load_pairs(tmp_path)
    assert len(pairs) == 10 and pairs.classes.names == VOC_NAMES
    assert (
        pairs.classes.names[8] == "cat"
        and (pairs.mask(1)[3:5, 3:5] == 8).all()
        and pairs.mask(1)[2, 2] == 255
    )
    sets = tmp_path / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    for split, rows in (("train", range(6)), ("val", range(6, 9))):
        (sets / f"{split}.txt").write_text("".join(f"{i}\n" for i in rows))
    table = load_pairs(tmp_path, test_fraction=0)
    assert [len(table.indices(split)) for split in ("train", "val")] == [6, 3]


def test_voc_without_a_pair(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.png", 0)
    picture(tmp_path / "SegmentationClass" / "b.png", 1)
    with pytest.raises(DataError) as caught:
        load_pairs(tmp_path)
    assert str(caught.value) == (
        f"No image in {tmp_path / 'JPEGImages'} has a mask of its name in {tmp_path / 'SegmentationClass'}."
    )


def test_a_zip_of_pairs(tmp_path):
    voc(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "data").rglob("*.*")):
            archive.write(file, f"data/{file.relative_to(tmp_path / 'data').as_posix()}")
    assert load_pairs(tmp_path / "a.zip").sha256 == load_pairs(tmp_path / "data").sha256
