"""What the plugin's tests share: real photographs of garments, one cache a module, and the metric's network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    """The same as files, a folder per class."""
    root = tmp_path_factory.mktemp("fashion")
    for name, images in fashion.items():
        (root / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def _metric_network_is_traced_once():
    """Once a module, not once for each set of images. The metric is the same."""
    from keras_transfer.inference import engines

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pooled_model", "KerasRunner"):
            patch.setattr(engines, name, lru_cache(maxsize=4)(getattr(engines, name)))
        yield


@pytest.fixture(autouse=True)
def _few_are_searched_for_copies(monkeypatch):
    """Of a training in a test; a module's run has its 256."""
    monkeypatch.setattr("keras_transfer_gan.looking.SEARCHED_FOR", 16)


@pytest.fixture
def eagerly(monkeypatch):
    """Without a graph: for a training of a step or two, tracing takes longer than the training."""
    from keras_transfer_gan.adversarial import Adversarial

    compile_both = Adversarial.compile

    def compile_without_a_graph(self, *optimizers):
        compile_both(self, *optimizers)
        self.run_eagerly = True

    monkeypatch.setattr(Adversarial, "compile", compile_without_a_graph)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module's runs: the metric's features are computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
