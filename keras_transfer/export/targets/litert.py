"""LiteRT: the ``.tflite`` is what the target takes, as it is."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.inference import LiteRTRunner, Runner


class LiteRT(Target):
    """Nothing is added to the ``.tflite``; its answers may be those of faster kernels than the reference's."""

    allowed = 0.1
    """As for an int8 file on another machine: other kernels round in another way."""

    def make(self, source: Source) -> Made:
        """Name the file."""
        return Made((source.file,), versions={"ai-edge-litert": version("ai-edge-litert")})

    def open(self, path: Path) -> Runner:
        """LiteRT's interpreter with XNNPACK."""
        return LiteRTRunner(path)
