"""The task through the core: train, evaluate, generate, interpolate, export, verify, going on."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_gan.features import metric_backbone
from keras_transfer_gan.generating import Maker, generate_images, interpolate_images
from keras_transfer_gan.spec import GanOptions
from keras_transfer_gan.standalone.generate import folder_names
from keras_transfer_gan.transfer import load_networks
from keras_transfer_tests.documents import understand
from keras_transfer_tests.strict import require_strict
from PIL import Image

from keras_transfer import load_data
from keras_transfer.backbones import load_backbone
from keras_transfer.errors import RunError, UsageError
from keras_transfer.export.bundle import load_bundle
from keras_transfer.run import open_run
from keras_transfer.testing import conformance
from keras_transfer.testing.command import call
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.train import train
from keras_transfer.workflow.verify import verify

pytestmark = pytest.mark.slow
SMALL = {"epochs": 2, "batch_size": 8, "val_fraction": 0.15, "test_fraction": 0.25}


def options(**values):
    return GanOptions(**{"width": 4, "noise_size": 8, **values})


@pytest.fixture(scope="module")
def run(tmp_path_factory, fashion_folder, cache):
    """A conditional run of two epochs."""
    target = tmp_path_factory.mktemp("runs") / "run"
    return train(
        fashion_folder, target, task="gan", task_options=options(conditional=True, measure_every=2), **SMALL
    )


@pytest.fixture(
    scope="module",
    params=[("keras", "tflite"), pytest.param(("keras", "saved-model", "tflite"), marks=pytest.mark.nightly)],
    ids=" ".join,
)
def bundle(request, run, tmp_path_factory, cache):
    target = tmp_path_factory.mktemp("bundles") / "edge"
    report = export_run(run, target, formats=request.param, precisions=("float32", "float16"))
    assert report.passed
    return target


def text_of(path):
    with Image.open(path) as picture:
        return picture.text


def test_a_run_measures_and_draws(run):
    metrics = run.info["metrics"]["test"]
    assert metrics["kid_lite0"] > metrics["kid_lite0_floor"]
    assert metrics["kid_lite0_error"] > 0
    assert metrics["fid_lite0"] is None  # 18 images, 1,280 features
    assert 0 <= metrics["discriminator_accuracy"] <= 1
    memorisation = run.info["training"]["memorisation"]
    assert memorisation["ratio"] > 0 and memorisation["made"] == 256
    assert memorisation["compared_with"] == run.info["data"]["splits"]["train"]["images"]
    rows = (run.path / "history.csv").read_text().splitlines()
    assert len(rows) == 3 and "kid_lite0" in rows[0]
    names = {path.name for path in (run.path / "plots").iterdir()}
    pictures = {
        "samples.png",
        "interpolation.png",
        "nearest_training_images.png",
        "curves.png",
        "training.gif",
    }
    assert pictures | {"training.webp", "epochs"} <= names
    with Image.open(run.path / "plots" / "training.gif") as picture:
        assert picture.n_frames == 2


def test_evaluating_a_run_again_gives_its_metrics(run, cache):
    found, recorded = evaluate(run), run.info["metrics"]["test"]
    assert {name: found[name] for name in recorded} == recorded


def test_the_same_seed_gives_the_same_pixels_marked_as_synthetic(run, tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    found = generate_images(run, first, count=7, seed=3, class_name="sneaker")
    generate_images(run, second, count=70, seed=3, class_name="sneaker")
    generate_images(run, third, count=7, seed=4, class_name="sneaker")
    assert found["folders"] == [str(first / "sneaker")]
    files = [sorted((folder / "sneaker").iterdir()) for folder in (first, second, third)]
    assert [len(names) for names in files] == [7, 70, 7]
    pixels = [[np.asarray(Image.open(name)) for name in names[:7]] for names in files]
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    text = text_of(files[0][0])
    assert text["Source"] == "synthetic" and "seed 3, image 0, class sneaker" in text["Comment"]
    assert (first / "contact_sheet.png").is_file()


def test_generated_folders_are_a_data_set_of_the_runs_classes(run, tmp_path):
    generate_images(run, tmp_path / "made", count=9)
    table = load_data(tmp_path / "made", val_fraction=0.0, test_fraction=0.0)
    assert table.classes == ("shirt", "sneaker", "trouser")
    assert np.bincount(table.labels).tolist() == [3, 3, 3]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_the_ways_between_images_are_drawn(run, tmp_path, suffix):
    path = tmp_path / f"way{suffix}"
    interpolate_images(run, path, steps=4, rows=2)
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == (1 if suffix == ".png" else 6)
    with pytest.raises(UsageError, match=r"\.png, \.gif or \.webp"):
        interpolate_images(run, tmp_path / "way.jpg")


def test_every_file_of_the_export_makes_the_same_images(run, bundle, fashion_folder, cache):
    loaded, maker = load_bundle(bundle), Maker(run)
    inputs = np.asarray(loaded.golden()["inputs"], np.float32)
    expected = maker.make(inputs)
    for one in loaded.artefacts:
        made = loaded.runtime(one.file).predict(inputs)
        assert made.shape == expected.shape
        assert np.abs(made - expected).max() <= (1 if one.precision == "float32" else 8)
    table = load_data(fashion_folder, val_fraction=0.0, test_fraction=0.4)
    few = table.take(table.indices("test"))
    found = verify(bundle, few, split="all")
    assert found.passed, [one.reasons for one in found.artefacts]
    alone = evaluate(bundle / "model.tflite", few, split="all")
    assert alone["kid_lite0"] == next(
        one.metrics["kid_lite0"] for one in found.artefacts if one.file == "model.tflite"
    )
    card = (bundle / "README.md").read_text()
    assert "python generate.py --output DIR" in card and "synthetic" in card and "IMAGE..." not in card


def test_every_file_of_the_export_is_for_one_image_and_can_be_made_for_more(bundle):
    for file in ("model.tflite", "model_float16.tflite"):
        require_strict(bundle / file, load_bundle(bundle).labels, "images")


def test_the_script_of_the_bundle_needs_no_tensorflow(run, bundle, tmp_path):
    def call(*arguments):
        code = (
            "import runpy, sys; sys.argv = sys.argv[1:]; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-c", code, str(bundle / "generate.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert not (bundle / "classify.py").exists()
    tested = call("--self-test")
    assert tested.returncode == 0 and "passed" in tested.stdout, tested.stderr
    done = call("--count", "3", "--seed", "5", "--class", "trouser", "--output", str(tmp_path / "made"))
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "made" / "trouser").iterdir())
    generate_images(run, tmp_path / "desk", count=3, seed=5, class_name="trouser")
    for here, there in zip(files, sorted((tmp_path / "desk" / "trouser").iterdir()), strict=True):
        assert np.abs(np.asarray(Image.open(here)).astype(int) - np.asarray(Image.open(there))).max() <= 1
        assert text_of(here)["Source"] == "synthetic"
    wrong = call("--class", "hat", "--output", str(tmp_path / "hat"))
    assert (
        wrong.returncode == 1
        and "shirt, sneaker, trouser" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )


def test_a_damaged_golden_input_is_found(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    golden = json.loads((copy / "golden" / "golden.json").read_text())
    golden["inputs"] = golden["inputs"][:-1]
    (copy / "golden" / "golden.json").write_text(json.dumps(golden))
    from keras_transfer.errors import BundleError

    with pytest.raises(BundleError, match=r"golden\.json"):
        verify(copy)


def test_integers_and_questions_about_images_are_refused(run, bundle, fashion_folder, tmp_path):
    with pytest.raises(UsageError, match=r"int8: a model that makes images takes numbers"):
        export_run(run, tmp_path / "int8", precisions=("int8",))
    with pytest.raises(UsageError, match=r"generates images.*keras-transfer gan"):
        predict(run, [fashion_folder])
    with pytest.raises(UsageError, match=r"makes images from numbers"):
        load_bundle(bundle).predict([np.zeros((28, 28, 3), np.uint8)])
    with pytest.raises(UsageError, match=r"views=4"):
        evaluate(run, views=4)


@pytest.mark.usefixtures("cache", "eagerly")
def test_going_on_from_another_run_with_a_frozen_part(run, fashion_folder, tmp_path):
    asked = options(conditional=True, start_from=run.path, freeze_lower=1)
    settings = {**SMALL, "epochs": 1, "batch_size": 32}
    found = train(fashion_folder, tmp_path / "next", task="gan", task_options=asked, **settings)
    rows = found.info["training"]["plan"]["blocks"]
    assert [row["block"] for row in rows if row["trainable"] == 0 and row["parameters"]] == ["block1"]
    import keras
    from keras_transfer_gan.networks import SpectralNorm

    kept, then = (
        keras.models.load_model(
            one.path / "networks" / "discriminator.keras", custom_objects={"SpectralNorm": SpectralNorm}
        )
        for one in (run, found)
    )
    same = {
        a.name: all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))
        for a, b in zip(kept.layers, then.layers, strict=True)
        if a.weights
    }
    assert same.pop("block1_conv_sn") and not any(same.values())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"noise_size": 9}, "noise 8 there, 9 here"),
        ({"width": 8, "channels": "rgb"}, "channels 1 there, 3 here; width 4 there, 8 here"),
        ({"conditional": False}, "conditional True there, False here"),
    ],
)
def test_going_on_with_another_form_says_what_differs(run, fashion_folder, tmp_path, asked, told):
    settings = options(**{"conditional": True, "start_from": run.path, **asked})
    with pytest.raises(UsageError, match=told):
        train(fashion_folder, tmp_path / "next", task="gan", task_options=settings, **SMALL)


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (("shirt", "Größe 38", "v1.2"), ["shirt", "Größe 38", "v1.2"]),
        (("T-shirt/top", "../x", "..", ""), ["T-shirt_top", "_x", "class", "class_3"]),
        (("a/b", "a_b", "A_B"), ["a_b_0", "a_b", "A_B_2"]),
        (("x_2", "x", "X"), ["x_2", "x", "X_2_2"]),
        (("contact_sheet.png",), ["contact_sheet.png_0"]),
    ],
)
def test_folders_of_classes_stay_inside_and_apart(classes, folders):
    assert folder_names(classes) == folders


STRANGE = ["T-shirt/top", "../../x", "T-shirt_top"]


def test_classes_are_no_paths(run, bundle, tmp_path):
    """Images of a class whose name is a path stay in the folder that was given; their name is in the metadata."""
    for source, file, keys in ((run.path, "run.json", "training"), (bundle, "bundle.json", "notes")):
        shutil.copytree(source, tmp_path / file)
        info = json.loads((tmp_path / file / file).read_text())
        info[keys]["gan"]["classes"] = STRANGE
        (tmp_path / file / file).write_text(json.dumps(info))
    generate_images(tmp_path / "run.json", tmp_path / "desk" / "made", count=6)
    script = str(tmp_path / "bundle.json" / "generate.py")
    output = tmp_path / "alone" / "made"
    command = [sys.executable, script, "--count", "6", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for made in (tmp_path / "desk" / "made", output):
        folders = {path.name: path for path in made.iterdir() if path.is_dir()}
        assert set(folders) == {"T-shirt_top", "T-shirt_top_0", "_.._x"}
        for name, folder in zip(("T-shirt_top_0", "_.._x", "T-shirt_top"), STRANGE, strict=True):
            files = list(folders[name].iterdir())
            assert len(files) == 2 and all(f"class {folder}." in text_of(file)["Comment"] for file in files)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "bundle.json", "desk", "alone"}


def test_what_cannot_be_written_is_said(run, bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file is a file; a folder is expected"):
        interpolate_images(run, tmp_path / "file" / "way.png")
    command = [sys.executable, str(bundle / "generate.py"), "--output", str(tmp_path / "file" / "made")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["generator.keras", "discriminator.keras"])
def test_damaged_networks_are_named(run, tmp_path, name):
    shutil.copytree(run.path, tmp_path / "run")
    file = tmp_path / "run" / "networks" / name
    content = file.read_bytes()
    facts = Maker(run).facts
    for kept in (0, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:kept])
        with pytest.raises(RunError, match=rf"{name} cannot be read"):
            load_networks(tmp_path / "run", facts)


def test_generating_what_cannot_be_made(run, tmp_path):
    with pytest.raises(UsageError, match=r"hat.*shirt"):
        generate_images(run, tmp_path / "made", class_name="hat")
    with pytest.raises(UsageError, match=r"--count 0"):
        generate_images(run, tmp_path / "made", count=0)
    with pytest.raises(UsageError, match=r"--seed -1"):
        generate_images(run, tmp_path / "made", seed=-1)
    with pytest.raises(UsageError, match=r"--seed -1"):
        interpolate_images(run, tmp_path / "way.png", seed=-1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not empty"):
        generate_images(run, tmp_path / "full")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.txt"]


def test_the_verbs_answer_on_the_command_line(run, tmp_path):
    printed, _ = call("gan", "generate", run.path, "--count", 2, "-o", tmp_path / "made", "--json")
    assert json.loads(printed)["images"] == 2
    call("gan", "interpolate", run.path, "-o", tmp_path / "way.png")
    assert (tmp_path / "way.png").is_file()
    _, said = call("gan", "generate", tmp_path, "-o", tmp_path / "more", code=2)
    assert "not a run folder" in said
    for words in (["gan"], ["gan", "generate"], ["gan", "interpolate"], ["train", "--task", "gan"]):
        assert "Usage:" in call(*words, "--help")[0]


@pytest.mark.nightly
@pytest.mark.usefixtures("cache", "eagerly")
def test_a_flat_folder_is_learned_from_and_a_killed_run_is_taken_up(fashion, tmp_path, monkeypatch):
    """Through the core's run folder: what a resumed run leaves is what an uninterrupted one leaves."""
    from keras_transfer_gan.training import EndOfEpoch

    flat = tmp_path / "shirts"
    flat.mkdir()
    for number, image in enumerate(fashion["shirt"]):
        Image.fromarray(image).save(flat / f"{number:02d}.png")
    monkeypatch.setattr("keras_transfer_gan.task.LOOK_AFTER", 2)  # one step per epoch, a look every two
    settings = {"task": "gan", "task_options": options(diff_augment="none"), **SMALL, "epochs": 4}
    whole = train(flat, tmp_path / "whole", **settings)
    ends = EndOfEpoch.on_epoch_end

    def kill(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        ends(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(EndOfEpoch, "on_epoch_end", kill)
        with pytest.raises(KeyboardInterrupt):
            train(flat, tmp_path / "again", **settings)
    assert not (tmp_path / "again").exists()
    again = train(flat, tmp_path / "again", **settings)
    assert again.info["resumed"]
    for name in ("metrics", "training", "output"):
        assert again.info[name] == whole.info[name]
    pairs = zip(whole.load_model().get_weights(), again.load_model().get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert Maker(open_run(again.path)).folders == ["shirts"]
    assert (again.path / "plots" / "training.gif").read_bytes() == (
        whole.path / "plots" / "training.gif"
    ).read_bytes()


@pytest.mark.parametrize("name", ["tiny", pytest.param("mobilenet", marks=pytest.mark.nightly)])
def test_another_backbone_measures_too(fashion, cache, monkeypatch, name):
    from keras_transfer_gan.measuring import generative_metrics

    if name == "mobilenet":
        weights = os.environ.get("KERAS_TRANSFER_TEST_WEIGHTS")
        if not weights:
            pytest.skip("KERAS_TRANSFER_TEST_WEIGHTS names no weights of MobileNet")
        metric_backbone()  # Lite0 is kept in memory, and not asked for below
        backbone = load_backbone(name, weights=weights, image_size=96)
        monkeypatch.setattr("keras_transfer_gan.features.load_backbone", lambda name, **others: backbone)
    real, made = fashion["shirt"][..., None], fashion["trouser"][..., None]
    found = generative_metrics(real, made, also=name, warn=False)
    assert found[f"kid_{name}"] > 3 * found[f"kid_{name}_error"] > 0
    assert found[f"fid_{name}"] is None


@pytest.mark.nightly
def test_a_frozen_backbone_in_the_discriminator_stays_as_it_is(fashion_folder, tmp_path, cache):
    import keras
    from keras_transfer_gan.networks import SpectralNorm

    from keras_transfer.backbones.blocks import leaf_layers

    settings = options(feature_network="efficientnet_lite0")
    run = train(fashion_folder, tmp_path / "run", task="gan", task_options=settings, **{**SMALL, "epochs": 1})
    known = {layer.name: layer for layer in leaf_layers(load_backbone("efficientnet_lite0", image_size=96))}
    path = run.path / "networks" / "discriminator.keras"
    found = keras.models.load_model(path, custom_objects={"SpectralNorm": SpectralNorm})
    shared = [layer for layer in leaf_layers(found) if layer.name in known and layer.weights]
    assert len(shared) > 50
    for layer in shared:
        pairs = zip(layer.get_weights(), known[layer.name].get_weights(), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert evaluate(run)["discriminator_accuracy"] == run.info["metrics"]["test"]["discriminator_accuracy"]


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINES = re.findall(r"^    ((?:keras-transfer|python) .+)$", README, re.MULTILINE)


def test_the_commands_of_the_readme_are_understood():
    assert len(LINES) == 9
    for line in LINES:
        if line.startswith("keras-transfer"):
            understand(line)


@pytest.mark.nightly
def test_the_commands_of_the_readme_work(fashion_folder, tmp_path, cache, monkeypatch):
    """As they stand there, on a small set and for one epoch."""
    monkeypatch.chdir(tmp_path)
    for name in ("fashion", "shoes"):
        Path(name).symlink_to(fashion_folder)
    small = ["--epochs", "1", "--width", "4", "--noise-size", "8", "--batch-size", "8"]
    for line in LINES:
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}: {done.stderr}"
        else:
            call(*words, *(small if words[0] == "train" else []))
    assert Path("edge/generate.py").is_file() and Path("made/contact_sheet.png").is_file()


@pytest.mark.usefixtures("eagerly")
@conformance("gan", options=GanOptions(width=4), settings={"image_size": 28, "epochs": 1, "batch_size": 20})
def test_the_task_keeps_its_promises(check):
    check()


@pytest.mark.nightly
@conformance("gan", options=GanOptions(width=8), settings={"image_size": 28, "epochs": 2})
def test_the_task_keeps_its_promises_in_a_graph(check):
    check()


def test_the_sample_is_small_and_in_colour(tmp_path):
    from keras_transfer_gan.sample import PATCHES, textures

    files = list(Path(textures(tmp_path)).rglob("*.png"))
    assert len(files) == 2 * PATCHES
    assert Image.open(files[0]).size == (28, 28) and Image.open(files[0]).mode == "RGB"
