"""Golden images: small ones of every run, and one at camera size where the rule for large JPEGs is to be proven."""

import io
import json

import numpy as np
import pytest
from helpers_export import run_here, small_network
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.export import About, export_model, load_bundle
from keras_transfer.export.golden import write_images
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.verify import verify


@pytest.fixture(scope="module")
def camera(photos, tmp_path_factory):
    """Photos of 1,641 x 1,231 pixels as a table: JPEG, and one PNG in front of them."""
    folder = tmp_path_factory.mktemp("camera")
    for name, photo in photos.items():
        (folder / name).mkdir()
        large = Image.fromarray(photo).resize((1641, 1231), Image.Resampling.BICUBIC)
        for number in range(5):
            kind = "png" if (name, number) == ("china", 0) else "jpg"
            large.rotate(number).save(folder / name / f"{number}.{kind}")
    return load_data(folder, val_fraction=0.0, test_fraction=0.8, min_per_class=1)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_one_of_them_is_as_large_as_the_rule_takes(camera, tmp_path, resize):
    contract = Preprocessing((48, 64), resize)
    found = write_images(tmp_path, camera, np.arange(6), contract)
    assert [row["image"].rsplit(".")[-1] for row in found.rows] == ["png", "jpg", "png", "png", "png", "png"]
    large = found.encoded[1]
    with Image.open(io.BytesIO(large)) as picture:
        assert contract.jpeg_scale(picture.height, picture.width) == contract.jpeg_scale(1231, 1641) == 8
        assert picture.size != (1641, 1231) and picture.width % 8 and picture.height % 8
        assert dict(picture.getexif()) == {}
    assert len(large) < 300_000
    pixels = np.asarray(Image.open(tmp_path / found.rows[1]["input"]))
    assert np.array_equal(pixels, contract.load(large)) and np.array_equal(pixels, found.pixels[1])
    full = Preprocessing((48, 64), resize, decode="full").load(large)
    assert not np.array_equal(pixels, full)
    for row, content in zip(found.rows, found.encoded, strict=True):
        assert (tmp_path / row["image"]).read_bytes() == content
        if row["image"].endswith("png"):
            assert max(Image.open(io.BytesIO(content)).size) == 640


@pytest.mark.parametrize(
    "contract",
    [
        Preprocessing((48, 64), decode="full"),
        Preprocessing((48, 64), antialias=False),
        Preprocessing((640, 640)),
    ],
)
def test_where_nothing_is_scaled_all_are_small(camera, tmp_path, contract):
    found = write_images(tmp_path, camera, np.arange(3), contract)
    assert all(row["image"].endswith(".png") for row in found.rows)


@pytest.mark.slow
def test_a_bundle_of_camera_photos_proves_it_in_every_client(camera, tmp_path):
    network, side = small_network(), 96
    export_model(
        network,
        tmp_path / "edge",
        table=camera,
        preprocessing=Preprocessing((side, side)),
        allow_parity_failure=True,
        about=About("small network", weights_licence="none"),
    )
    bundle = load_bundle(tmp_path / "edge")
    (large,) = [row["image"] for row in bundle.golden()["images"] if row["image"].endswith(".jpg")]
    assert bundle.golden()["encoded"]["saved_model/"] is not None
    found = verify(tmp_path / "edge")
    assert found.passed and found.pixel_difference == 0
    out, _ = run_here(tmp_path / "edge", "--self-test")
    assert "pixels identical" in out
    run_here(tmp_path / "edge", tmp_path / "edge" / large)
    # A client that decodes in full is found out.
    info = json.loads((tmp_path / "edge/bundle.json").read_text())
    assert info["preprocessing"]["decode"] == "scaled"
    info["preprocessing"]["decode"] = "full"
    (tmp_path / "edge/bundle.json").write_text(json.dumps(info))
    assert verify(tmp_path / "edge").pixel_difference > 1
    _, err = run_here(tmp_path / "edge", "--self-test", code=1)
    assert "Pixels differ" in err
