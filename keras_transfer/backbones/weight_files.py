"""Reading the weights of Keras files as plain arrays: ``.weights.h5``, ``.keras`` and the old ``.h5``.

Only numbers and names are read. No layer is made, no configuration is interpreted, so a file cannot run code.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import WeightsError

_LARGEST = 1 << 32  # bytes a single array may declare
_DEEPEST = 24  # nested groups


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The arrays of one layer, in the order of Keras's ``layer.weights``.

    ``key`` is the class and rank under which Keras 3 stores a layer (``conv2d_3``), "" in other files.
    ``name`` is the layer's name, "" in files that do not record it.
    """

    name: str
    key: str
    arrays: tuple[np.ndarray, ...]


def read_weights(path: Path) -> list[LayerWeights]:
    """The layers of a weights file that hold weights, bottom to top as far as the file tells.

    ``path``: ``.weights.h5`` (Keras 3), ``.keras``, or ``.h5`` (weights or whole model of TensorFlow 1 and 2).
    Layers of nested models are included. Raises :class:`WeightsError` when the file is missing, damaged,
    of another format, or holds links to other files.
    """
    try:
        if path.suffix == ".keras":
            return _read_h5(io.BytesIO(_member(path, "model.weights.h5")))
        return _read_h5(path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        detail = str(error).strip("'\"") or type(error).__name__
        raise WeightsError(
            f"The weights file {path} cannot be used: {detail}. "
            "Expected a .weights.h5, .keras or .h5 file written by Keras."
        ) from error


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.file_size > 16 * info.compress_size + (1 << 20):
            raise ValueError(f"its member {name} declares {info.file_size} bytes, far more than are stored")
        return archive.read(info)


def _read_h5(source: Path | io.BytesIO) -> list[LayerWeights]:
    with h5py.File(source, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            layers = list(_legacy_layers(root))
        else:
            layers = list(_keras3_layers(file, "", 0))
    if not layers:
        raise ValueError("it holds no layer with weights")
    return layers


# ------------------------------------------------------------------ Keras 3: a tree with `vars` groups


def _keras3_layers(group: h5py.Group, key: str, depth: int) -> Iterator[LayerWeights]:
    if depth > _DEEPEST:
        raise ValueError("its groups are nested too deep")
    if "vars" in group:
        variables = _child(group, "vars")
        arrays = tuple(_array(variables, name) for name in sorted(variables, key=_rank))
        if arrays:
            name = variables.attrs.get("name", "")
            yield LayerWeights(_text(name), key, arrays)
    for name in sorted(group, key=_rank):
        if name not in ("vars", "optimizer") and isinstance(_child(group, name), h5py.Group):
            yield from _keras3_layers(_child(group, name), name, depth + 1)


def _rank(name: str) -> tuple[str, int]:
    """Sorts ``conv2d_2`` before ``conv2d_10`` and ``2`` before ``10``."""
    prefix, number = re.fullmatch(r"(.*?)_?(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return prefix, int(number or 0)


# ------------------------------------------------------------------ TensorFlow 1 and 2: names in attributes


def _legacy_layers(root: h5py.Group) -> Iterator[LayerWeights]:
    for layer in _name_list(root, "layer_names"):
        group = _child(root, layer)
        names = _name_list(group, "weight_names")
        owners = [name.rpartition("/")[0] for name in names]
        nested = len(set(owners)) > 1
        arrays: dict[str, list[np.ndarray]] = {}
        for name, owner in zip(names, owners, strict=True):
            arrays.setdefault(owner.rpartition("/")[2] if nested else layer, []).append(_array(group, name))
        for name, values in arrays.items():
            yield LayerWeights(name, "", tuple(values))


def _name_list(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names in an attribute, or in ``<attribute>0``, ``<attribute>1`` ... when it was too long for one."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    parts = (f"{attribute}{i}" for i in itertools.count())
    chunks = itertools.takewhile(lambda part: part in group.attrs, parts)
    return [_text(name) for part in chunks for name in group.attrs[part]]


# ------------------------------------------------------------------ safe access


def _child(group: h5py.Group, path: str) -> Any:
    """A member by path, never through a link that may lead out of the file. Raises ``ValueError``, ``KeyError``."""
    current: Any = group
    for part in path.split("/"):
        if not isinstance(current, h5py.Group) or part not in current:
            raise KeyError(f"{path} is missing in it")
        if not isinstance(current.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"it holds a link ({part})")
        current = current[part]
    return current


def _array(group: h5py.Group, path: str) -> np.ndarray:
    data = _child(group, path)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise ValueError(f"{path} is not an ordinary array")
    if data.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds {data.dtype}, not numbers")
    if math.prod(data.shape) * data.dtype.itemsize > _LARGEST:
        raise ValueError(f"{path} declares {data.shape}, which is too large")
    return np.asarray(data[()])


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
