"""A small network and a table of real photo crops for the tests of feature extraction."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worker_features import PREPROCESSING, small_backbone

from keras_transfer.data import batches, load_data


@pytest.fixture(scope="session")
def backbone():
    """Pixels ``(B, 48, 48, 3)`` to a feature map ``(B, 12, 12, 24)``."""
    return small_backbone()


@pytest.fixture
def table(photo_folder):
    """40 real crops."""
    return load_data(photo_folder)


@pytest.fixture
def expected(table, backbone) -> np.ndarray:
    """What the features must be, the plain way: ``GlobalAveragePooling(backbone(x))``."""
    pixels = np.concatenate(list(batches(table, PREPROCESSING))).astype(np.float32)
    values = np.asarray(backbone(pixels, training=False)).mean(axis=(1, 2))
    assert np.ptp(values, axis=0).max() > 0.05 * np.abs(values).max(), "the network must tell images apart"
    return values
