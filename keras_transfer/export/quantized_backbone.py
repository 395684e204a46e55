"""A backbone as the device runs it, made before the head: ``train --deploy int8`` fits the head on its features.

Whatever eight bits do to the features, the head has seen it; and because the export puts that very head on that very
file, the device computes what the head was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_transfer.data.pipeline import batches
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import ExportError, RunError, UsageError
from keras_transfer.export import calibration as sample
from keras_transfer.export.quantization import attach_head, convert_integer
from keras_transfer.hashing import sha256_of
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions


@dataclass(frozen=True)
class QuantizedBackbone:
    """An int8 backbone that a head was fitted on.

    Attributes:
        content: a ``.tflite`` file, uint8 pixels ``(B, H, W, 3)`` to float32 features ``(B, D)``.
        layer: the layer of the Keras model that gives the same features in float.
        calibration_images: how many training images it was calibrated on, at most.
        calibration_seed: of their choice.
    """

    content: bytes
    layer: str
    calibration_images: int
    calibration_seed: int

    @classmethod
    def make(
        cls, extractor: keras.Model, table: ImageTable, preprocessing: Preprocessing, seed: int
    ) -> QuantizedBackbone:
        """Quantize an extractor, pixels to features ``(B, D)``, calibrated on a sample of the training images.

        Raises ``UsageError`` when it has nothing to quantize, ``ExportError`` when the converter fails.
        """
        rows = sample.calibration_rows(table, sample.IMAGES, seed)

        def calibration():
            return batches(table, preprocessing, sample.BATCH, indices=rows)

        layer = extractor.outputs[0]._keras_history.operation.name
        return cls(convert_integer(extractor, calibration), layer, sample.IMAGES, seed)

    @classmethod
    def read(cls, path: Path, notes: Mapping[str, Any]) -> QuantizedBackbone:
        """The backbone a run kept, with what its notes say. Raises ``RunError`` when the file is gone or another."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(
                f"The int8 backbone {path} cannot be read ({error.strerror}). Train again, or restore the file."
            ) from error
        try:
            deployed = cls(content, notes["layer"], notes["calibration_images"], notes["calibration_seed"])
            recorded = notes["sha256"]
        except (KeyError, TypeError) as error:
            raise RunError(f"run.json does not say how {path} was made ({error!r}). Train again.") from None
        if deployed.sha256 != recorded:
            raise RunError(
                f"{path} is not the backbone this run's head was fitted on. Train again, or restore it."
            )
        return deployed

    @property
    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self.content)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able notes for :meth:`read`."""
        return {
            "precision": "int8",
            "layer": self.layer,
            "sha256": self.sha256,
            "bytes": len(self.content),
            "calibration_images": self.calibration_images,
            "calibration_seed": self.calibration_seed,
        }

    def check(self, options: ExportOptions, seed: int) -> None:
        """Raise ``UsageError`` for options that would make another int8 backbone than this one."""
        if options.all_integer or options.keep_float:
            raise UsageError(
                "The head was fitted on an int8 backbone (train --deploy int8) that is exported as it is: all_integer "
                "and keep_float would make another. Leave them out (--quantize all-integer makes a file of its "
                "own), or train without --deploy."
            )
        size = options.calibration_size
        if (size, seed) != (self.calibration_images, self.calibration_seed):
            raise UsageError(
                f"The int8 backbone was calibrated on {self.calibration_images} images when the head was fitted (train "
                f"--deploy int8, seed {self.calibration_seed}); {size} (seed {seed}) would make another. "
                "Leave the calibration size out."
            )

    def complete(self, model: keras.Model) -> bytes:
        """The whole classifier as a ``.tflite``: this backbone, and what ``model`` computes from its features.

        Raises ``ExportError`` when the model has no such layer or features of another size.
        """
        try:
            cut = model.get_layer(self.layer).output
        except ValueError as error:
            raise ExportError(
                f"The model {model.name!r} has no layer {self.layer!r}, where its int8 backbone ends."
            ) from error
        return attach_head(self.content, model, cut)
