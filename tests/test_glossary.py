"""docs/glossary.md: every term has a command that runs, and its links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from keras_transfer_tests.documents import on_tiny, understand, words
from keras_transfer_tests.images import copy_crops
from PIL import Image

from keras_transfer.testing.command import call

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GLOSSARY.splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]
COMMANDS = list(
    dict.fromkeys(line for row in ROWS for line in re.findall(r"`(keras-transfer [^`]*)`", row[2]))
)
NOTES = [
    "transfer learning",
    "pretrained weights",
    "feature extraction",
    "fine-tuning",
    "freezing",
    "trainable",
    "overfitting",
    "batch normalization",
    "local response normalization",
    "domain adaptation",
    "generative adversarial network",
    "inception",
    "bottleneck",
    "dimensionality reduction",
    "1x1 convolution",
    "residual learning",
    "skip connection",
    "vanishing gradients",
    "sum or concatenation",
    "kernel",
    "stride",
    "padding",
    "data augmentation",
    "pooling",
    "global average pooling",
    "vgg",
    "resnet",
    "mobilenet",
    "depthwise separable convolution",
    "u-net",
    "siamese",
    "one-shot learning",
    "precompute",
    "save to disk",
    "integrated feature extractor",
    "weight initialisation",
    "svm",
    "embedding",
    "as it is",
    "efficientnet",
    "smaller net",
    "small and large data sets",
    "number of operations",
]


@pytest.mark.parametrize("term", [row[0] for row in ROWS])
def test_a_term_has_a_command_that_exists(term):
    shown = next(row for row in ROWS if row[0] == term)[2]
    commands = re.findall(r"`(keras-transfer [^`]*)`", shown)
    assert commands, term
    for line in commands:
        understand(line)


@pytest.fixture(params=["tiny", "real"])
def backbone(request):
    """The tiny one, or the ones that the glossary names."""
    return request.param


@pytest.fixture
def equipped(photo_folder, photos, tmp_path, monkeypatch, backbone, finished):
    """What the commands take: ``photos/``, ``photo.jpg``, ``run``, and below ``one-shot`` a ``run`` of that task."""
    copy_crops(photo_folder, tmp_path / "photos", 10)
    Image.fromarray(photos["flower"]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    more = ["--backbone", "tiny"] if backbone == "tiny" else []
    call("train", "photos/", "--output", "run", "--strategy", "probe", "--image-size", 64, *more)
    (tmp_path / "one-shot").mkdir()
    shutil.copytree(finished("siamese").path, tmp_path / "one-shot" / "run")
    shutil.copy("photo.jpg", "one-shot")
    return tmp_path


def here(line: str, backbone: str) -> list[str]:
    """A command of the glossary as it can be run here: trainings have tests of their own, and only pip has weights."""
    arguments = words(line)
    if arguments[0] == "train":
        arguments.append("--dry-run")
    if backbone == "tiny":
        return on_tiny(arguments)
    unlearned = arguments[0] in ("train", "compare") and "mobilenet" in line
    return [*arguments, *(["--weights", "none"] if unlearned else [])]


@pytest.mark.nightly
def test_every_command_runs(equipped, backbone, monkeypatch):
    """In their order, but that what is verified has to be exported first."""
    here_too = [
        line for line in COMMANDS if " --task " not in line
    ]  # plugins' trainings: in the plugins' tests
    assert len(here_too) > 40
    for line in sorted(here_too, key=lambda line: " verify " in line):
        (equipped / "features.npz").unlink(missing_ok=True)  # which several of them write
        arguments = here(line, backbone)
        monkeypatch.chdir(equipped / "one-shot" if arguments[0] == "siamese" else equipped)
        call(*arguments)


def test_links_of_the_glossary_lead_to_a_heading():
    for target in re.findall(r"\]\(([^)]+)\)", GLOSSARY):
        page, _, anchor = target.partition("#")
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


@pytest.mark.parametrize("term", NOTES)
def test_the_glossary_has_the_terms_of_the_notes(term):
    assert term in " ".join(row[0] for row in ROWS).lower()
