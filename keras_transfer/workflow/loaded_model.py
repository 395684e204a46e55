"""Whatever can be evaluated, opened: a run folder, a ``.keras`` file, a SavedModel, a ``.tflite``, a Keras model.

The contract (class names, preprocessing, task) is looked for beside the model: ``run.json`` of a run folder,
``bundle.json`` of an export. What is not found must be given.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import UsageError
from keras_transfer.export.bundle import check_model_file, list_bundle
from keras_transfer.export.listing import is_bundle
from keras_transfer.inference import KerasRunner, Runner, load_runner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ModelContract
from keras_transfer.run import Run, is_run, open_run
from keras_transfer.tasks.loading import require_installed

log = logging.getLogger("keras_transfer")
UNKNOWN = ModelContract("classification", {}, {}, "probabilities", (), (), {})
"""What is assumed of a model that nothing beside it tells anything of."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be asked, with what must be known to ask it.

    Attributes:
        name: how it is called in messages.
        predict: pixels ``(B, H, W, 3)`` uint8 or float32 in [0, 255] -> outputs ``(B, C)`` float32.
        preprocessing: how an image becomes those pixels.
        names: names of the outputs, or None when nothing beside the model tells.
        contract: as it is recorded; of a model without a record: a classifier of nothing that is known.
        run: the run folder it belongs to, if any.
        runtime: what ``predict`` belongs to.
        recorded: whether a bundle tells its contract.
    """

    name: str
    predict: Callable[[np.ndarray], np.ndarray]
    preprocessing: Preprocessing
    names: tuple[str, ...] | None
    contract: ModelContract
    run: Run | None = None
    runtime: Runner | None = None
    recorded: bool = False

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.contract.task

    @property
    def kind(self) -> str:
        """What the outputs are, as in the task's :class:`~keras_transfer.tasks.base.OutputContract`."""
        return self.contract.kind

    @property
    def keras_model(self) -> Any:
        """Where it runs in Keras, the model; else None."""
        return self.runtime.model if isinstance(self.runtime, KerasRunner) else None


def open_model(
    model: Any,
    *,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    input_range: tuple[float, float] | None = None,
    logits: bool = False,
) -> LoadedModel:
    """Open a model for evaluation or prediction.

    Args:
        model: a path (run folder, ``.keras``, SavedModel folder, ``.tflite``), an opened run, a Keras model, or what
            was opened before.
        labels: a text file with one output name per line, where nothing beside the model tells them.
        preprocessing: overrides what is recorded beside the model.
        input_range: what a model of another tool wants the pixels' range [0, 255] to become, such as (-1, 1). By
            default the scale and zero point of its input decide, where it is quantized.
        logits: the model ends without a softmax: append one.

    Raises:
        UsageError: nothing usable at that path, an input size that cannot be known, or an input range or logits for a
            model whose contract is recorded.
    """
    loaded = _open(model, labels, preprocessing)
    if input_range is None and loaded.run is None and not loaded.recorded:
        input_range = _quantized_range(loaded)
    elif input_range is not None and (loaded.run is not None or loaded.recorded):
        raise UsageError(f"{loaded.name} has its contract recorded beside it; leave the input range out.")
    if logits and loaded.kind != "probabilities":
        raise UsageError(f"{loaded.name} gives {loaded.kind}, no classes; leave out the softmax (logits).")
    if input_range is not None:
        loaded = replace(loaded, predict=_of_range(loaded.predict, *input_range))
    return replace(loaded, predict=_softmax_of(loaded.predict)) if logits else loaded


def _quantized_range(loaded: LoadedModel) -> tuple[float, float] | None:
    """The range of a quantized input that is not that of pixels: a model of another tool trained on [-1, 1] or [0, 1].

    Its bytes are the image's bytes then, whatever the file does to them.
    """
    if loaded.runtime is None or len(loaded.runtime.inputs) != 1 or not loaded.runtime.inputs[0].quantized:
        return None
    tensor = loaded.runtime.inputs[0]
    limits = np.iinfo(tensor.dtype)
    low, high = ((limit - tensor.zero_point) * tensor.scale for limit in (limits.min, limits.max))
    if high - low > 64:
        return None
    log.warning(
        "%s takes numbers from %.3g to %.3g: pixels are brought to that range.", loaded.name, low, high
    )
    return low, high


def _of_range(predict: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> Any:
    return lambda pixels: predict(
        np.float32(low) + pixels.astype(np.float32) * np.float32((high - low) / 255)
    )


def _softmax_of(predict: Callable[[np.ndarray], np.ndarray]) -> Any:
    def answer(pixels: np.ndarray) -> np.ndarray:
        outputs = predict(pixels).astype(np.float64)
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)

    return answer


def _open(model: Any, labels: str | Path | None, preprocessing: Preprocessing | None) -> LoadedModel:
    names = read_labels(Path(labels)) if labels is not None else None
    if isinstance(model, LoadedModel):
        return replace(model, names=names or model.names, preprocessing=preprocessing or model.preprocessing)
    if isinstance(model, Run):
        model = model.path
    if not isinstance(model, (str, Path)):
        return _keras_subject(model, names, preprocessing)
    path = Path(model)
    run = open_run(path) if path.is_dir() and is_run(path) else None
    if run is None and path.parent.is_dir() and is_run(path.parent):
        run = open_run(path.parent)
    if run is None and is_bundle(path.parent):
        check_model_file(path)
    runtime = load_runner(run.model_path if run is not None and path == run.path else path)
    in_bundle = run is None and is_bundle(path.parent)
    contract = UNKNOWN
    beside: tuple[str, ...] | None
    if run is not None:
        contract = run.record.contract
        recorded, beside = contract.preprocessing, contract.names
    elif in_bundle:
        record = list_bundle(path.parent).record
        require_installed(record.contract.task, str(path), record.origin)
        contract = record.contract
        recorded, beside = contract.preprocessing, contract.names
    else:
        recorded, beside = _beside(path, runtime.input_size)
    return LoadedModel(
        str(path),
        runtime.predict,
        preprocessing or recorded,
        names or beside,
        contract,
        run,
        runtime,
        recorded=in_bundle,
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a labels file, one per line, in the order of the model's outputs.

    A byte-order mark is passed over, and numbers in front of the names (``0 cat``, as Teachable Machine writes them)
    where every line has its own.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: the labels cannot be read ({error}). A UTF-8 text, one name per line."
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    numbered = [re.fullmatch(r"(\d+)[ \t:,]+(\S.*)", name) for name in names]
    if len(names) > 1 and all(match and int(match[1]) == i for i, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return names


def _keras_subject(
    model: Any, names: tuple[str, ...] | None, preprocessing: Preprocessing | None
) -> LoadedModel:
    if not hasattr(model, "inputs"):
        raise UsageError(f"{type(model).__name__} was given; a path or a Keras model of images is expected.")
    runtime = KerasRunner(model)
    contract = preprocessing or _assumed(_known_size(model.name, runtime.input_size))
    return LoadedModel(model.name, runtime.predict, contract, names, UNKNOWN, runtime=runtime)


def _beside(path: Path, size: tuple[int, int] | None) -> tuple[Preprocessing, tuple[str, ...] | None]:
    labels = path.parent / "labels.txt"
    names = read_labels(labels) if labels.is_file() else None
    log.warning(
        "Nothing beside %s tells its preprocessing: pixels in [0, 255], resized by squashing with a bilinear "
        "filter, are assumed.",
        path,
    )
    return _assumed(_known_size(str(path), size)), names


def _assumed(size: tuple[int, int]) -> Preprocessing:
    """Of a model that nothing tells: nobody said that it knows pictures decoded at a part of their size."""
    return Preprocessing(size=size, decode="full")


def _known_size(name: str, size: Any) -> tuple[int, int]:
    if size is None or None in size:
        raise UsageError(f"{name} does not tell its image size, and no bundle.json is beside it.")
    return int(size[0]), int(size[1])
