"""What every test shares: no network, a cache of its own, and small sets of real images.

The images are crops of the two photographs that come with scikit-learn (``china.jpg``,
``flower.jpg``) and, for tests marked slow, the ELPV solar cells.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

GUARD = Path(__file__).parent / "guard"
sys.path.insert(0, str(GUARD))
import sitecustomize  # noqa: E402  (activates the guard in this process; another sitecustomize may shadow it)

if not hasattr(sitecustomize, "OutsideConnection"):
    import importlib.util

    _spec = importlib.util.spec_from_file_location("_network_guard", GUARD / "sitecustomize.py")
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job; children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
# Fixtures that live longer than a test share this one; each test gets its own below.
_SESSION_CACHE = tempfile.TemporaryDirectory(prefix="keras_transfer_tests_")
os.environ["KERAS_TRANSFER_CACHE"] = _SESSION_CACHE.name
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from PIL import Image  # noqa: E402

# A busy machine must not fail a property.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, nor another test's."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Two real photographs, uint8 ``(427, 640, 3)``: ``china`` (a palace) and ``flower`` (a dahlia)."""
    from sklearn.datasets import load_sample_image

    found = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for photo in found.values():
        photo.setflags(write=False)  # shared by all tests
    return found


def write_crops(folder: Path, photo: np.ndarray, count: int, seed: int, size: int = 96) -> None:
    """Write ``count`` random crops of a photograph as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        y, x = rng.integers(0, photo.shape[0] - size), rng.integers(0, photo.shape[1] - size)
        Image.fromarray(photo[y : y + size, x : x + size]).save(folder / f"{i:03d}.png")


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory, photos) -> Path:
    """A class-per-folder tree: ``china`` and ``flower``, 20 real crops of 96x96 each. Read-only by convention."""
    root = tmp_path_factory.mktemp("photo_folder")
    for seed, (name, photo) in enumerate(photos.items()):
        write_crops(root / name, photo, 20, seed)
    return root
