"""``predict --backbone``: a pretrained network by name, without training and without a network connection."""

import json

import pytest
from PIL import Image

from keras_transfer.testing.command import call


@pytest.fixture(scope="module")
def coffee(tmp_path_factory):
    data = pytest.importorskip("skimage.data", reason="scikit-image (extra: test) brings the photograph")
    path = tmp_path_factory.mktemp("cup") / "coffee.png"
    Image.fromarray(data.coffee()).save(path)
    return path


@pytest.mark.slow
def test_a_photograph_is_named(coffee, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    out, err = call("predict", "--backbone", "EfficientNetLite0", coffee, bad, "--top", "1", code=1)
    assert "espresso" in out and "cup" not in out.partition(":")[2] and "bad.png" in err
    (answer,) = json.loads(
        call("predict", "--backbone", "efficientnet_lite0", coffee, "--image-size", "160", "--json")[0]
    )
    assert answer["classes"][0]["label"] == "espresso" and len(answer["classes"]) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--backbone", "efficientnet_lite9", "a.png"], 2, "Did you mean"),
        (["--backbone", "efficientnet_lite0", "nowhere.png"], 2, "nowhere.png"),
        (["--backbone", "path:mine.keras", "a.png"], 2, "Give it as MODEL: mine.keras"),
        (["run", "a.png", "--resize", "crop"], 2, "--resize is for a pretrained network"),
        (["only.png"], 2, "--backbone NAME"),
        (["--backbone", "mobilenet_v2", "--offline", "{coffee}"], 1, "tf_dim_ordering_tf_kernels_1.0_224.h5"),
    ],
)
def test_mistakes_are_said_in_a_sentence(arguments, code, said, coffee, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    arguments = [argument.replace("{coffee}", str(coffee)) for argument in arguments]
    assert said in call("predict", *arguments, code=code)[1]
