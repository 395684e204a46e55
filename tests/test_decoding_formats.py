"""TIFF, AVIF and HEIC: upright, in [0, 255], in the package and in the script of a bundle; what is missing is said."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.decoding import ImageError, decode, image_size, orientation, verify
from keras_transfer.errors import DataError
from keras_transfer.export.standalone import classify

pillow_heif.register_heif_opener()
COMMAND = "pip install 'keras-transfer[formats]'"
TURNS = {1: lambda image: image, 3: lambda image: image[::-1, ::-1], 6: lambda image: np.rot90(image, -1)}


def written(path: Path, photo: np.ndarray, turned: int = 1) -> Path:
    """The picture, saved so that it stands upright when it is turned as ``turned`` says."""
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(photo).save(
        path, quality=95, exif=exif.tobytes()
    )  # of HEIC the encoder makes an irot of it
    return path


@pytest.mark.parametrize("suffix", [".tif", ".avif", ".heic"])
@pytest.mark.parametrize("turned", TURNS)
def test_upright_in_the_package_and_in_a_bundle(tmp_path, photos, suffix, turned):
    photo = photos["china"][:120, :81]
    path = written(tmp_path / f"a{suffix}", photo, turned)
    found, expected = decode(path), TURNS[turned](photo)
    assert found.shape == expected.shape == (*image_size(path), 3)
    assert np.abs(found.astype(int) - expected).mean() < (0.01 if suffix == ".tif" else 4)
    assert np.array_equal(np.asarray(classify.read_image(path)), found)
    assert orientation(path) == (1 if suffix == ".heic" else turned)
    verify(path.read_bytes())
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ImageError):
        decode(path)


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "L", "1"])
def test_modes_of_tiff(tmp_path, photos, mode):
    grey = photos["china"][:40, :40, 0]
    values = grey.astype(np.uint16) * 257 if mode == "I;16" else photos["china"][:40, :40]
    picture = Image.fromarray(values)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "a.tif")
    found = decode(tmp_path / "a.tif")
    assert found.shape == (40, 40, 3) and found.dtype == np.uint8
    if mode == "I;16":
        assert np.array_equal(found[..., 1], grey)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones((8, 8), np.float32), "floating-point pixels (mode F) have no fixed range"),
        (np.ones((8, 8), np.int32), "pixels of 32 bits, or with a sign, have no fixed range"),
    ],
)
def test_tiff_without_a_range(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "a.tif")
    assert str(caught.value) == reason
    with pytest.raises(classify.Problem, match="no fixed range"):
        classify.read_image(tmp_path / "a.tif")


def folder_with_heic(tmp_path, photos, count):
    for name, photo in photos.items():
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(photo[i : i + 16, :16]).save(tmp_path / name / f"{i}.png")
        for i in range(count):
            written(tmp_path / name / f"{i}.heic", photo[40 + i : 104 + i, :64])
    return tmp_path


def test_heic_is_one_of_the_images(tmp_path, photos):
    table = load_data(folder_with_heic(tmp_path, photos, 2))
    assert len(table) == 24 and table.skipped == ()


def test_without_the_package_heic_is_counted_and_the_command_is_said(tmp_path, photos, monkeypatch, caplog):
    folder = folder_with_heic(tmp_path, photos, 1)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    first, second = (folder / name / "0.heic" for name in ("china", "flower"))
    told = f"{first}: HEIC is read with pillow-heif: {COMMAND}; {second}: HEIC is read with pillow-heif: {COMMAND}"
    with pytest.raises(DataError) as caught:
        load_data(folder)
    assert str(caught.value) == (
        f"2 of 22 images in {folder} cannot be used (9.1%, the limit is 5.0%): {told}. Repair or remove them, or raise "
        f"the limit with --max-skipped. 2 of them are HEIC: {COMMAND}."
    )
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        assert len(load_data(folder, max_skipped=0.1)) == 20
    assert f"2 of them are HEIC: {COMMAND}." in caplog.text
    with pytest.raises(classify.Problem, match="HEIC is read with pip install pillow-heif"):
        classify.read_image(first)


def test_avif_of_an_old_pillow(tmp_path, photos, monkeypatch):
    path = written(tmp_path / "a.avif", photos["china"][:32, :32])
    monkeypatch.setattr("keras_transfer.decoding.features.check", lambda name: False)
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert str(caught.value) == "AVIF is read by Pillow 11.3 and newer: pip install --upgrade pillow"
