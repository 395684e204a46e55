"""``describe``: a backbone, a file, two side by side, a picture."""

import json

import keras
import pytest
from PIL import Image

import keras_transfer as ktr
from keras_transfer.testing.command import call


@pytest.mark.slow
def test_a_backbone_block_by_block_and_layer_by_layer(tmp_path):
    picture = tmp_path / "cost.png"
    out, _ = call("describe", "efficientnet_lite0", "--output", picture)
    assert "block6a" in out and "383.9 M multiply-adds" in out and "3.4 M parameters" in out
    with Image.open(picture) as drawn:
        assert drawn.width > 800 and len(drawn.getcolors(1 << 24)) > 3
    assert "block3a_dwconv" in call("describe", "tiny", "--layers")[0]
    found = json.loads(call("describe", "tiny", "--image-size", "96", "--json")[0])
    assert found["input_shape"] == [96, 96, 3] and found["layers"][-1]["output_shape"] == [3, 3, 64]
    assert found["totals"]["multiply_adds"] == sum(row["multiply_adds"] for row in found["blocks"])


@pytest.mark.slow
def test_two_networks_side_by_side(tmp_path):
    picture = tmp_path / "both.png"
    out, _ = call("describe", "vgg16", "mobilenet", "-o", picture)
    assert "0.037 x" in out and picture.is_file()
    rows = json.loads(call("describe", "tiny", "vgg16", "--json")[0])["comparison"]
    (macs,) = [row for row in rows if row["what"] == "multiply_adds"]
    assert macs["ratio"] == macs["second"] / macs["first"]


@pytest.mark.nightly
def test_a_model_in_a_file_and_from_python(tmp_path):
    model = ktr.add_head(ktr.load_backbone("mobilenet_v3_small", weights="none", image_size=64), 3)
    model.save(tmp_path / "mine.keras")
    found = json.loads(call("describe", tmp_path / "mine.keras", "--json")[0])
    assert found == json.loads(json.dumps(ktr.describe(model).to_dict()))
    assert found["layers"][-2]["multiply_adds"] == 576 * 3
    assert "Squeeze-and-excitation" in str(ktr.describe(model))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mobilenet_v9"], "Did you mean mobilenet_v2"),
        (["mobilenet", "--image-size", "8"], "at least 32"),
        (["missing.keras"], "There is no file missing.keras"),
        (["vgg16", "-o", "cost.txt"], ".png"),
    ],
)
def test_mistakes_are_said_in_a_sentence(arguments, said):
    assert said in call("describe", *arguments, code=2)[1]


def test_a_file_that_is_no_model_is_said(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    assert "broken.keras" in call("describe", tmp_path / "broken.keras", code=1)[1]
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.ReLU()]).save(tmp_path / "tiny.keras")
    assert "ReLU" in call("describe", tmp_path / "tiny.keras", "--layers")[0]


def test_every_file_that_can_be_a_backbone_can_be_looked_into(tmp_path):
    """What names a layer to cut at says that describe lists them: it does, whatever the form of the file."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="mine")])
    model.save(tmp_path / "old.h5")
    for name in (tmp_path / "old.h5", f"path:{tmp_path / 'old.h5'}"):
        assert "mine" in call("describe", name, "--layers")[0]
    assert "no file" in call("describe", tmp_path / "nowhere.h5", code=2)[1]
    assert ".h5 file" in call("describe", f"path:{tmp_path}", code=2)[1]
