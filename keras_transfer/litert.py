"""The one adapter to the LiteRT (TensorFlow Lite) converter: fast feature extraction and export go through here.

What reads and runs a file, :mod:`keras_transfer.litert_model`, has its names here, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_transfer.errors import ExportError, unknown_name
from keras_transfer.litert_model import (
    FREE_BATCH,
    LARGEST_BATCH,
    OLDEST,
    PIXELS_A_CALL,
    LiteRTModel,
    TensorInfo,
    all_outputs,
    best_batch,
    first_lines,
    require_version,
    restore,
    shapes_for_one,
    shapes_of,
    store,
)
from keras_transfer.quiet import captured_output

__all__ = [
    "FREE_BATCH",
    "LARGEST_BATCH",
    "OLDEST",
    "PIXELS_A_CALL",
    "PRECISIONS",
    "FrozenModel",
    "LiteRTModel",
    "TensorInfo",
    "all_outputs",
    "best_batch",
    "convert",
    "converter_for",
    "converter_tools",
    "restore",
    "run_converter",
    "shapes_for_one",
    "shapes_of",
    "store",
]

PRECISIONS = ("float32", "float16", "dynamic")


class FrozenModel:
    """A Keras model with one input and one output as a graph whose weights are constants, traced when first needed.

    For a model that is converted several times: tracing takes as long as converting.

    Attributes:
        name: of the model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.name = model.name
        (self._source,) = model.inputs
        self._model = model
        self._graph: Any = None

    @property
    def signature(self) -> list[tf.TensorSpec]:
        """Its input."""
        return [tf.TensorSpec(self._source.shape, self._source.dtype, self._source.name)]

    def graph(self) -> Any:
        """The function without variables, in inference mode (``training=False``)."""
        if self._graph is None:
            infer = tf.function(
                lambda pixels: self._model(pixels, training=False), input_signature=self.signature
            )
            self._graph = convert_variables_to_constants_v2(infer.get_concrete_function())
        return self._graph


def convert(model: keras.Model | FrozenModel, precision: str = "float32") -> bytes:
    """Convert a Keras model with one input and one output to a ``.tflite`` file with a free batch dimension.

    Args:
        model: any Keras model whose shapes are fixed but for the batch.
        precision: ``float32``; ``float16`` (weights stored in half precision, computed in float32);
            ``dynamic`` (weights int8 per channel, activations float32, quantised on the fly).

    Raises:
        UsageError: unknown precision.
        ExportError: the converter failed; the message quotes the end of what it printed.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    tools = converter_tools()  # its message stands alone: no conversion has begun

    def prepared() -> tf.lite.TFLiteConverter:
        converter = converter_for(model)
        if precision != "float32":
            converter.optimizations = [tools.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter

    return run_converter(prepared, f"model {model.name!r} to {precision}")


def converter_for(model: keras.Model | FrozenModel) -> tf.lite.TFLiteConverter:
    """TensorFlow's converter for a Keras model with one input and one output, as it answers (``training=False``).

    The weights are made constants here, and the converter gets a graph without variables.
    ``TFLiteConverter.from_keras_model`` gives the same file through Keras's export archive, which takes three times
    as long (Lite0 at 96 px: 14.6 against 4.1 seconds of processor time with TensorFlow 2.21): it writes, reads and
    freezes every variable. The file's signature is ``serving_default``, from the input's name to ``output_0``.
    """
    tools = converter_tools()
    frozen = model if isinstance(model, FrozenModel) else FrozenModel(model)
    graph = frozen.graph()
    module = tf.Module()
    module.serve = tf.function(
        lambda pixels: {f"output_{i}": one for i, one in enumerate(graph(pixels))},
        input_signature=frozen.signature,
    )
    return tools.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)


def converter_tools() -> Any:
    """TensorFlow's converter and quantizer, the module ``tf.lite``: they are reached through here.

    Raises ``ExportError`` with the command that installs them, when they are too old or no longer there.
    """
    require_version("tensorflow", tf.__version__)
    lite: Any = getattr(tf, "lite", None)
    if not hasattr(lite, "TFLiteConverter") or not hasattr(lite.experimental, "QuantizationDebugger"):
        raise ExportError(
            f"TensorFlow {tf.__version__} has no TFLite converter any more: pip install 'tensorflow>=2.19,<2.22'"
        )
    return lite


def run_converter(prepare: Callable[[], tf.lite.TFLiteConverter], what: str) -> bytes:
    """Prepare and run a converter in silence.

    Args:
        prepare: gives the converter.
        what: completes the message "Cannot convert ...".

    Raises:
        ExportError: the converter failed; the message quotes the end of what it printed.
    """
    failure: Exception | None = None
    printed = io.StringIO()
    # Keras and Python warnings write to sys.stdout and sys.stderr, which are not the
    # descriptors 1 and 2 in a notebook or under pytest: both levels are caught.
    with captured_output() as captured, redirect_stdout(printed), redirect_stderr(printed):
        try:
            content = prepare().convert()
        except Exception as error:  # noqa: BLE001 (the converter raises many unrelated types; all are reported)
            failure = error
    if failure is None:
        return bytes(content)
    words = printed.getvalue() + captured.text
    chatter = [line.strip() for line in words.splitlines() if line.strip()][-5:]
    raise ExportError(
        f"Cannot convert {what}: {first_lines(failure)}"
        + ("\nThe converter's last words:\n  " + "\n  ".join(chatter) if chatter else "")
        + "\nExport it as a SavedModel instead, or replace the layer the message names."
    ) from failure
