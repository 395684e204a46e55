"""What a model file of another runtime says about its input and output, where that runtime has no place for it.

ONNX and OpenVINO know no quantization parameters of an input or output. An export writes them into the file's own
metadata, under :data:`KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.inference.keras_runner import check_shape
from keras_transfer.litert import LARGEST_BATCH, TensorInfo, best_batch, restore, store

KEY = "keras_transfer"


def edges_text(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], *, apart: bool = False) -> str:
    """What is written under :data:`KEY`: JSON. ``apart``: see :func:`is_apart`."""
    content = {
        "inputs": [one.to_dict() for one in inputs],
        "outputs": [one.to_dict() for one in outputs],
        "apart": apart,
    }
    return json.dumps(content)


def is_apart(text: str) -> bool:
    """Whether layers must not be fused with the quantizations around them, as runtimes do by themselves.

    Fused integers are rounded in another way than LiteRT's: a small network's answers moved by up to 0.48.
    """
    return bool(text) and _parsed(text).get("apart") is True


def with_edges(text: str, source: TensorInfo, target: TensorInfo) -> tuple[TensorInfo, TensorInfo]:
    """An input and an output with the quantization that ``text`` tells; as they are where it is empty.

    Raises ``ExportError`` where it is none of ours.
    """
    if not text:
        return source, target
    content = _parsed(text)
    try:
        found = [
            TensorInfo(one.name, one.shape, one.dtype, float(row["scale"]), int(row["zero_point"]))
            for one, (row,) in ((source, content["inputs"]), (target, content["outputs"]))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(error) from None
    return found[0], found[1]


def require_one_image(
    path: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> tuple[int, int] | None:
    """Height and width of the input in pixels; None where it is a vector, or the size is free.

    Raises ``UsageError`` unless there is one input ``(B, H, W, 3)`` or ``(B, D)``, and one output.
    """
    shapes = [info.shape for info in inputs]
    fits = len(shapes) == len(outputs) == 1 and (
        len(shapes[0]) == 2 or (len(shapes[0]) == 4 and shapes[0][3] == 3)
    )
    if not fits:
        raise UsageError(
            f"{path} takes {shapes} and gives {len(outputs)} outputs; one input (B, H, W, 3) and one output are "
            "expected."
        )
    size = shapes[0][1:3]
    return (size[0], size[1]) if len(shapes[0]) == 4 and -1 not in size else None


def in_steps(
    batch: np.ndarray,
    source: TensorInfo,
    target: TensorInfo,
    run: Callable[[np.ndarray], np.ndarray],
    name: str,
) -> np.ndarray:
    """Ask a model about any number of images, so many at a time as it takes; a last part is filled up.

    Args:
        batch: real numbers ``(B, ...)``.
        source: its input; the first size is that of a batch, -1 where it is free.
        target: its output.
        run: from what the input holds to what the output holds.
        name: of the model, for the message.

    Returns:
        Real numbers, float32 ``(B, ...)``.

    Raises ``UsageError`` when the shape does not fit.
    """
    check_shape(batch, tuple(None if size == -1 else size for size in (-1, *source.shape[1:])), name)
    fixed = source.shape[0]
    step = fixed if fixed > 0 else best_batch(*batch.shape[1:3]) if batch.ndim == 4 else LARGEST_BATCH
    parts = []
    for start in range(0, len(batch), step):
        chunk = store(batch[start : start + step], source)
        count = len(chunk)
        if fixed > 0 and count < fixed:
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], fixed - count, axis=0)])
        parts.append(run(np.ascontiguousarray(chunk))[:count])
    if not parts:
        return np.zeros((0, *(max(size, 0) for size in target.shape[1:])), np.float32)
    return restore(np.concatenate(parts), target)


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _damaged(error) from None
    if not isinstance(content, dict):
        raise _damaged(TypeError(type(content).__name__))
    return content


def _damaged(error: Exception) -> ExportError:
    return ExportError(f"What the file says of its input and output is damaged ({error!r}).")
