"""``features``: which layer, which pooling, which form, on real crops."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_transfer import Preprocessing, load_backbone
from keras_transfer.testing.command import call

TINY = ("--backbone", "tiny", "--image-size", "64", "--engine", "keras")


@pytest.mark.slow
def test_a_level_with_gem_pca_and_half_precision_as_a_memory_map(photo_folder, tmp_path):
    output = tmp_path / "features.npy"
    common = (photo_folder, *TINY)
    chosen = ("--layer", "P4", "--pooling", "gem")
    facts = json.loads(
        call("features", *common, *chosen, "--pca", "8", "--dtype", "float16", "-o", output, "--json")[0]
    )
    assert (facts["dimensions"], facts["dtype"], facts["computed"]) == (8, "float16", 40)
    mapped = np.load(output, mmap_mode="r")
    assert isinstance(mapped, np.memmap) and mapped.shape == (40, 8) and mapped.dtype == np.float16
    rows = list(csv.DictReader((tmp_path / "features.csv").open()))
    assert len(rows) == 40 and {row["label"] for row in rows} == {"china", "flower"}

    # Plain Keras and NumPy, from the file of the first image to its numbers.
    backbone = load_backbone("tiny", image_size=64)
    middle = keras.Model(backbone.input, backbone.get_layer("block4a_activation").output)
    pixels = Preprocessing((64, 64)).load(photo_folder / rows[0]["path"]).astype("float32")[None]
    maps = np.asarray(middle(pixels))
    gem = (np.maximum(maps, 1e-6) ** 3).mean(axis=(1, 2)) ** (1 / 3)
    pca = np.load(tmp_path / "features.pca.npz")
    expected = (gem - pca["mean"]) @ pca["components"].T
    np.testing.assert_allclose(mapped[0], expected[0], atol=2e-3 * np.abs(expected).max())
    assert pca["explained_variance_ratio"].shape == (8,)

    again = json.loads(call("features", *common, *chosen, "-o", tmp_path / "whole.npz", "--json")[0])
    assert (again["cached"], again["dimensions"]) == (40, 32), "the cache holds what comes before the PCA"
    flat = json.loads(
        call("features", *common, "--pooling", "flatten", "-o", tmp_path / "flat.parquet", "--json")[0]
    )
    assert (flat["dimensions"], flat["computed"]) == (2 * 2 * 64, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layer", "block5b_ad"], "Did you mean block5b_add"),
        (["--pca", "4000"], "at most"),
        (["--pca", "0"], "at least 1"),
        (["--pooling", "median"], "median"),
    ],
)
def test_mistakes_are_said_in_a_sentence(arguments, said, photo_folder, tmp_path):
    assert said in call("features", photo_folder, *TINY, "-o", tmp_path / "f.npz", *arguments, code=2)[1]
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.slow
def test_no_file_is_replaced_unasked_and_the_data_never(photo_folder, tmp_path):
    """An array has its images in a CSV beside it: that must not be the CSV the images are listed in."""
    source = tmp_path / "mine.csv"
    listed = [f"{name}/{number:03d}.png,{name}" for name in ("china", "flower") for number in range(4)]
    source.write_text("\n".join(["path,label", *listed]) + "\n")
    before = source.read_text()
    small = ("--image-root", photo_folder, *TINY)
    for also in ((), ("--overwrite",)):
        said = call("features", source, *small, "-o", tmp_path / "mine.npy", *also, code=2)[1]
        assert "read from it" in said and source.read_text() == before
    (tmp_path / "other.csv").write_text("notes")
    assert "other.csv exists" in call("features", source, *small, "-o", tmp_path / "other.npy", code=2)[1]
    (tmp_path / "f.pca.npz").write_bytes(b"")
    assert (
        "f.pca.npz exists"
        in call("features", source, *small, "-o", tmp_path / "f.npz", "--pca", 2, code=2)[1]
    )
    call("features", source, *small, "-o", tmp_path / "f.npz", "--pca", 2, "--overwrite")
    assert np.load(tmp_path / "f.pca.npz")["components"].shape[0] == 2
