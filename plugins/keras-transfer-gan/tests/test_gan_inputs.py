"""What is learned from: how it is resized and held, and what is refused before anything is trained."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_gan.generating import generate_images
from keras_transfer_gan.material import channels_of, material_of
from keras_transfer_gan.measuring import pixels_of
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.spec import GanOptions
from PIL import Image

from keras_transfer import load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.run import open_run
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.train import train

SMALL = {"epochs": 2, "batch_size": 8, "val_fraction": 0.15, "test_fraction": 0.25}


def options(**values):
    return GanOptions(**{"width": 4, "noise_size": 8, **values})


def refuse(match, source, tmp_path, error=UsageError, settings=None, **values):
    with pytest.raises(error, match=match):
        train(
            source,
            tmp_path / "run",
            task="gan",
            task_options=options(**values),
            **{**SMALL, **(settings or {})},
        )
    assert not (tmp_path / "run").exists()


def test_settings_that_cannot_be_followed(fashion_folder, tmp_path):
    for match, settings, values in (
        ("48: .* 28, 32, 64, 128", {"image_size": 48}, {}),
        ("--strategy finetune", {"strategy": "finetune"}, {}),
        ("--diff-augment fixed", {"augment": "light"}, {}),
        ("--normalization batch", {}, {"loss": "wgan-gp", "normalization": "batch"}),
        ("--normalization batch.*--r1", {}, {"r1": 1.0, "normalization": "batch"}),
        (
            "--normalization batch.*--feature-network",
            {},
            {"feature_network": "efficientnet_lite0", "normalization": "batch"},
        ),
        ("--start-from", {}, {"freeze_lower": 1}),
        ("--label-smoothing", {"label_smoothing": 0.1}, {"loss": "hinge"}),
        ("rotation", {}, {"changes": "rotation"}),
        (
            "--schedule step, --patience 9 were given, and the task gan does not follow them",
            {"schedule": "step", "patience": 9},
            {},
        ),
        (
            "--freeze-lower",
            {},
            {"feature_network": "efficientnet_lite0", "freeze_lower": 1, "start_from": tmp_path},
        ),
    ):
        refuse(match, fashion_folder, tmp_path, settings=settings, **values)


@pytest.mark.slow
def test_data_that_cannot_be_used(fashion_folder, fashion, mixed, tmp_path):
    refuse(
        "fewer than a step takes.*--batch-size 64", fashion_folder, tmp_path, DataError, {"batch_size": 64}
    )
    refuse("--channels grey or rgb", mixed, tmp_path)
    few = {"test_fraction": 0.03}
    refuse("test split has 3 images.*at least 4 .*--test-fraction", fashion_folder, tmp_path, DataError, few)
    few = {"val_fraction": 0.03}
    told = "val split has 3 images.*--val-fraction.*--measure-every 0"
    refuse(told, fashion_folder, tmp_path, DataError, few, measure_every=1)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, image in enumerate(fashion["shirt"]):
        Image.fromarray(image).save(flat / f"{number}.png")
    refuse("--conditional needs at least two", flat, tmp_path, DataError, conditional=True)


@pytest.fixture
def mixed(tmp_path, fashion):
    """Grey and colour files of one class."""
    root = tmp_path / "mixed" / "things"
    root.mkdir(parents=True)
    for number, image in enumerate(fashion["shirt"]):
        picture = Image.fromarray(image)
        if number % 2:
            picture = Image.merge("RGB", [picture, picture.point(lambda value: value // 2), picture])
        picture.save(root / f"{number:02d}.png")
    return root.parent


@pytest.mark.parametrize(("grey", "channels"), [(0, 3), (3, 3), (6, 3), (24, 1)])
def test_a_few_grey_images_among_coloured_ones_are_coloured(tmp_path, caplog, grey, channels):
    (tmp_path / "things").mkdir()
    for number in range(24):
        image = np.full((28, 28, 3), 100 + number, np.uint8)
        image[..., 0] += 0 if number < grey else 50
        Image.fromarray(image).save(tmp_path / "things" / f"{number:02d}.png")
    table = load_data(tmp_path, min_classes=1)
    assert channels_of(table, "auto") == channels
    assert (f"{grey} of 24 images are grey" in caplog.text) == (0 < grey < 24)
    assert channels_of(table, "grey") == 1


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Images twice as wide as high whose outer quarters are white: half of one squashed, nothing of one cropped, and
    a quarter of one padded."""
    root = tmp_path_factory.mktemp("wide") / "things"
    root.mkdir()
    for number in range(24):
        image = np.full((28, 56), number, np.uint8)
        image[:, :14] = image[:, 42:] = 255
        Image.fromarray(image).save(root / f"{number:02d}.png")
    return root.parent


def white_share(images):
    return float((images > 200).mean())


@pytest.mark.parametrize(("resize", "share"), [("squash", 0.5), ("crop", 0.0), ("pad", 0.25)])
def test_what_is_learned_is_resized_as_asked(wide, tmp_path, resize, share):
    table = load_data(wide, min_classes=1)
    facts = Facts("dcgan", 28, 1, 8, 4, table.classes, False, "spectral")
    found = material_of(table, facts, Preprocessing(size=(28, 28), resize=resize), tmp_path)
    for pixels in (found.pixels, found.held_out):
        assert len(pixels) and white_share(pixels) == pytest.approx(share, abs=0.04)


@pytest.mark.nightly
@pytest.mark.usefixtures("cache", "eagerly")
def test_what_is_measured_is_resized_as_asked(wide, tmp_path, monkeypatch):
    from keras_transfer_gan import task

    compared, compare = [], task.generative_metrics
    monkeypatch.setattr(
        task,
        "generative_metrics",
        lambda real, *rest, **more: compared.append(real) or compare(real, *rest, **more),
    )
    settings = {**SMALL, "epochs": 1, "resize": "crop"}
    cropped = train(wide, tmp_path / "run", task="gan", task_options=options(), **settings)
    evaluate(cropped)
    info = json.loads((cropped.path / "run.json").read_text())
    del info["training"]["preprocessing"]  # as runs had none
    (cropped.path / "run.json").write_text(json.dumps(info))
    evaluate(open_run(cropped.path))
    assert [round(white_share(real), 1) for real in compared] == [0.0, 0.0, 0.5]


@pytest.mark.slow
def test_decoding_holds_few_bytes_a_pixel(tmp_path, monkeypatch):
    """Of grey images, whose luma is computed from floats: those of one batch, not of all."""
    images = np.random.default_rng(0).integers(0, 256, (3000, 28, 28, 1)).astype(np.uint8)
    table = load_data((images, np.arange(3000) % 2), val_fraction=0.5, test_fraction=0.0)
    tracemalloc.start()
    found = pixels_of(table, Preprocessing(size=(28, 28)), 1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * found.nbytes
    facts = Facts("dcgan", 28, 1, 8, 4, table.classes, False, "spectral")
    contract = Preprocessing(size=(28, 28))
    # Validation images count, and go into a file, too.
    monkeypatch.setattr("keras_transfer_gan.material.MEMORY", found.nbytes - 1)
    mapped = material_of(table, facts, contract, tmp_path)
    assert isinstance(mapped.pixels, np.memmap) and isinstance(mapped.held_out, np.memmap)
    monkeypatch.undo()
    held = material_of(table, facts, contract, tmp_path)
    assert not isinstance(held.pixels, np.memmap) and not isinstance(held.held_out, np.memmap)
    assert np.array_equal(held.pixels, mapped.pixels) and np.array_equal(held.held_out, mapped.held_out)


@pytest.mark.nightly
@pytest.mark.usefixtures("eagerly")
def test_labels_that_are_numbers_are_no_classes(fashion_folder, tmp_path):
    """A CSV of numbers is read as regression, which has no class names."""
    files = sorted(fashion_folder.rglob("*.png"))
    listed = tmp_path / "sizes.csv"
    listed.write_text("path,label\n" + "".join(f"{file},{number}.5\n" for number, file in enumerate(files)))
    settings = {**SMALL, "epochs": 1, "batch_size": 32, "image_root": str(fashion_folder)}
    found = train(listed, tmp_path / "run", task="gan", task_options=options(), **settings)
    assert found.info["data"]["kind"] == "regression"
    assert 0 <= found.info["metrics"]["test"]["discriminator_accuracy"] <= 1
    assert [Path(name).name for name in generate_images(found, tmp_path / "made", count=2)["folders"]] == [
        "made"
    ]
