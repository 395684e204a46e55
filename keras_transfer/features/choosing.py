"""Which engine computes frozen values, found, converted and checked: for pooled features and for activations alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np

from keras_transfer.features.cache import FeatureCache, cache_key
from keras_transfer.features.converted import FORMAT, ConvertedModels
from keras_transfer.inference import Runner, engines
from keras_transfer.settings import EngineSettings


class Engine:
    """The engine for a model, and what runs the model with it.

    Args:
        asked: an engine or ``auto``, and its precision.
        model: one input ``(B, H, W, 3)`` of fixed size, one output.
        identity: its hash, None where it has none: then no conversion is kept.
        images: how many different images it is to see, cached or not.
        cache: where conversions are kept, None: nowhere.

    Attributes:
        name: ``openvino``, ``litert`` or ``keras``. :meth:`runner` may change it: where an engine is refused, the next
            one of :data:`keras_transfer.inference.engines.CHAIN` computes.
        preparation_seconds: of converting (or loading) and checking.

    Raises:
        UsageError: an engine or precision that there is not, or not on this machine.
    """

    def __init__(
        self,
        asked: EngineSettings,
        model: keras.Model,
        identity: str | None,
        images: int,
        cache: FeatureCache | None,
    ) -> None:
        engines.require(asked)
        self.name = engines.choose(model, images) if asked.engine == "auto" else asked.engine
        self.preparation_seconds = 0.0
        self._asked_precision = asked.engine_precision
        self._model = model
        self._conversions = ConvertedModels(cache if identity else None)
        key = {"format": FORMAT, "model": identity, "runtime": engines.runtime("litert")}
        self._key = cache_key(key)

    @property
    def precision(self) -> str:
        """``bfloat16`` where that was asked and OpenVINO computes, else ``float32``."""
        return self._asked_precision if self.name == "openvino" else "float32"

    @property
    def identity(self) -> dict[str, str]:
        """What of the engine its numbers depend on, JSON-able: a part of a cache's key."""
        return engines.identity(self.name, self.precision)

    def runner(self, sample: Callable[[], np.ndarray]) -> Runner:
        """What runs the model.

        Args:
            sample: gives a few of the images, uint8 ``(n, H, W, 3)``; called only when there is something to check.
        """
        begin = time.perf_counter()
        asked = EngineSettings(self.name, self.precision)
        runner = engines.prepare(asked, self._model, sample, self._conversions, self._key)
        self.preparation_seconds = time.perf_counter() - begin
        self.name = runner.name
        return runner
