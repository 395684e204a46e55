"""The quantization doctor: which layers eight bits hurt most, and the model with those layers kept in float.

Every operator of the int8 graph is computed a second time in float from the same (quantized) inputs; the difference of
the two results is the error that this operator adds (TensorFlow's ``QuantizationDebugger``). It is told in steps of the
output's scale: 0.29 is the unavoidable rounding (a uniform error in [-1/2, 1/2] has the root mean square 1 / sqrt(12)).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export.quantization import Calibration, Parts, one_by_one
from keras_transfer.litert import converter_for, converter_tools
from keras_transfer.quiet import captured_output

EXAMINED = 20
"""Images the layers are examined on: the first of the calibration images."""


@dataclass(frozen=True)
class LayerError:
    """An operator of the int8 graph.

    Attributes:
        tensor: the name of its output in the graph, which begins with the model's and the Keras layer's.
        operator: TFLite's name of it.
        error: root mean square of int8 minus float, in steps of the output's scale.
        scale: of the output: one step as a real number.
    """

    tensor: str
    operator: str
    error: float
    scale: float

    @property
    def layer(self) -> str:
        """The name without the model's, and without the names of what was fused into it."""
        name = self.tensor.split(";")[0].split("/", 1)[-1]
        return "the quantized part's output" if name.startswith("StatefulPartitionedCall") else name


class QuantizationDoctor:
    """Quantizes a classifier to int8 and examines it.

    Args:
        model: Functional or Sequential, float32 pixels in [0, 255] to probabilities.
        calibration: representative images; the layers are examined on the first 20.
        whole: quantize the first layers and the head, too, as a plain int8 conversion does; by default they stay in
            float, as in :func:`keras_transfer.export.quantization.convert_integer`.

    Attributes:
        layers: the operators of the quantized part, the worst first.

    Raises:
        UsageError: no calibration images, or nothing in the model can be quantized.
        ExportError: the converter failed.
    """

    def __init__(self, model: keras.Model, calibration: Calibration, *, whole: bool = False) -> None:
        self._model, self._calibration = model, calibration
        self._debugger: Any = None
        self.layers: tuple[LayerError, ...] = ()
        self._parts = Parts(model, calibration, whole=whole)
        self._plain = self._examine(self._parts.body, self._parts.before)

    def convert(self, keep: int = 0) -> bytes:
        """A ``.tflite`` with the ``keep`` worst layers in float; input uint8 pixels, output float32.

        Raises ``UsageError`` when there are not so many layers.
        """
        if not 0 <= keep <= len(self.layers):
            raise UsageError(
                f"{keep} layers are to stay in float; from 0 to {len(self.layers)}, as many as there are, is expected."
            )
        names = [layer.tensor for layer in self.layers[:keep]]
        return self._parts.join(self._quantize(names) if keep else self._plain)

    def _examine(self, body: keras.Model, before: Callable[[np.ndarray], np.ndarray]) -> bytes:
        failure: list[Exception] = []

        def first() -> Any:
            for place, inputs in enumerate(one_by_one(self._calibration, before, failure)):
                if place == EXAMINED:
                    return
                yield inputs

        def run() -> bytes:
            converter = converter_for(body)
            converter.optimizations = [converter_tools().Optimize.DEFAULT]
            converter.representative_dataset = lambda: one_by_one(self._calibration, before, failure)
            self._debugger = converter_tools().experimental.QuantizationDebugger(
                converter=converter, debug_dataset=first
            )
            self._debugger.run()
            return bytes(self._debugger.get_nondebug_quantized_model())

        content = _quietly(run, body.name, failure)
        dump = io.StringIO()
        self._debugger.layer_statistics_dump(dump)
        layers = [_layer(row) for row in csv.DictReader(io.StringIO(dump.getvalue()))]
        self.layers = tuple(sorted(layers, key=lambda layer: -layer.error))
        return content

    def _quantize(self, keep: list[str]) -> bytes:
        def run() -> bytes:
            options = converter_tools().experimental.QuantizationDebugOptions(denylisted_nodes=keep)
            # Setting `options` on the debugger would examine the new graph, which fails when little is left.
            self._debugger._debug_options = options
            return bytes(self._debugger.get_nondebug_quantized_model())

        return _quietly(run, self._model.name, [])


def _layer(row: dict[str, str]) -> LayerError:
    scale = float(row["scale"])
    error = math.sqrt(max(float(row["mean_squared_error"]), 0.0)) / scale if scale > 0 else 0.0
    return LayerError(row["tensor_name"], row["op_name"], error if math.isfinite(error) else math.inf, scale)


def _quietly(run: Callable[[], bytes], name: str, failure: list[Exception]) -> bytes:
    problem: Exception | None = None
    with captured_output(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            return run()
        except Exception as error:  # noqa: BLE001 (the converter raises many unrelated types; all are reported)
            problem = error
    if failure:
        raise failure[0]
    raise ExportError(f"The model {name!r} cannot be quantized to int8: {problem}") from problem
