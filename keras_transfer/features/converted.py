"""Converted backbones on disk, so that the 5-20 seconds of a conversion are paid once.

    <root>/litert/<key>.json                 checksum of the file, results of the self-checks
    <root>/litert/<key>-<checksum>.tflite    the model

The key is a hash over the network's architecture and weights, its input size, and the versions of the
converter and of LiteRT. Each check is kept under its engine, the engine's version and precision, with the kind of
processor: that is everything its result depends on, so a check that was made need not be repeated. The ``.json`` is
written last and names a file by its content: two processes converting at once cannot mix their files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_transfer.features.cache import FeatureCache, refusal
from keras_transfer.features.shards import seal, unseal
from keras_transfer.hashing import sha256_of
from keras_transfer.inference.self_check import Converted, SelfCheck
from keras_transfer.paths import atomic_write

logger = logging.getLogger("keras_transfer")

FORMAT = 2
"""Of the records; a part of their keys."""


class ConvertedModels:
    """The converted backbones of a cache; with ``cache=None`` none is found and nothing is kept."""

    def __init__(self, cache: FeatureCache | None) -> None:
        self._cache = cache

    def load(self, key: str) -> Converted | None:
        """The model under ``key``, verified. A damaged one is removed with a warning."""
        if self._cache is None:
            return None
        record = self._record(key)
        try:
            body = unseal(record.read_bytes())
            content = self._model(key, body["checksum"]).read_bytes()
            if sha256_of(content) != body["checksum"]:
                raise ValueError("its checksum does not match")
            checks = {name: SelfCheck(**check) for name, check in body["checks"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("A converted backbone is damaged and will be made again: %s (%s)", record, error)
            for path in (record, *record.parent.glob(f"{key}-*.tflite")):
                with contextlib.suppress(OSError):
                    path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(record)  # last used: now
        here = {name: check for name, check in checks.items() if check.machine == platform.machine()}
        return Converted(content, here)

    def save(self, key: str, model: Converted, about: Mapping[str, Any]) -> None:
        """Keep a model. A cache that cannot be written is a warning."""
        if self._cache is None:
            return
        checksum = sha256_of(model.content)
        checks = {name: asdict(check) for name, check in model.checks.items()}
        body = {"checksum": checksum, "checks": checks, "about": dict(about)}
        try:
            atomic_write(self._model(key, checksum), model.content)
            atomic_write(self._record(key), seal(body))
        except OSError as error:
            logger.warning("%s The converted backbone is not kept.", refusal(self._cache, error))

    def _record(self, key: str) -> Path:
        assert self._cache is not None
        return self._cache.root / "litert" / f"{key}.json"

    def _model(self, key: str, checksum: str) -> Path:
        return self._record(key).with_name(f"{key}-{checksum[:16]}.tflite")
