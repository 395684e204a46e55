"""The task through the core's own verbs: train, evaluate, predict, segment, export, verify; and its bad input."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.masks import read_mask
from keras_transfer_segmentation.metrics import SegmentationMetrics
from keras_transfer_segmentation.sample import photographs
from keras_transfer_segmentation.spec import SegmentationOptions
from keras_transfer_tests.strict import require_strict
from PIL import Image

from keras_transfer.cli import cli
from keras_transfer.litert import LiteRTModel
from keras_transfer.testing import conformance
from keras_transfer.testing.command import call

pytestmark = pytest.mark.slow
NAMES = ["--class-names", "other", "--class-names", "petals"]
ON_LITE0 = ["--task", "segmentation", "--image-size", "64", "--batch-size", "4", "--quiet", *NAMES]
TRAINING = ["--backbone", "tiny", *ON_LITE0]


@pytest.mark.usefixtures("eagerly")
@conformance(
    "segmentation",
    options=SegmentationOptions(architecture="fpn"),
    settings={"backbone": "tiny", "image_size": 32, "batch_size": 16, "strategy": "probe"},
)
def test_the_task_keeps_its_promises(check):
    check()


@conformance("segment")
def test_the_verb_keeps_its_promises(check):
    check()


@pytest.mark.nightly
@conformance("segmentation")
def test_the_task_keeps_its_promises_on_lite0(check):
    check()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """16 crops and their masks. Read-only: tests change a copy."""
    return photographs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["tiny", pytest.param("lite0", marks=pytest.mark.nightly)])
def street(request, data, tmp_path_factory):
    """A run and its bundle: of the tiny backbone, and nightly of EfficientNet-Lite0 in every format."""
    folder = tmp_path_factory.mktemp(request.param)
    training, more = (TRAINING, ["--format", "tflite"]) if request.param == "tiny" else (ON_LITE0, [])
    training = [*training, "--strategy", "probe", "--epochs", "10", "--augment", "light"]
    call("train", data, "-o", folder / "run", *training)
    precisions = ["--quantize", "float32", "--quantize", "int8"]
    call("export", folder / "run", "--to", folder / "edge", *precisions, *more, "--quiet")
    return folder


def test_a_decoder_learns_petals_and_the_run_tells_it(street):
    found = json.loads(call("evaluate", street / "run", "--json")[0])
    assert found["task"] == "segmentation" and found["mean_iou"] > 0.7
    assert "own_size_mean_iou" not in found
    assert set(found["per_class"]) == {"other", "petals"}
    assert {path.name for path in (street / "run" / "plots").iterdir()} == {
        "augmentation.png",
        "confusion_matrix.png",
        "examples.png",
        "learning_curves.png",
    }
    with Image.open(street / "run" / "plots" / "examples.png") as picture:
        assert picture.width >= 3 * 64
    with Image.open(street / "run" / "plots" / "augmentation.png") as picture:
        assert picture.size == (5 * 64, 4 * 64)
    info = json.loads((street / "run" / "run.json").read_text())
    assert info["training"]["augmentation"]["rotation"] == 0  # "light"
    assert info["plugin"]["distribution"] == "keras-transfer-segmentation"
    assert info["training"]["classes"]["names"] == ["other", "petals"]
    shown, _ = call("evaluate", street / "run")
    assert "boundary f1" in shown and "petals" in shown


def test_the_files_of_the_bundle_answer_like_the_run(street, data):
    whole = json.loads(call("evaluate", street / "run", data, "--split", "all", "--json")[0])
    found = json.loads(call("verify", street / "edge", data, "--split", "all", "--json")[0])
    assert found["passed"]
    rows = {row["file"]: row for row in found["artefacts"]}
    assert rows["model.tflite"]["agreement"] >= 0.999
    assert rows["model.tflite"]["mean_iou"] == pytest.approx(whole["mean_iou"], abs=1e-3)
    assert rows["model_int8.tflite"]["mean_iou"] >= whole["mean_iou"] - 0.01


@pytest.mark.nightly
@pytest.mark.usefixtures("eagerly")
def test_metrics_at_the_masks_own_size_are_those_of_the_masks_that_segment_writes(data, tmp_path):
    more = ["--strategy", "probe", "--image-size", "32", "--epochs", "1"]
    more += ["--own-size", "--resize", "crop", "--max-skipped", "0.1"]
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "images" / "15.png").write_text("no image")  # one of 16: tolerated
    call("train", tmp_path / "data", "-o", tmp_path / "run", *TRAINING, *more)
    assert "15.png" in (tmp_path / "run" / "skipped.csv").read_text()
    found = json.loads(
        call(
            "evaluate",
            tmp_path / "run",
            tmp_path / "data",
            "--split",
            "all",
            "--json",
            "--max-skipped",
            "0.1",
        )[0]
    )
    call("segment", tmp_path / "run", tmp_path / "data" / "images", "-o", tmp_path / "out", "--quiet", code=1)
    metrics, classes = (
        SegmentationMetrics(("other", "petals"), boundary_tolerance=None),
        Classes(("other", "petals")),
    )
    for path in sorted((tmp_path / "out").iterdir()):
        metrics.update(read_mask(tmp_path / "data" / "masks" / path.name, classes), read_mask(path, classes))
    assert found["images"] == 15
    for name in ("mean_iou", "mean_dice", "pixel_accuracy"):
        # A pixel on the fence may fall either way: one is asked in batches, the other image by image.
        assert found[f"own_size_{name}"] == pytest.approx(metrics.result()[name], abs=1e-4)


def test_areas_add_up(street, data):
    found = json.loads(call("predict", street / "edge" / "model.tflite", data / "images", "--json")[0])
    assert len(found) == 16
    for answer in found:
        assert sum(one["percent"] for one in answer["areas"]) == pytest.approx(100, abs=0.01)


def test_masks_are_written_at_the_size_of_the_image(street, data, tmp_path):
    photo = Image.fromarray(np.asarray(Image.open(data / "images" / "00.png")).repeat(2, axis=1))
    photo.save(tmp_path / "wide.png")
    classes = Classes(("other", "petals"))
    for arguments in ([], ["--tile"]):
        said, _ = call(
            "segment", street / "run", tmp_path / "wide.png", "-o", tmp_path / "out", *arguments,
            "--overlays", "--probabilities", "--json", "--quiet",
        )  # fmt: skip
        (told,) = json.loads(said)
        mask = read_mask(tmp_path / "out" / "wide.png", classes)
        assert mask.shape == (96, 192) and set(np.unique(mask)) == {0, 1}
        assert told["areas"]["petals"] == pytest.approx(100 * (mask == 1).mean(), abs=1e-3)
        with Image.open(tmp_path / "out" / "wide_overlay.png") as picture:
            assert picture.size == (192, 96)
        chances = np.load(tmp_path / "out" / "wide.npy")
        assert np.abs(chances.sum(axis=-1) - 1).max() < 1e-4
        assert chances.shape[:2] == ((96, 192) if arguments else (64, 64))


def script(edge, *arguments, code=0):
    """The bundle's script, in a process where neither TensorFlow nor this package can be imported."""
    start = (
        "import os, runpy, sys\n"
        "for name in ('tensorflow', 'keras', 'keras_transfer'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", start, edge / "segment.py", *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and "Traceback" not in done.stderr, (done.stdout, done.stderr)
    return done.stdout, done.stderr


@pytest.mark.nightly
def test_the_script_of_the_bundle_writes_the_masks_that_segment_writes(street, data, tmp_path):
    edge = street / "edge"
    assert script(edge, "--self-test")[0].endswith("passed\n")
    assert "python segment.py" in (edge / "README.md").read_text()
    photo = Image.fromarray(np.asarray(Image.open(data / "images" / "00.png")).repeat(2, axis=1))
    photo.save(tmp_path / "wide.png")
    said, _ = script(edge, tmp_path / "wide.png", "-o", tmp_path / "out")
    call(
        "segment",
        edge / "model.tflite",
        tmp_path / "wide.png",
        "-o",
        tmp_path / "in",
        "--overlays",
        "--quiet",
    )
    for name in ("wide.png", "wide_overlay.png"):
        with Image.open(tmp_path / "out" / name) as ours, Image.open(tmp_path / "in" / name) as theirs:
            assert ours.mode == theirs.mode and ours.getpalette() == theirs.getpalette()
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    mask = read_mask(tmp_path / "out" / "wide.png", Classes(("other", "petals")))
    assert f"petals {100 * (mask == 1).mean():.1f} %" in said
    (tmp_path / "again").mkdir()
    photo.save(tmp_path / "again" / "wide.png")
    _, said = script(
        edge, tmp_path / "wide.png", tmp_path / "again" / "wide.png", "-o", tmp_path / "out", code=1
    )
    assert "another image is called wide" in said
    _, said = script(edge, tmp_path / "wide.png", "-o", tmp_path / "wide.png", code=1)
    assert "cannot be written" in said
    assert json.loads(call("verify", edge, "--json")[0])["passed"]  # and nothing was left in the bundle


@pytest.mark.nightly
def test_the_script_of_the_bundle_replaces_masks_when_it_is_told_to_and_no_image_ever(street, data, tmp_path):
    edge, photos = street / "edge", tmp_path / "photos"
    photos.mkdir()
    photo, other = photos / "one.png", photos / "one_overlay.png"
    shutil.copy(data / "images" / "00.png", photo)
    shutil.copy(data / "images" / "01.png", other)
    before = photo.read_bytes(), other.read_bytes()
    out = tmp_path / "out"
    script(edge, photo, "-o", out)
    masks = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(masks) == {"one.png", "one_overlay.png"}
    for name in masks:
        (out / name).write_bytes(b"mine")
        _, said = script(edge, photo, "-o", out, code=1)
        assert "one.png is there already" in said and "--overwrite" in said
        assert (out / name).read_bytes() == b"mine"
        script(edge, photo, "-o", out, "--overwrite")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == masks
    for asked in ([photo], [photo, other], [other, photo]):
        _, said = script(edge, *asked, "-o", photos, "--overwrite", code=1)
        assert "is an image that was given, and is never replaced" in said
        assert (photo.read_bytes(), other.read_bytes()) == before


def test_what_cannot_be_segmented_is_said(street, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    said, _ = call(
        "segment", street / "run", tmp_path / "broken.png", "-o", tmp_path / "out", "--quiet", code=1
    )
    assert "broken.png" in said
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (64, 64)).save(tmp_path / folder / "one.png")
    _, said = call("segment", street / "run", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", code=2)
    assert "Two images are called one" in said


def test_a_dry_run_tells_the_decoder_and_what_the_backbone_learns(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["train", data, *TRAINING, "--epochs", "2", "--dry-run"]
    plans = {
        strategy: json.loads(call(*asked, "--strategy", strategy, *more, "--json")[0])
        for strategy, more in (("probe", []), ("finetune", ["--unfreeze", "blocks:1"]), ("full", []))
    }
    trained = {
        name: {row["block"] for row in plan["plan"][0]["blocks"] if row["trainable"]}
        for name, plan in plans.items()
    }
    assert trained["probe"] == {"head"} and trained["finetune"] == {"top", "head"}
    assert trained["full"] >= {"stem", "block3a", "top", "head"}
    costs = [plan["cost"]["training_multiply_adds"] for plan in plans.values()]
    assert 0 < costs[0] < costs[1] < costs[2] and plans["full"]["cost"]["complete"]
    assert plans["probe"]["network"]["outputs"] == [[None, 64, 64, 2]]
    shown, _ = call(*asked)
    assert "Classes: other, petals" in shown and "(B, 64, 64, 3) to (B, 64, 64, 2)" in shown
    assert not list(tmp_path.iterdir())
    for wrong, said in ((["--loss", "dize"], "dice"), (["--class-weights", "1,2,3"], "3 numbers")):
        assert said in call(*asked, *wrong, code=2)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--balance", "weights"],
            "--balance weights was given, and the task segmentation does not follow it",
        ),
        (
            ["--label-smoothing", "0.1"],
            "--label-smoothing 0.1 was given, and the task segmentation does not follow it",
        ),
        (["--deploy", "int8"], "--deploy int8 was given, and the task segmentation does not follow it"),
        (["--architecture", "unet-scratch", "--strategy", "probe"], "has no backbone"),
        (["--loss", "cross_entropy+dize"], "dice"),
        (["--class-weights", "heavy"], "--class-weights: 'heavy' was given"),
        (["--class-weights", "1,2,3"], "3 numbers and there are 2 classes"),
        (["--architecture", "unet++"], "unet"),
        (["--color-table", "nowhere.csv"], "nowhere.csv|color-table"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data, tmp_path, arguments, words):
    _, said = call("train", data, "-o", tmp_path / "run", *TRAINING, *arguments, code=2)
    assert re.search(words, said), said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: (data / "masks" / "03.png").unlink(), "03"),
        (lambda data: Image.new("L", (10, 10)).save(data / "masks" / "03.png"), "10"),
        (lambda data: Image.new("L", (96, 96), 7).save(data / "masks" / "03.png"), "7"),
        (lambda data: Image.new("RGB", (96, 96), (9, 9, 200)).save(data / "masks" / "03.png"), "colo"),
        (lambda data: Image.new("L", (96, 96), 255).save(data / "masks" / "03.png"), "03.png"),
    ],
)
def test_masks_that_cannot_be_are_refused(data, tmp_path, damage, words):
    shutil.copytree(data, tmp_path / "data")
    damage(tmp_path / "data")
    _, said = call("train", tmp_path / "data", "-o", tmp_path / "run", *TRAINING, code=1)
    assert words in said and not (tmp_path / "run").exists()


@pytest.mark.nightly
@pytest.mark.usefixtures("eagerly_and_nightly_in_graphs")
def test_an_interrupted_training_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    from keras_transfer.training import callbacks

    arguments = [data, *TRAINING, "--strategy", "finetune", "--unfreeze", "blocks:1"]
    arguments += ["--architecture", "fpn", "--image-size", "32", "--batch-size", "8"]
    arguments += ["--epochs", "2", "--augment", "standard"]
    genuine = callbacks.CloseEpoch.on_epoch_end

    def stop(self, epoch, logs=None):
        genuine(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.CloseEpoch, "on_epoch_end", stop)
        call("train", *arguments, "-o", tmp_path / "run", code=130)
    call("train", *arguments, "-o", tmp_path / "run")
    call("train", *arguments, "-o", tmp_path / "whole")
    import keras

    first, second = (
        keras.models.load_model(tmp_path / name / "model.keras").get_weights() for name in ("run", "whole")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["gradient"]["resumed_at"] > 0


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", ["fpn", "deeplab", "unet-scratch"])
def test_every_architecture_trains_and_exports(data, tmp_path, architecture):
    more = ["--architecture", architecture, "--epochs", "1", "--image-size", "32"]
    strategy = [] if architecture == "unet-scratch" else ["--strategy", "probe"]
    call("train", data, "-o", tmp_path / "run", *TRAINING, *more, *strategy)
    call("export", tmp_path / "run", "--to", tmp_path / "edge", "--format", "tflite", "--quiet")
    model = LiteRTModel(tmp_path / "edge" / "model.tflite")
    assert model.outputs[0].shape[1:] == (32, 32, 2)


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    keras-transfer (.*)$", README, re.MULTILINE)]


def test_the_commands_of_the_readme_are_understood():
    assert len(COMMANDS) == 5
    for verb, *arguments in COMMANDS:
        cli.get_command(click.Context(cli), verb).make_context("check", arguments)


@pytest.mark.nightly
def test_the_commands_of_the_readme_work(data, tmp_path, monkeypatch):
    """As they stand there, but for a small image and two epochs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, "data")
    shutil.copy(data / "images" / "00.png", "photo.jpg")
    for verb, *arguments in COMMANDS:
        call(verb, *arguments, *(["--image-size", "64", "--epochs", "2"] if verb == "train" else []))
    assert {path.name for path in Path("masks").iterdir()} == {"photo.png", "photo_overlay.png"}


@pytest.mark.parametrize("file", ["model.tflite", "model_int8.tflite"])
def test_a_real_client_opens_it_and_sees_the_same(street, data, file):
    """MediaPipe's image segmenter, on images at the model's size: same classes, same probabilities, labels by name."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    require_strict(street / "edge" / file, ("other", "petals"), "probabilities")
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(street / "edge" / file)),
        output_category_mask=True,
        output_confidence_masks=True,
    )
    ours = LiteRTModel(street / "edge" / file)
    with vision.ImageSegmenter.create_from_options(options) as client:
        assert list(client.labels) == ["other", "petals"]
        for path in sorted((data / "images").iterdir())[:8]:
            with Image.open(path) as picture:
                pixels = np.array(picture.convert("RGB").resize((64, 64)))
            found = client.segment(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
            expected = ours.predict(pixels[np.newaxis])[0]
            assert np.array_equal(found.category_mask.numpy_view().squeeze(), expected.argmax(axis=-1))
            for place, mask in enumerate(found.confidence_masks):
                assert np.abs(mask.numpy_view().squeeze() - expected[..., place]).max() < 1e-5
