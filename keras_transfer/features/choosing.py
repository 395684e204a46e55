"""Which engine computes frozen values, found, converted and checked: for pooled features and for activations alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np

from keras_transfer.features.cache import FeatureCache, cache_key
from keras_transfer.features.converted import ConvertedModels
from keras_transfer.inference import Runner, engines


class Engine:
    """The engine for a model, and what runs the model with it.

    Args:
        asked: ``litert``, ``keras`` or ``auto``.
        model: one input ``(B, H, W, 3)`` of fixed size, one output.
        identity: its hash, None where it has none: then no conversion is kept.
        images: how many different images it is to see, cached or not.
        cache: where conversions are kept, None: nowhere.

    Attributes:
        name: ``litert`` or ``keras``. :meth:`runner` may change it: where LiteRT is refused, Keras computes.
        preparation_seconds: of converting (or loading) and checking.

    Raises:
        UsageError: an unknown engine.
    """

    def __init__(
        self, asked: str, model: keras.Model, identity: str | None, images: int, cache: FeatureCache | None
    ) -> None:
        engines.require(asked)
        self.name = engines.choose(model, images) if asked == "auto" else asked
        self.preparation_seconds = 0.0
        self._model = model
        self._conversions = ConvertedModels(cache if identity else None)
        self._key = cache_key({"model": identity, "runtime": engines.runtime("litert")})

    def runner(self, sample: Callable[[], np.ndarray]) -> Runner:
        """What runs the model.

        Args:
            sample: gives a few of the images, uint8 ``(n, H, W, 3)``; called only when there is something to check.
        """
        begin = time.perf_counter()
        runner = engines.prepare(self.name, self._model, sample, self._conversions, self._key)
        self.preparation_seconds = time.perf_counter() - begin
        self.name = runner.name
        return runner
