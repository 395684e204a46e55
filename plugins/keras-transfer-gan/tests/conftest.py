"""What the plugin's tests share: no downloads, a cache of their own, and properties without a deadline."""

from __future__ import annotations

import os

os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# A busy machine must not fail a property.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, nor another test's."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))


ROWS = ("shirt", "trouser", "sneaker")
"""Classes 0, 1 and 7 of Fashion-MNIST, 24 images of each in a row of ``fashion.png`` (see README.md beside it)."""


@pytest.fixture(scope="session")
def fashion() -> dict[str, np.ndarray]:
    """Real photographs of products, uint8 ``(24, 28, 28)`` by class."""
    with Image.open(Path(__file__).parent / "fashion.png") as picture:
        sheet = np.asarray(picture).reshape(len(ROWS), 28, 24, 28).swapaxes(1, 2)
    return dict(zip(ROWS, sheet, strict=True))


@pytest.fixture(scope="session")
def fashion_folder(tmp_path_factory, fashion) -> Path:
    """The same as files, a folder a class."""
    root = tmp_path_factory.mktemp("fashion")
    for name, images in fashion.items():
        (root / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module's runs: the metric's features are computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
