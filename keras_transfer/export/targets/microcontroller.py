"""TFLite Micro: C++ sources of an all-integer model, proven in TFLite Micro's own interpreter."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from keras_transfer.errors import ExportError
from keras_transfer.export.inspection import FileFacts
from keras_transfer.export.targets import cpp
from keras_transfer.export.targets.base import Made, Source, Target
from keras_transfer.export.targets.micro_runner import Arena, MicroRunner
from keras_transfer.hashing import size_and_sha256
from keras_transfer.litert import store
from keras_transfer.records.layout import TARGETS

FOLDER = f"{TARGETS}/microcontroller"
REPLAYED = 4
"""Golden images in ``golden_data.h``: they lie in the flash, too."""


class Microcontroller(Target):
    """``model_data.cc``, ``model_data.h``, ``op_resolver.h``, ``golden_data.h`` and ``main.cc``.

    The answers must be those of LiteRT's reference kernels, number for number: both run the same arithmetic.
    """

    def make(self, source: Source) -> Made:
        """Write the sources; the memory they ask for is measured.

        Raises ``ExportError`` when TFLite Micro refuses the model, or it needs more than ``arena_limit``.
        """
        runner = self.open(source.path)
        chosen = source.pixels[np.linspace(0, len(source.pixels) - 1, REPLAYED).round().astype(int)]
        answers = runner.raw(chosen)
        arena = runner.arena
        if arena is None:
            raise ExportError("TFLite Micro did not run.")
        require_fit(source.facts, arena, source.options.arena_limit)
        content = source.path.read_bytes()
        scale = runner.outputs[0].scale or 1.0
        texts = {
            **cpp.model_sources(source.file, content, size_and_sha256(source.path)[1]),
            "op_resolver.h": cpp.resolver_source(source.file, (one.name for one in source.facts.operators)),
            "golden_data.h": cpp.golden_source(
                store(chosen, runner.inputs[0]), answers, round(source.tolerance / scale)
            ),
            "main.cc": cpp.main_source(source.file, arena.total, arena.activations, answers),
        }
        (source.folder / FOLDER).mkdir(parents=True)
        for name, text in texts.items():
            (source.folder / FOLDER / name).write_text(text, encoding="utf-8")
        return Made(
            files=tuple(f"{FOLDER}/{name}" for name in texts),
            measured={
                "arena_bytes": arena.total,
                "activation_bytes": arena.activations,
                "flash_bytes": len(content),
                "operators": sorted({one.name for one in source.facts.operators}),
            },
            versions={"tflite-micro": version("tflite-micro")},
        )

    def open(self, path: Path) -> MicroRunner:
        """TFLite Micro's reference kernels."""
        return MicroRunner(path)


def require_fit(facts: FileFacts, arena: Arena, limit: int | None) -> None:
    """Raise ``ExportError`` that names the layer that needs most, where the arena is larger than the limit in bytes."""
    if limit is None or arena.total <= limit:
        return
    live = facts.live_bytes()
    most = int(np.argmax(live))
    operator = facts.operators[most]
    raise ExportError(
        f"The model needs an arena of {arena.total:,} bytes, and --arena-limit is {limit:,}. The layer that needs most "
        f"is {facts.layer(operator)} ({operator.name}): {live[most]:,} bytes are in use while it runs; "
        f"{arena.kept:,} are records of tensors and operators. The weights ({facts.weights:,} bytes) lie in the flash "
        "and are not counted. Train on smaller images, or choose a smaller network."
    )
