"""A ``.tflite`` file, ready to run: the one adapter to LiteRT's interpreter. It needs neither TensorFlow nor Keras.

What makes such files is :mod:`keras_transfer.litert`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.normalization import PLAIN, Normalization, normalization_of
from keras_transfer.quiet import captured_output
from keras_transfer.records import layout

OLDEST = {"tensorflow": (2, 19), "ai-edge-litert": (2, 0)}
"""The versions that are known to do what is asked of them; the distribution's dependencies say the same."""
# Measured with XNNPACK on two cores: what a call works on should stay in the processor's cache. Lite0 at 224 px
# runs 206 images/s by 2 and 190 by 8, MobileNetV3Small at 96 px 4,577 by 2 and 5,731 by 8.
PIXELS_A_CALL = 100_352  # two images of 224 px
LARGEST_BATCH = 8
FREE_BATCH = layout.FREE_BATCH


def best_batch(height: int, width: int) -> int:
    """Images a call, for images of this many pixels and a free batch dimension: the fastest, 2 to 8."""
    return min(max(PIXELS_A_CALL // (height * width), 2), LARGEST_BATCH)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a ``.tflite`` file.

    ``shape`` has -1 where the size is free: where the file says so, and for the batch of a file marked
    :data:`FREE_BATCH`. ``scale`` is 0 for a tensor that is not quantised; otherwise
    ``real = scale * (stored - zero_point)``. ``normalization``: of an input: what the file's metadata want done to
    pixels in [0, 255] to make them ``real``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int
    normalization: Normalization = PLAIN

    @classmethod
    def plain(cls, name: str, shape: Iterable[int | None], dtype: str) -> TensorInfo:
        """A tensor that is not quantised; ``None`` in ``shape`` is a free size."""
        sizes = tuple(-1 if size is None else int(size) for size in shape)
        return cls(name, sizes, np.dtype(dtype), 0.0, 0)

    @property
    def quantized(self) -> bool:
        """Whether stored integers stand for real numbers."""
        return self.scale != 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "scale": self.scale,
            "zero_point": self.zero_point,
        }


class LiteRTModel:
    """A ``.tflite`` file, ready to run on the CPU (XNNPACK).

    Safe to share between threads: calls to :meth:`predict` are serialised by a lock (the interpreter itself
    uses ``threads`` cores). For concurrent calls make one object per thread.

    Args:
        content: the file's bytes, or its path.
        threads: cores to use; all of them when not given.
        reference: run LiteRT's reference kernels, which are what other runtimes compute, and slow.

    Raises:
        UsageError: the path does not exist.
        ExportError: the file is damaged, or needs operators the runtime does not have.
    """

    def __init__(self, content: bytes | Path, threads: int | None = None, *, reference: bool = False) -> None:
        interpreter = _interpreter()
        kernels = _kernels("BUILTIN_REF") if reference else {}
        self._name = "the model" if isinstance(content, bytes) else str(content)
        if isinstance(content, Path):
            if not content.is_file():
                raise UsageError(f"There is no file {content}. Expected a .tflite file.")
            content = content.read_bytes()
        self._content = content  # the interpreter does not own the buffer
        self._lock = threading.Lock()
        with captured_output() as captured:
            try:
                self._interpreter = interpreter(
                    model_content=content, num_threads=threads or os.cpu_count() or 1, **kernels
                )
                self._interpreter.allocate_tensors()
                failure = None
            except (ValueError, RuntimeError, TypeError) as error:
                failure = error
        if failure is not None:
            raise ExportError(
                f"Cannot read {self._name} as a .tflite file ({len(content)} bytes): {first_lines(failure)}"
                + (f" ({captured.text.strip().splitlines()[-1]})" if captured.text.strip() else "")
                + ". It is damaged, or made for another runtime; export it again."
            ) from failure
        free = _has_free_batch(content)
        self.inputs = tuple(_info(d, free) for d in self._interpreter.get_input_details())
        if len(self.inputs) == 1 and len(self.inputs[0].shape) == 4:
            self.inputs = (_as_told(self.inputs[0], normalization_of(content)),)
        self.outputs = tuple(_info(d, free) for d in self._interpreter.get_output_details())
        self._input_index = self._interpreter.get_input_details()[0]["index"]
        self._output_index = self._interpreter.get_output_details()[0]["index"]
        self._batch = int(self._interpreter.get_input_details()[0]["shape"][0])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the first input in pixels."""
        return self.inputs[0].shape[1], self.inputs[0].shape[2]

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Run the model on any number of images.

        Args:
            batch: ``(B, ...)`` float32 or uint8, in the units the model was trained on (pixels in [0, 255]).
                Scaled as the file's metadata ask, ``(pixel - mean) / std``, and quantised as its input asks: divided
                by its scale, shifted, rounded, clipped.

        Returns:
            float32 ``(B, ...)``, dequantised.

        Raises:
            UsageError: the shape does not fit, or the model has several inputs or outputs.
            ExportError: the runtime failed.
        """
        source, target = self.inputs[0], self.outputs[0]
        counts = (len(self.inputs), len(self.outputs))
        if counts != (1, 1):
            raise UsageError(f"{self._name} has {counts[0]} inputs and {counts[1]} outputs, not one of each.")
        if batch.ndim != len(source.shape) or any(
            want not in (-1, got) for want, got in zip(source.shape[1:], batch.shape[1:], strict=True)
        ):
            raise UsageError(
                f"{self._name} takes arrays of shape {_shape(source)}, not {batch.shape}. Resize first."
            )
        results = []
        with self._lock:
            step = source.shape[0]
            if step == -1:
                step = best_batch(*batch.shape[1:3]) if batch.ndim == 4 else LARGEST_BATCH
            for start in range(0, len(batch), step):
                results.append(self._run(store(batch[start : start + step], source)))
        if not results:
            return np.zeros((0, *(max(size, 0) for size in target.shape[1:])), np.float32)
        return restore(np.concatenate(results), target)

    def _run(self, chunk: np.ndarray) -> np.ndarray:
        """Run one chunk. A free batch dimension is resized (0.1 ms), a fixed one is padded."""
        count = len(chunk)
        try:
            if self.inputs[0].shape[0] == -1:
                if chunk.shape[0] != self._batch or -1 in self.inputs[0].shape[1:]:
                    self._interpreter.resize_tensor_input(self._input_index, chunk.shape)
                    self._interpreter.allocate_tensors()
                    self._batch = count
            elif count < self._batch:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], self._batch - count, axis=0)])
            self._interpreter.set_tensor(self._input_index, np.ascontiguousarray(chunk))
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output_index)[:count]
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"{self._name} failed while running: {first_lines(error)}") from error


def _interpreter() -> Any:
    """The interpreter's class. Raises ``ExportError`` with the command that installs it."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ExportError(
            f"The LiteRT runtime is missing or does not fit this Python ({error}): pip install -U ai-edge-litert"
        ) from error
    with suppress(PackageNotFoundError):  # built from source: whoever did that knows
        require_version("ai-edge-litert", version("ai-edge-litert"))
    return Interpreter


def _kernels(kind: str) -> dict[str, Any]:
    """The interpreter's argument for other kernels than its usual ones."""
    from ai_edge_litert.interpreter import OpResolverType

    return {"experimental_op_resolver_type": OpResolverType[kind]}


def shapes_for_one(content: bytes) -> dict[int, tuple[int, ...]]:
    """:func:`shapes_of` for a batch of one."""
    return shapes_of(content, None)


def shapes_of(content: bytes, batch: int | None) -> dict[int, tuple[int, ...]]:
    """The shape of every tensor of a ``.tflite``, by its index, when it is given ``batch`` images (None: as written).

    They are read from the runtime after a run: what a file says of the tensors inside it may be untrue.
    """
    interpreter = _interpreter()
    plain = _kernels("BUILTIN_WITHOUT_DEFAULT_DELEGATES")  # a delegate hides the tensors inside it
    with captured_output():
        model = interpreter(model_content=content, **plain)
        for detail in model.get_input_details() if batch is not None else ():
            model.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
        model.allocate_tensors()
        for detail in model.get_input_details():
            model.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        model.invoke()
        return {d["index"]: tuple(int(size) for size in d["shape"]) for d in model.get_tensor_details()}


def all_outputs(content: bytes, images: np.ndarray) -> Iterator[list[tuple[np.ndarray, float, float]]]:
    """Every output of a ``.tflite`` for one image after the other.

    Args:
        content: the file's bytes; one input.
        images: ``(N, ...)``, as :meth:`LiteRTModel.predict` takes them.

    Yields:
        For each output its real numbers, float32 ``(1, ...)``, and the least and the largest that it can hold: those of
        its integers; of a float tensor minus and plus infinity.
    """
    with captured_output():
        model = _interpreter()(model_content=content, num_threads=os.cpu_count() or 1)
        model.allocate_tensors()
    (source,) = (_info(detail, False) for detail in model.get_input_details())
    place, outputs = model.get_input_details()[0]["index"], model.get_output_details()
    for row in range(len(images)):
        model.set_tensor(place, store(images[row : row + 1], source))
        model.invoke()
        yield [_limited(model.get_tensor(one["index"]), _info(one, False)) for one in outputs]


def _limited(stored: np.ndarray, tensor: TensorInfo) -> tuple[np.ndarray, float, float]:
    if not tensor.quantized:
        return restore(stored, tensor), -np.inf, np.inf
    limits = np.iinfo(tensor.dtype)
    low, high = restore(np.array([limits.min, limits.max]), tensor)
    return restore(stored, tensor), float(low), float(high)


def _has_free_batch(content: bytes) -> bool:
    model = schema.Model.GetRootAs(content, 0)
    return any(model.Metadata(place).Name() == FREE_BATCH for place in range(model.MetadataLength()))


def _info(detail: dict, free_batch: bool) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    sizes = tuple(int(size) for size in shape)
    return TensorInfo(
        name=detail["name"],
        shape=(-1, *sizes[1:]) if free_batch else sizes,
        dtype=np.dtype(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _as_told(tensor: TensorInfo, told: Normalization) -> TensorInfo:
    """An input with what the file's metadata say of its pixels; of integers only where their bytes stay pixels."""
    if np.issubdtype(tensor.dtype, np.integer):
        levels = np.arange(256)
        real = told.apply(levels.repeat(3).reshape(256, 3))
        same = tensor.quantized and np.allclose(
            real / tensor.scale + tensor.zero_point, levels[:, None], atol=0.01
        )
        return replace(tensor, normalization=told) if same else tensor
    return replace(tensor, normalization=told)


def store(real: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """Numbers as the model was trained on (pixels in [0, 255]) to what the tensor holds."""
    real = tensor.normalization.apply(real)
    if real.dtype == tensor.dtype and (not tensor.quantized or (tensor.scale, tensor.zero_point) == (1.0, 0)):
        return real
    if not np.issubdtype(tensor.dtype, np.integer):
        return real.astype(tensor.dtype)
    if not tensor.quantized:
        tensor = replace(tensor, scale=1.0)
    limits = np.iinfo(tensor.dtype)
    stored = np.rint(real.astype(np.float32) / np.float32(tensor.scale)) + tensor.zero_point
    return np.clip(stored, limits.min, limits.max).astype(tensor.dtype)


def restore(stored: np.ndarray, tensor: TensorInfo) -> np.ndarray:
    """What the tensor holds to real numbers, float32."""
    real = stored.astype(np.float32, copy=False)
    return (real - tensor.zero_point) * np.float32(tensor.scale) if tensor.quantized else real


def _shape(tensor: TensorInfo) -> str:
    return "(" + ", ".join("any" if size == -1 else str(size) for size in tensor.shape) + ")"


def first_lines(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return " ".join(lines[:3])[:500]


def require_version(package: str, found: str) -> None:
    """``ExportError`` with the command that installs it, where a package is older than :data:`OLDEST`."""
    oldest = OLDEST[package]
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < oldest:
        wanted = ".".join(map(str, oldest))
        raise ExportError(
            f"{package} {found} is too old; {wanted} or newer is expected: pip install -U '{package}>={wanted}'"
        )
