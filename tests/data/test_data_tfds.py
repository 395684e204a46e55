"""TFDS data sets, built here from the photographs; nothing asks the network."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import CacheError, DataError, OfflineError, UsageError
from keras_transfer.paths import cache_dir

pytestmark = pytest.mark.slow


def jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def crops(photos, count: int, seed: int) -> list[tuple[bytes, str]]:
    """``count`` encoded crops of each photograph, with their class."""
    generator = np.random.default_rng(seed)
    found = []
    for name in ("china", "flower"):
        for _ in range(count):
            y, x = generator.integers(0, 300), generator.integers(0, 500)
            found.append((jpeg(photos[name][y : y + 48, x : x + 64]), name))
    return found


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory, photos) -> Path:
    """A TFDS data directory with data sets of several forms, all of version 1.0.0."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    label = tfds.features.ClassLabel(names=["flower", "china", "never"])

    def write(
        name: str, features: dict, splits: dict[str, list[dict]], keys: tuple[str, str] | None = None, **how
    ):
        # Not through a builder's download_and_prepare: TFDS 4.9.10 imports importlib_resources there without
        # requiring it.
        folder = root / name / "1.0.0"
        folder.mkdir(parents=True)
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="tests"
        )
        info = tfds.core.DatasetInfo(
            builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=keys
        )
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=20, **how)
        writer.initialize_splits(list(splits))
        writer.add_examples(splits)
        writer.close_all()

    image = tfds.features.Image(encoding_format="jpeg")
    sizes = {"train": (12, 0), "validation": (3, 1), "test": (4, 2)}
    examples = {
        split: [{"image": io.BytesIO(content), "label": name} for content, name in crops(photos, *size)]
        for split, size in sizes.items()
    }

    def fresh(split: str) -> list[dict]:
        for example in examples[split]:
            example["image"].seek(0)
        return list(examples[split])

    write("with_splits", {"image": image, "label": label}, {split: fresh(split) for split in sizes})
    records = {split: fresh(split) for split in sizes}
    write("records", {"image": image, "label": label}, records, file_format="array_record")
    write("only_train", {"image": image, "label": label}, {"train": fresh("train")})
    write("one_odd_split", {"picture": image, "kind": label}, {"everything": fresh_keys(fresh("train"))})
    tags = tfds.features.Sequence(label)
    several = [
        {"image": e["image"], "tags": ["china", "flower"][: 1 + i % 2]} for i, e in enumerate(fresh("train"))
    ]
    write("tagged", {"image": image, "tags": tags}, {"train": several})
    numbers = [{"image": e["image"], "label": np.float32(i)} for i, e in enumerate(fresh("train"))]
    write("angles", {"image": image, "label": tfds.features.Scalar(np.float32)}, {"train": numbers})
    either = [{"image": e["image"], "label": "china", "place": e["label"]} for e in fresh("train")]
    write(
        "two_labels", {"image": image, "label": label, "place": label}, {"train": either}, ("image", "place")
    )
    write("which_label", {"image": image, "here": label, "there": label}, {"train": twice(fresh("train"))})
    withheld = [{"image": e["image"], "label": -1} for e in fresh("test")]
    write("withheld", {"image": image, "label": label}, {"train": fresh("train"), "test": withheld})
    write("no_label", {"image": image}, {"train": [{"image": e["image"]} for e in fresh("train")]})
    return root


def twice(examples: list[dict]) -> list[dict]:
    return [{"image": e["image"], "here": e["label"], "there": "china"} for e in examples]


def fresh_keys(examples: list[dict]) -> list[dict]:
    return [{"picture": example["image"], "kind": example["label"]} for example in examples]


def test_its_own_splits_are_kept(tfds_dir, photos, caplog):
    table = load_data("tfds:with_splits", tfds_data_dir=tfds_dir)
    assert table.source == "tfds:with_splits" and table.label_mode == "classes"
    assert table.classes == ("flower", "china")  # the data set's own order, without the unused class
    assert "no images of never" in caplog.text
    assert [len(table.indices(split)) for split in ("train", "val", "test")] == [24, 6, 8]
    given = {
        split: crops(photos, *size)
        for split, size in {"train": (12, 0), "val": (3, 1), "test": (4, 2)}.items()
    }
    for split, examples in given.items():  # the encoded bytes are the originals
        contents = sorted(content for content, _ in examples)
        assert sorted(table.images.path(i).read_bytes() for i in table.indices(split)) == contents
        by_content = dict(examples)
        for i in table.indices(split):
            assert by_content[table.images.path(i).read_bytes()] == table.classes[table.labels[i]]


def test_a_data_set_in_array_records_is_the_same(tfds_dir):
    pytest.importorskip("array_record")
    one, other = (load_data(f"tfds:{name}", tfds_data_dir=tfds_dir) for name in ("with_splits", "records"))
    assert one.classes == other.classes

    def rows(table):  # shards are read in another order
        return sorted(zip(table.sha256, table.labels.tolist(), table.splits.tolist(), strict=True))

    assert rows(one) == rows(other)


def test_images_are_stored_once_by_their_hash(tfds_dir):
    table = load_data("tfds:with_splits:1.0.0", tfds_data_dir=tfds_dir)
    files = sorted((cache_dir() / "images").rglob("*.*"))
    assert {file.stem for file in files} == set(table.sha256)
    assert all(file.suffix == ".jpg" and file.parent.name == file.stem[:2] for file in files)
    written = [file.stat().st_mtime_ns for file in files]
    again = load_data("tfds:with_splits", tfds_data_dir=tfds_dir)
    assert again.fingerprint() == table.fingerprint() and (again.splits == table.splits).all()
    assert [file.stat().st_mtime_ns for file in files] == written
    files[0].write_bytes(b"damaged")
    assert len(load_data("tfds:with_splits", tfds_data_dir=tfds_dir, max_skipped=0)) == len(table)


def test_missing_splits_are_carved_out(tfds_dir):
    counts = load_data("tfds:only_train", tfds_data_dir=tfds_dir).summary()["splits"]
    assert [counts[split]["images"] for split in ("train", "val", "test")] == [15, 4, 5]


def test_features_are_found_by_their_type_and_an_odd_split_is_divided(tfds_dir):
    table = load_data("tfds:one_odd_split", tfds_data_dir=tfds_dir)
    assert len(table) == 24 and {"train", "val", "test"} == set(table.splits.tolist())


def test_several_labels(tfds_dir):
    table = load_data("tfds:tagged", tfds_data_dir=tfds_dir)
    assert table.label_mode == "multilabel" and table.classes == ("flower", "china")
    assert sorted(table.labels.sum(axis=1).tolist()) == [1] * 12 + [2] * 12


def test_numbers(tfds_dir):
    table = load_data("tfds:angles", tfds_data_dir=tfds_dir)
    assert table.label_mode == "regression" and sorted(table.labels[:, 0].tolist()) == list(
        map(float, range(24))
    )


def test_the_supervised_key_decides_between_two_labels(tfds_dir):
    table = load_data("tfds:two_labels", tfds_data_dir=tfds_dir)
    assert np.bincount(table.labels).tolist() == [12, 12]
    with pytest.raises(DataError, match=r"has several \(here, there\)"):
        load_data("tfds:which_label", tfds_data_dir=tfds_dir)


def test_images_without_their_labels_are_noted(tfds_dir):
    table = load_data("tfds:withheld", tfds_data_dir=tfds_dir)
    assert len(table) == 24 and {"train", "val", "test"} == set(table.splits.tolist())
    assert [(skip.reason, skip.counted) for skip in table.skipped] == [("no label", False)] * 8


def test_given_classes(tfds_dir):
    table = load_data("tfds:with_splits", tfds_data_dir=tfds_dir, classes=["china", "flower", "fox"])
    assert table.classes == ("china", "flower", "fox")
    with pytest.raises(DataError, match="Unknown label 'flower'"):
        load_data("tfds:with_splits", tfds_data_dir=tfds_dir, classes=["china", "fox"])


def test_a_data_set_without_a_label(tfds_dir):
    with pytest.raises(DataError, match=r"a class label among its features \(image\), and has none"):
        load_data("tfds:no_label", tfds_data_dir=tfds_dir)


def test_labels_of_another_kind(tfds_dir):
    with pytest.raises(UsageError, match="has class labels"):
        load_data("tfds:with_splits", tfds_data_dir=tfds_dir, label_mode="regression")


@pytest.mark.parametrize("name", ["mnist", "unheard_of", "with_splits:2.0.0"])
def test_offline_and_not_there(tfds_dir, name):
    with pytest.raises(OfflineError) as caught:
        load_data(f"tfds:{name}", tfds_data_dir=tfds_dir)
    for part in (name, str(tfds_dir / name.split(":")[0]), "--tfds-data-dir", "KERAS_TRANSFER_OFFLINE"):
        assert part in str(caught.value)


def test_an_unknown_name_online(tfds_dir, monkeypatch):
    monkeypatch.setenv("KERAS_TRANSFER_OFFLINE", "0")
    with pytest.raises(UsageError, match="no TFDS data set 'unheard_of'"):
        load_data("tfds:unheard_of", tfds_data_dir=tfds_dir)


def test_a_full_cache_disk_is_said(tfds_dir, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match="cannot be written"):
        load_data("tfds:with_splits", tfds_data_dir=tfds_dir)


def test_a_damaged_data_set_is_an_error(tfds_dir, tmp_path):
    shutil.copytree(tfds_dir / "only_train", tmp_path / "only_train")
    for record in (tmp_path / "only_train").rglob("*tfrecord*"):
        record.write_bytes(record.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        load_data("tfds:only_train", tfds_data_dir=tmp_path)
