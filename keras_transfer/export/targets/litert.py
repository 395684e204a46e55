"""LiteRT: the ``.tflite`` is what the target takes, as it is, or with every shape static."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from keras_transfer.export.static import for_batch
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.inference import LiteRTRunner, Runner
from keras_transfer.records.layout import TARGETS


class LiteRT(Target):
    """The answers may be those of faster kernels than the reference's."""

    allowed = None

    def make(self, source: Source) -> Made:
        """Name the file; with ``batch`` write one for so many images at a time."""
        versions = {"ai-edge-litert": version("ai-edge-litert")}
        batch = source.options.batch
        if batch is None:
            return Made((source.file,), versions=versions)
        name = f"{source.path.stem}_batch{batch}.tflite"
        content = for_batch(source.path.read_bytes(), batch)
        (source.own("litert") / name).write_bytes(content)
        file = f"{TARGETS}/litert/{name}"
        return Made((file,), file, {"batch": batch, "file_bytes": len(content)}, versions)

    def open(self, path: Path) -> Runner:
        """LiteRT's interpreter with XNNPACK."""
        return LiteRTRunner(path)
