"""``similar``: crops of one photograph are nearest to one another, copies are found."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_transfer.testing.command import call

NETWORK = ("--backbone", "tiny", "--image-size", "96", "--engine", "keras")


@pytest.fixture(scope="module")
def album(tmp_path_factory, photo_folder):
    """Crops of two photographs in one folder, with a copy, a re-encoded one, and a file that is no image."""
    folder = tmp_path_factory.mktemp("album")
    for path in photo_folder.rglob("*.png"):
        shutil.copy(path, folder / f"{path.parent.name}_{path.name}")
    shutil.copy(folder / "china_003.png", folder / "copy.png")
    Image.open(folder / "flower_005.png").save(folder / "again.jpg", quality=90)
    (folder / "bad.png").write_bytes(b"")
    return folder


@pytest.mark.slow
def test_the_nearest_show_the_same_and_copies_are_found(album, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = (album, album / "china_000.png", album / "flower_000.png", "--top", "4", *NETWORK)
    found = json.loads(call("similar", *arguments, "--output", sheet, "--json")[0])
    assert found["images"] == 42 and "bad.png" in found["skipped"][0]["path"]
    for query, name in zip(found["queries"], ("china", "flower"), strict=True):
        near = [row["path"] for row in query["nearest"]]
        assert len(near) == 4 and query["path"] not in near
        assert sum(name in path or "again" in path for path in near) >= 3
        similarities = [row["similarity"] for row in query["nearest"]]
        assert similarities == sorted(similarities, reverse=True) and similarities[0] < 1
    pairs = {tuple(sorted(p[k].rsplit("/")[-1] for k in ("first", "second"))): p for p in found["duplicates"]}
    assert pairs["china_003.png", "copy.png"]["identical"]
    again = pairs["again.jpg", "flower_005.png"]
    assert again["similarity"] > 0.97 and not again["identical"]
    with Image.open(sheet) as drawn:
        assert drawn.width > 500 and np.ptp(np.asarray(drawn.convert("L"))) > 100
    out, _ = call("similar", album, *NETWORK, "--duplicates", "0.999")
    assert "identical" in out and "copy.png" in out


@pytest.mark.slow
def test_similarity_is_the_cosine_of_the_features(album, photo_folder, tmp_path):
    network = (*NETWORK, "--layer", "P3")
    arguments = (album, album / "china_001.png", "--top", "1", *network)
    near = json.loads(call("similar", *arguments, "--json")[0])["queries"][0]["nearest"][0]
    call("features", photo_folder, *network, "--output", tmp_path / "f.npz")
    stored = np.load(tmp_path / "f.npz")
    rows = {
        "_".join(path.split("/")[-2:]): row
        for path, row in zip(stored["paths"], stored["features"], strict=True)
    }
    one, other = rows["china_001.png"], rows[near["path"].split("/")[-1]]
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert near["similarity"] == pytest.approx(expected, abs=1e-5)


def test_mistakes_are_said_in_a_sentence(album, tmp_path):
    assert "nowhere" in call("similar", album / "nowhere", code=2)[1]
    assert "nowhere.png" in call("similar", album, album / "nowhere.png", code=2)[1]
    assert "QUERY" in call("similar", album, "--output", "sheet.png", code=2)[1]
    assert "bad.png" in call("similar", album, album / "bad.png", *NETWORK, code=1)[1]
