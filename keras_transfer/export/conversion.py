"""From a Keras model to one artefact: which converter makes which file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_transfer.data.pipeline import input_batches
from keras_transfer.data.table import ImageTable
from keras_transfer.export import calibration, saved_model
from keras_transfer.export.doctor import QuantizationDoctor
from keras_transfer.export.front import with_uint8_input
from keras_transfer.export.metadata import describe_model
from keras_transfer.export.parity import Judge
from keras_transfer.export.quantization import (
    convert_all_integer,
    convert_dynamic,
    convert_integer,
)
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.inference.loading import save_keras
from keras_transfer.litert import convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions, layout


@dataclass(frozen=True)
class Conversion:
    """How artefacts are made.

    Attributes:
        table: images and class names.
        preprocessing: how an image becomes pixels.
        judge: what the outputs are, and their names.
        rows: images of ``table`` that integers are calibrated on; None when no precision needs them.
        options: how the files are quantized, and what they take.
        deployed: the int8 backbone the head was fitted on, which int8 then ships; None: one is made.
    """

    table: ImageTable
    preprocessing: Preprocessing
    judge: Judge
    rows: np.ndarray | None
    options: ExportOptions
    deployed: QuantizedBackbone | None = None

    def write(self, model: keras.Model, path: Path, precision: str) -> None:
        """Write one artefact; its name says which format.

        Raises:
            ExportError: a converter failed.
            UsageError: nothing in the model can be quantized.
        """
        if path.name == layout.SAVED_MODEL:
            saved_model.save(model, path, self.judge, self.preprocessing)
        elif path.name == layout.KERAS:
            save_keras(model, path)
        else:
            content = describe_model(
                for_strict_runtimes(self._convert(model, precision)),
                self.judge.names,
                size=self.preprocessing.size,
                name=model.name,
                description=f"{self._purpose()} Exported by keras_transfer.",
                kind=self.judge.kind,
            )
            path.write_bytes(content)

    def _purpose(self) -> str:
        if self.judge.kind == "probabilities":
            return f"Tells {len(self.judge.names)} classes apart."
        return f"Gives {self.judge.kind} (task {self.judge.task})."

    def _convert(self, model: keras.Model, precision: str) -> bytes:
        options = self.options
        if precision == "int8" and self.deployed is not None:
            return self.deployed.complete(model)
        if precision == "int8" and options.all_integer:
            return convert_all_integer(model, self._calibration)
        if precision == "int8" and options.keep_float:
            return QuantizationDoctor(model, self._calibration).convert(options.keep_float)
        if precision in ("int8", "int16x8"):
            return convert_integer(model, self._calibration, activations=8 if precision == "int8" else 16)
        if precision == "dynamic":
            return convert_dynamic(model, uint8_input=options.uint8_input)
        return convert(with_uint8_input(model) if options.uint8_input else model, precision)

    def _calibration(self) -> Iterator[np.ndarray]:
        draw, size = self.judge.draw, calibration.BATCH
        return input_batches(self.table, self.preprocessing, size, draw=draw, indices=self.rows)
