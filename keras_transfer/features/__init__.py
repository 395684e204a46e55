"""Frozen features, computed fast and only once.

:func:`extract` gives the pooled features of a table of images; ``features.cache`` holds what was computed.
The names are loaded when they are used: looking at the cache needs no TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_transfer.features.extraction import Features, extract
    from keras_transfer.features.identity import model_hash

__all__ = ["Features", "extract", "model_hash"]

_HOMES = {"Features": "extraction", "extract": "extraction", "model_hash": "identity"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
