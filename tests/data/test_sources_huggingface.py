"""Hugging Face's layouts without their library: folders with a table beside the images, and parquet shards."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from keras_transfer.data import find_images, load_data, parquet
from keras_transfer.data.forms import images_of
from keras_transfer.errors import DataError
from keras_transfer.paths import cache_dir

IMAGE = {"bytes": pyarrow.binary(), "path": pyarrow.string()}
NAMES = ["dog", "cat", "never"]


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, logger="keras_transfer")
    return caplog


def png(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def images(folder: Path, count: int, seed: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png(seed + i))
    return [f"{i}.png" for i in range(count)]


def schema(
    label: pyarrow.DataType, feature: dict | None, image: pyarrow.DataType | None = None
) -> pyarrow.Schema:
    """As ``datasets`` writes it: the features as JSON in the metadata."""
    features = {"image": {"_type": "Image"}, **({"label": feature} if feature else {})}
    kind = image or pyarrow.struct(IMAGE)
    return pyarrow.schema(
        [("image", kind), ("label", label)],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


CLASS_LABEL = {"names": NAMES, "_type": "ClassLabel"}


def shard(
    path: Path, labels: list, form: pyarrow.Schema, seed: int = 0, pictures: list | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        pictures = [{"bytes": png(seed + i), "path": f"{i}.png"} for i in range(len(labels))]
    pyarrow.parquet.write_table(pyarrow.table({"image": pictures, "label": labels}, schema=form), path)
    return path


CLASSES = schema(pyarrow.int64(), CLASS_LABEL)


def test_shards_with_class_names_and_splits_in_their_names(tmp_path, said):
    for at, name in enumerate(
        ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test")
    ):
        shard(tmp_path / "data" / f"{name}.parquet", [0, 1] * 4, CLASSES, 100 * at)
    (tmp_path / "README.md").write_text("a data set card")
    table = load_data(tmp_path)
    assert table.classes == ("dog", "cat") and table.source == str(tmp_path)  # the metadata's order
    assert [len(table.indices(split)) for split in ("train", "val", "test")] == [16, 8, 8]
    assert "has no images of never" in said.text
    assert [table.label_text(i) for i in range(3)] == ["dog", "cat", "dog"]
    assert table.images.load(9).shape == (8, 8, 3)
    assert table.images.describe(0).startswith(str(tmp_path))
    held = sorted(cache_dir().glob("sources/*/files"))
    assert len(held) == 1 and load_data(tmp_path).fingerprint() == table.fingerprint()
    assert sorted(cache_dir().glob("sources/*/files")) == held


def test_files_that_are_named_lie_beside_the_shard_wherever_it_is(tmp_path):
    for place in ("one", "two"):
        images(tmp_path / place, 20)
        rows = [{"bytes": None, "path": f"{i}.png"} for i in range(20)]
        shard(tmp_path / place / "all.parquet", [0, 1] * 10, CLASSES, pictures=rows)
        table = load_data(tmp_path / place / "all.parquet")
        assert {Path(table.images.describe(i)).parent for i in range(20)} == {tmp_path / place}


def test_names_of_classes_are_those_of_the_labels_whatever_surrounds_them(tmp_path, said):
    form = schema(pyarrow.int64(), {"names": ["zebra ", "ant"], "_type": "ClassLabel"})
    table = load_data(shard(tmp_path / "all.parquet", [0, 1] * 10, form))
    assert table.classes == ("zebra", "ant") and "has no images of" not in said.text


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    path, held = tmp_path / "a.parquet", []
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 20_000), np.uint8)
    with pyarrow.parquet.ParquetWriter(path, CLASSES) as writer:
        for group in noise:
            rows = [{"bytes": b"BM" + row.tobytes(), "path": None} for row in group]
            writer.write_table(pyarrow.table({"image": rows, "label": [0, 1] * 20}, schema=CLASSES))
    monkeypatch.setattr(
        parquet, "suffix_of", lambda content: held.append(pyarrow.total_allocated_bytes()) or ".bmp"
    )
    before = pyarrow.total_allocated_bytes()
    assert len(find_images(images_of(path)).images) == 800
    assert path.stat().st_size > 15e6 and max(held) - before < 5e6


def test_one_file_is_dealt_out(tmp_path):
    table = load_data(shard(tmp_path / "validation.parquet", [0, 1] * 10, CLASSES))
    assert {"train", "val", "test"} == set(table.splits)
    assert len(find_images(images_of(tmp_path / "validation.parquet")).images) == 20


@pytest.mark.parametrize(
    ("labels", "kind", "feature", "mode", "classes"),
    [
        ([[0, 1], [1], [0], [1, 0]] * 5, pyarrow.list_(pyarrow.int64()), {"feature": CLASS_LABEL, "_type": "List"},
         "multilabel", ("dog", "cat")),
        (["b", "a"] * 10, pyarrow.string(), {"dtype": "string", "_type": "Value"}, "classes", ("a", "b")),
        ([0.5, 1.5] * 10, pyarrow.float64(), {"dtype": "float64", "_type": "Value"}, "regression", ()),
    ],
)  # fmt: skip
def test_kinds_of_labels(tmp_path, labels, kind, feature, mode, classes):
    table = load_data(shard(tmp_path / "a.parquet", labels, schema(kind, feature)))
    assert table.label_mode == mode and table.classes == classes and len(table) == 20


def test_numbers_without_names_are_classes_in_the_order_of_numbers_and_that_is_said(tmp_path, said):
    path = shard(
        tmp_path / "a.parquet", [2, 10, 1] * 8, schema(pyarrow.int64(), {"dtype": "int64", "_type": "Value"})
    )
    assert load_data(path).classes == ("1", "2", "10")
    assert (
        f"The column 'label' of {path} holds numbers and no class names: the numbers are the names of the classes"
        in said.messages
    )


def test_images_that_are_only_named_are_read_where_they_are(tmp_path):
    images(tmp_path / "photos", 20)
    pictures = [{"bytes": None, "path": f"photos/{i}.png"} for i in range(20)]
    table = load_data(shard(tmp_path / "a.parquet", [0, 1] * 10, CLASSES, pictures=pictures))
    assert len(table) == 20 and Path(table.images.path(0)) == tmp_path / "photos" / "0.png"


def test_null_images_are_left_out_and_counted(tmp_path):
    pictures = [{"bytes": png(i), "path": None} for i in range(19)] + [None]
    path = shard(tmp_path / "a.parquet", [0, 1] * 10, CLASSES, pictures=pictures)
    with pytest.raises(DataError) as caught:
        load_data(path, max_skipped=0.01)
    assert str(caught.value) == (
        f"1 of 20 images in {path} cannot be used (5.0%, the limit is 1.0%): row 19 of {path}: no image. Repair or "
        "remove them, or raise the limit with --max-skipped."
    )
    assert len(load_data(path)) == 19


def test_rows_without_a_label_are_left_out(tmp_path, said):
    assert len(load_data(shard(tmp_path / "a.parquet", [0, 1, -1, None] * 5, CLASSES))) == 10
    assert f"10 of 20 images in {tmp_path / 'a.parquet'} have no label" in said.text


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"text": ["a"], "label": [1]},
            "{path} has no column of images (text: string, label: int64). Expected a struct of bytes and path, or "
            "binary, as Hugging Face's Image feature writes it.",
        ),
        (
            {
                "images": pyarrow.array(
                    [[{"bytes": b"1", "path": None}]], pyarrow.list_(pyarrow.struct(IMAGE))
                )
            },
            "The column 'images' of {path} has several images a row; expected one. Write one row for each image.",
        ),
        (
            {"image": pyarrow.array([None], pyarrow.struct(IMAGE)), "label": [1]},
            "Not one of the 1 rows of {path} has an image. Nothing can be done with it.",
        ),
        (
            {"image": pyarrow.array([None], pyarrow.struct(IMAGE)), "a": [1], "b": [2]},
            "{path} has no column of labels that can be told (image: struct<bytes: binary, path: string>, a: int64, b: "
            "int64). Call the one to be used 'label'.",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, columns, expected):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(caught.value) == expected.format(path=path)


def test_a_label_without_a_name_and_a_damaged_file(tmp_path):
    path = shard(tmp_path / "a.parquet", [0, 3], CLASSES)
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(caught.value) == (
        f"The label 3 in row 1 of {path} is none of the 3 classes that the metadata names."
    )
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(
        DataError, match=r"a\.parquet cannot be read as Parquet .*Copy or download it again\."
    ):
        load_data(path)


def test_some_shards_say_their_split_and_others_do_not(tmp_path):
    for name in ("train-0", "more"):
        shard(tmp_path / f"{name}.parquet", [0, 1], CLASSES)
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == (
        f"Of the 2 shards in {tmp_path}, some have a split in their name and others do not, such as more.parquet. Call "
        "all of them train-…, validation-… or test-…, or none."
    )


# --- imagefolder with metadata ---


def test_metadata_csv_and_jsonl_of_each_split(tmp_path):
    for at, split in enumerate(("train", "validation", "test")):
        names = images(tmp_path / split, 8, 100 * at)
        lines = [{"file_name": name, "label": "ab"[i % 2], "note": "x"} for i, name in enumerate(names)]
        if split == "train":
            rows = [f"{line['file_name']},{line['label']}" for line in lines]
            (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
        else:
            (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = load_data(tmp_path)
    assert table.classes == ("a", "b") and [len(table.indices(s)) for s in ("train", "val", "test")] == [
        8,
        8,
        8,
    ]
    assert table.images.name(0) == "test/0.png"


@pytest.mark.parametrize(
    ("labels", "mode", "classes"),
    [(["x", "y"], "classes", ("x", "y")), ([0, 10], "classes", ("0", "10")),
     ([["x", "y"], []], "multilabel", ("x", "y")),
     ([0.5, 1.5], "regression", ()), ([[0.5, 1], [2.5, 3]], "regression", ())],
)  # fmt: skip
def test_labels_of_a_jsonl(tmp_path, labels, mode, classes):
    lines = [{"file_name": name, "label": labels[i % 2]} for i, name in enumerate(images(tmp_path, 16))]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for source in (tmp_path, tmp_path / "metadata.jsonl"):
        table = load_data(source)
        assert table.label_mode == mode and table.classes == classes and len(table) == 16


def test_a_table_that_says_nothing_of_labels_leaves_the_class_folders(tmp_path):
    rows = ["file_name,text"]
    for name in ("a", "b"):
        rows += [f"{name}/{file},a picture" for file in images(tmp_path / name, 6, len(rows))]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    assert load_data(tmp_path).classes == ("a", "b")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"file_name": "0.png"}', "There is no 'label' in line 1 of {path}, but 'file_name'. Expected file_name and "
         "label."),
        ("[1]", "There is no JSON object in line 1 of {path}. Expected one for each image."),
        ('{"file_name": "../0.png", "label": 1}', "The file name '../0.png' in line 1 of {path} is no path below the "
         "folder of its table."),
        ('{"file_name": "0.png", "label": {"a": 1}}', "The label {{'a': 1}} in line 1 of {path} is neither text, nor a "
         "number, nor a list of them."),
        ('{"file_name": "9.png", "label": "a"}', "None of the 1 images that metadata.jsonl names is in {root}, such as "
         "9.png. Put the images there, or say where they are (--image-root)."),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_used(tmp_path, line, expected):
    images(tmp_path, 2)
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == expected.format(path=tmp_path / "metadata.jsonl", root=tmp_path)


@pytest.mark.nightly
def test_what_the_real_library_writes(tmp_path, photo_folder):
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    (tmp_path / "plain").symlink_to(photo_folder)
    made = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "plain"), cache_dir=str(tmp_path / "cache")
    )
    made = made["train"].map(lambda row: row, load_from_cache_file=False)
    made.cast_column("image", datasets.Image(decode=False)).cast_column("image", datasets.Image())
    made.to_parquet(str(tmp_path / "shards" / "train-00000-of-00001.parquet"))
    table = load_data(tmp_path / "shards")
    assert table.classes == ("china", "flower") and len(table) == 40
    assert sorted(table.sha256) == sorted(load_data(photo_folder).sha256)
