"""Pairs from TFDS, in the layout of the Oxford pets; written here, nothing asks the network."""

from __future__ import annotations

import io

import numpy as np
import pytest
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.pairs import load_pairs
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_transfer.errors import DataError, UsageError

pytestmark = pytest.mark.slow
PETS = Classes(("none", "pet", "background", "border"))


def encoded(pixels, kind):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    content.seek(0)
    return content


def examples(count, seed):
    """Crops of a photograph; where it is red there is a pet (1), else background (2), and between them a border (3)."""
    photo, rng = load_sample_image("flower.jpg"), np.random.default_rng(seed)
    for number in range(count):
        y, x = rng.integers(0, 300), rng.integers(0, 500)
        crop = photo[y : y + 40, x : x + 48]
        redness = crop[..., 0].astype(int) - crop[..., 1]
        mask = np.select([redness > 60, redness < 20], [1, 2], 3).astype(np.uint8)
        mask[:2, :2] = np.array([[1, 2], [2, 3]])  # all three are in every crop
        yield (
            {
                "image": encoded(crop, "JPEG"),
                "label": number % 2,
                "file_name": f"pet_{number}",
                "segmentation_mask": encoded(mask, "PNG"),
            },
            mask,
        )


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A TFDS data directory, and the masks by split."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    image = tfds.features.Image(encoding_format="jpeg")
    mask = tfds.features.Image(shape=(None, None, 1), use_colormap=True)
    features = {
        "image": image,
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "file_name": tfds.features.Text(),
        "segmentation_mask": mask,
    }
    masks = {}

    def write(name, features, keep, keys=("image", "label")):
        folder = root / name / "1.0.0"
        folder.mkdir(parents=True)
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="tests"
        )
        info = tfds.core.DatasetInfo(
            builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=keys
        )
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=20)
        writer.initialize_splits(["train", "test"])
        for split, count in (("train", 10), ("test", 4)):
            made = list(examples(count, count))
            masks[split] = [mask for _, mask in made]
            writer.add_examples({split: [{key: row[old] for key, old in keep.items()} for row, _ in made]})
        writer.close_all()

    write("pets", features, {key: key for key in features})
    write("no_mask", {"image": image}, {"image": "image"}, None)
    two = {"image": image, "one": mask, "other": mask}
    write(
        "two_masks", two, {"image": "image", "one": "segmentation_mask", "other": "segmentation_mask"}, None
    )
    return root, masks


def test_pets_keep_their_splits_and_their_masks(pets):
    root, masks = pets
    pairs = load_pairs("tfds:pets", tfds_data_dir=root, val_fraction=0.2)
    assert pairs.classes.names == ("class_0", "class_1", "class_2", "class_3")
    assert [len(pairs.indices(split)) for split in ("train", "val", "test")] == [8, 2, 4]
    assert pairs.pixels[:, 0].sum() == 0 and (pairs.pixels[:, 1:] > 0).all()
    test = pairs.indices("test")
    for i, expected in zip(test, masks["test"], strict=True):
        image, mask = pairs.load(int(i))
        assert image.shape == (40, 48, 3) and np.array_equal(mask, expected)
    assert load_pairs("tfds:pets:1.0.0", PETS, tfds_data_dir=root).classes == PETS


def test_what_has_no_mask_is_said(pets):
    root, _ = pets
    with pytest.raises(
        DataError, match=r"no_mask.* should have a mask \(an image of one channel\).* has none"
    ):
        load_pairs("tfds:no_mask", tfds_data_dir=root)
    with pytest.raises(DataError, match=r"several \(one, other\)"):
        load_pairs("tfds:two_masks", tfds_data_dir=root)
    with pytest.raises(UsageError, match="expected tfds:NAME"):
        load_pairs("tfds:a b", tfds_data_dir=root)


@pytest.mark.nightly
@pytest.mark.usefixtures("eagerly")
def test_a_training_from_tfds_is_evaluated_again(pets, tmp_path):
    import json

    from keras_transfer.testing.command import call

    root, _ = pets
    arguments = ["train", "tfds:pets", "--task", "segmentation", "--tfds-data-dir", str(root)]
    arguments += [
        "--output",
        str(tmp_path / "run"),
        "--backbone",
        "tiny",
        "--image-size",
        "32",
        "--strategy",
        "probe",
    ]
    arguments += ["--epochs", "1", "--quiet", "--class-weights", "balanced", "--own-size"]
    call(*arguments)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    weights = info["training"]["class_weights"]
    assert weights["class_0"] == 0 and weights["class_3"] > weights["class_2"]
    printed, _ = call("evaluate", tmp_path / "run", "--json")
    found = json.loads(printed)
    assert found["images"] == 4 and 0 < found["own_size_mean_iou"] < 1
    assert found["mean_iou"] == info["metrics"]["test"]["mean_iou"]
