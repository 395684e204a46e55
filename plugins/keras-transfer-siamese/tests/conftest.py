"""What the plugin's tests share: no downloads, a cache of their own, and properties without a deadline."""

from __future__ import annotations

import os

os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from hypothesis import settings

# A busy machine must not fail a property.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, nor another test's."""
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
