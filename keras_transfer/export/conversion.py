"""From a Keras model to one artefact: which converter makes which file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from keras_transfer.data.table import ImageTable
from keras_transfer.export import calibration, saved_model
from keras_transfer.export.all_integer import convert_all_integer
from keras_transfer.export.doctor import QuantizationDoctor
from keras_transfer.export.front import take_scaled, with_uint8_input
from keras_transfer.export.metadata import describe_model
from keras_transfer.export.parity import Judge
from keras_transfer.export.quantization import Parts, convert_dynamic
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.export.questions import Questions
from keras_transfer.export.static import with_int8_edges
from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.inference.loading import save_keras
from keras_transfer.litert import FrozenModel, convert
from keras_transfer.normalization import Normalization
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions, layout
from keras_transfer.records.export_options import INPUT_RANGES
from keras_transfer.records.layout import ALL_INTEGER


@dataclass(frozen=True)
class Conversion:
    """How artefacts are made. What several of them need is made once: the graph without variables, decoded pixels.

    Attributes:
        model: the Keras model.
        table: images and class names.
        preprocessing: how an image becomes pixels.
        judge: what the outputs are, and their names.
        rows: images of ``table`` that integers are calibrated on; None when no precision needs them.
        options: how the files are quantized, and what they take.
        deployed: the int8 backbone the head was fitted on, which int8 then ships; None: one is made.
        notes: what was done to files that were written, a sentence by file name.
    """

    model: keras.Model
    table: ImageTable
    preprocessing: Preprocessing
    judge: Judge
    rows: np.ndarray | None
    options: ExportOptions
    deployed: QuantizedBackbone | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path, precision: str) -> None:
        """Write one artefact; its name says which format.

        Raises:
            ExportError: a converter failed.
            UsageError: nothing in the model can be quantized.
        """
        if path.name == layout.SAVED_MODEL:
            saved_model.save(self.model, path, self.judge, self.preprocessing)
        elif path.name == layout.KERAS:
            save_keras(self.model, path)
        else:
            content = describe_model(
                for_strict_runtimes(self._scaled(self._convert(path.name, precision), precision)),
                self.judge.names,
                size=self.preprocessing.size,
                name=self.model.name,
                description=f"{self._purpose()} Exported by keras_transfer.",
                kind=self.judge.kind,
                normalization=self._normalization,
            )
            path.write_bytes(content)

    def _purpose(self) -> str:
        if self.judge.kind == "probabilities":
            return f"Tells {len(self.judge.names)} classes apart."
        return f"Gives {self.judge.kind} (task {self.judge.task})."

    @property
    def _normalization(self) -> Normalization:
        return Normalization.to_range(*INPUT_RANGES[self.options.input_range])

    def _all_integer(self, precision: str) -> bool:
        return precision == ALL_INTEGER or (precision == "int8" and self.options.all_integer)

    def _scaled(self, content: bytes, precision: str) -> bytes:
        """With an input of the range that is asked for."""
        if self._normalization.plain or self._all_integer(precision):
            return content
        return take_scaled(content, self.model.inputs[0].name, self._normalization)

    def _convert(self, file: str, precision: str) -> bytes:
        model, options = self.model, self.options
        if self._all_integer(precision):
            made = convert_all_integer(model, self._calibration, self._normalization)
            self.notes[file] = made.note
            return with_int8_edges(made.content) if options.edges == "int8" else made.content
        if precision == "int8" and self.deployed is not None:
            return self.deployed.complete(model)
        if precision == "int8" and options.keep_float:
            return QuantizationDoctor(model, self._calibration).convert(options.keep_float)
        if precision in ("int8", "int16x8"):
            return self._parts.quantized(8 if precision == "int8" else 16)
        if precision == "dynamic":
            return convert_dynamic(model, uint8_input=options.uint8_input)
        return convert(self._frozen, precision)

    @cached_property
    def _frozen(self) -> FrozenModel:
        return FrozenModel(with_uint8_input(self.model) if self.options.uint8_input else self.model)

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self.model, self._calibration)

    def _calibration(self) -> Questions:
        return self._calibrated_on

    @cached_property
    def _calibrated_on(self) -> Questions:
        rows = np.arange(len(self.table)) if self.rows is None else self.rows
        return Questions(self.table, self.preprocessing, rows, self.judge.draw, calibration.BATCH)
