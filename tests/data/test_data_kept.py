"""A file is decoded once: the check keeps the pixels that something wants, as long as there is room."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_transfer import decoding
from keras_transfer.data import load_data
from keras_transfer.data.kept import KeptPixels, keep_pixels, new_kept
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.features import extract
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow import leaking
from keras_transfer.workflow.train import train

PIXELS = Preprocessing((32, 32))


@pytest.fixture
def camera(tmp_path, photos) -> Path:
    """Eight JPEG photos of two classes, large for a model of 32 pixels, never seen before."""
    for name, photo in photos.items():
        (tmp_path / "camera" / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.fromarray(photo[number : number + 400, 3 * number : 3 * number + 600])
            picture.save(tmp_path / "camera" / name / f"{number}.jpg")
    return tmp_path / "camera"


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """One entry for every decoding of a file, by whichever way."""
    seen: list[int] = []
    read = decoding._read

    def counting(content, *arguments, **values):
        seen.append(len(content))
        return read(content, *arguments, **values)

    monkeypatch.setattr(decoding, "_read", counting)
    return seen


def test_a_file_is_decoded_once_for_the_check_and_the_pixels(camera, decoded):
    table = load_data(camera, preprocessing=PIXELS)
    assert len(decoded) == 8
    kept = [table.images.load(i, PIXELS) for i in range(8)]
    assert len(decoded) == 8
    for i, pixels in enumerate(kept):
        assert np.array_equal(pixels, PIXELS.load(table.images.path(i)))
        pixels[:] = 0  # whoever gets pixels may change them
    assert table.images.load(3, PIXELS).any()
    assert np.array_equal(table.take([5, 2]).images.load(1, PIXELS), table.images.load(2, PIXELS))


def test_another_preprocessing_and_the_whole_image_are_decoded(camera, decoded):
    table = load_data(camera, preprocessing=PIXELS)
    decoded.clear()
    other = Preprocessing((32, 32), "crop")
    assert np.array_equal(table.images.load(0, other), other.load(table.images.path(0)))
    assert table.images.load(0).shape == (400, 600, 3)
    assert len(decoded) == 3


def test_what_is_known_to_be_good_is_not_decoded_by_the_check(camera, decoded):
    load_data(camera)
    decoded.clear()
    table = load_data(camera, preprocessing=PIXELS)
    assert decoded == []
    table.images.load(0, PIXELS)
    assert len(decoded) == 1


def test_the_check_keeps_its_promise(camera):
    """The same files are left out for the same reasons, whether pixels are kept or not."""
    cut = camera / "china" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:-4000])
    (camera / "china" / "2.jpg").write_bytes(b"no image")
    found = [load_data(camera, max_skipped=0.5, preprocessing=wanted) for wanted in (PIXELS, None)]
    reasons = [[(skip.path, skip.reason) for skip in table.skipped] for table in found]
    assert reasons[0] == reasons[1] and len(reasons[0]) == 2
    assert "truncated" in reasons[0][0][1]


def test_there_is_a_limit(camera, decoded):
    kept = KeptPixels(PIXELS, most=3 * 32 * 32 * 3)
    for name in "abcd":
        assert kept.full == (name == "d")
        kept.put(name, np.full((32, 32, 3), ord(name), np.uint8))
    assert kept.get("d", PIXELS) is None and kept.get("a", PIXELS).max() == ord("a")


def test_wishes_hold_inside_and_end(camera):
    assert new_kept() is None
    with keep_pixels(PIXELS):
        with keep_pixels(None):
            assert new_kept().preprocessing == PIXELS
        paths = sorted(camera.rglob("*.jpg"))
        assert unlabelled_table(paths, "photos").images.kept.preprocessing == PIXELS
    assert new_kept() is None


@pytest.mark.slow
def test_a_training_and_its_features_decode_each_file_once(camera, decoded, tmp_path, monkeypatch):
    """The probe, the whole of it: the check, the features, the test images, the page; and again, from the cache, none.

    Images that are likely to show the same are looked at once more; none is that likely here.
    """
    monkeypatch.setattr(leaking, "LIKELY", 1.1)
    settings = {"backbone": "tiny", "image_size": 64, "min_per_class": 1, "strategy": "probe"}
    train(camera, tmp_path / "first", **settings)
    assert len(decoded) == 8
    shutil.copytree(camera, tmp_path / "copy")
    decoded.clear()
    run = train(tmp_path / "copy", tmp_path / "second", **settings)
    # The check hashes alone, and the features are in the cache: the test images are looked at, and once more for the
    # page, which shows at most 16 of them.
    assert len(decoded) == 2 * run.record.data.images("test") <= 2 * 16
    assert run.record.contract.preprocessing.decode == "scaled"


@pytest.mark.slow
def test_features_are_the_same_from_kept_pixels(camera):
    from keras_transfer.backbones import load_backbone

    backbone = load_backbone("tiny", image_size=64)
    rules = Preprocessing((64, 64))
    kept = load_data(camera, preprocessing=rules)
    first = extract(kept, backbone, preprocessing=rules, engine="keras", cache=False).values
    second = extract(load_data(camera), backbone, preprocessing=rules, engine="keras", cache=False).values
    assert np.array_equal(first, second)
