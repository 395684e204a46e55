"""Putting arrays into a model's layers by name and shape, and saying what fitted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import WeightsError
from .building import automatic_prefix, flat_operations, snake_case, stable_names
from .weight_files import LayerWeights

_log = logging.getLogger("keras_transfer")
ENOUGH = 0.9


@dataclass(frozen=True)
class WeightsReport:
    """What a weights source gave to a model. Names are the model's layer names, those in ``unused`` the source's."""

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """Layers of the model that the source does not have."""
    mismatched: tuple[str, ...]
    """Layers that the source has with other shapes."""
    unused: tuple[str, ...]
    coverage: float
    """The fraction of the model's parameters that came from the source, 0 to 1."""

    def __str__(self) -> str:
        text = f"{len(self.matched)} layers ({self.coverage:.1%} of the parameters) from {self.source}"
        for what, names in (
            ("not in it", self.missing),
            ("other shape", self.mismatched),
            ("unused", self.unused),
        ):
            if names:
                text += f"; {what}: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        return text


def weighted_layers(model: Any) -> dict[str, Any]:
    """The layers of a model that hold weights, by stable name, bottom to top, nested models dissolved."""
    names = stable_names(model)
    return {names[id(layer)]: layer for layer in flat_operations(model) if getattr(layer, "weights", None)}


def assign(model: Any, source: str, layers: Sequence[LayerWeights]) -> WeightsReport:
    """Set the weights of all layers of ``model`` that ``layers`` has under the same name with the same shapes.

    Names that Keras numbered (``conv2d_7``) are compared by their rank within the model. Logs the report.
    Raises :class:`WeightsError`, before anything is changed, when under 90 % of the parameters would be set.
    """
    ours = weighted_layers(model)
    theirs = _by_name(ours, model, layers)
    fitting, mismatched, missing = {}, [], []
    for name, layer in ours.items():
        arrays = theirs.get(name)
        if arrays is None:
            missing.append(name)
        elif [a.shape for a in arrays] != [tuple(w.shape) for w in layer.weights]:
            mismatched.append(name)
        else:
            fitting[name] = arrays
    total = sum(layer.count_params() for layer in ours.values())
    coverage = sum(ours[name].count_params() for name in fitting) / max(total, 1)
    unused = tuple(name for name in theirs if name not in fitting)
    report = WeightsReport(source, tuple(fitting), tuple(missing), tuple(mismatched), unused, coverage)
    if coverage < ENOUGH:
        raise WeightsError(
            f"The weights in {source} seem made for another architecture than {model.name}: {report}. "
            f"Expected at least {ENOUGH:.0%} of the parameters; give the file of the same backbone."
        )
    if not all(np.isfinite(array).all() for arrays in fitting.values() for array in arrays):
        raise WeightsError(
            f"The weights in {source} hold values that are not finite; save or download them again."
        )
    for name, arrays in fitting.items():
        ours[name].set_weights(list(arrays))
        if hasattr(ours[name], "finalize_state"):  # Normalization keeps derived tensors
            ours[name].finalize_state()
    _log.log(logging.INFO if coverage == 1 else logging.WARNING, "%s: %s", model.name, report)
    return report


def _by_name(
    ours: dict[str, Any], model: Any, layers: Sequence[LayerWeights]
) -> dict[str, tuple[np.ndarray, ...]]:
    """The source's arrays under our names."""
    if not any(layer.name for layer in layers):
        keys = dict(zip(ours, _keras3_keys(model, ours), strict=True))
        stored = {layer.key: layer.arrays for layer in layers}
        known = {name: stored.pop(key) for name, key in keys.items() if key in stored}
        return known | stored
    prefixes = {automatic_prefix(type(layer).__name__, name) for name, layer in ours.items()} - {None}
    ranks: Counter[str] = Counter()
    named: dict[str, tuple[np.ndarray, ...]] = {}
    for layer in layers:
        name = layer.name
        prefix = name.rstrip("0123456789").rstrip("_") if name not in prefixes else name
        if prefix in prefixes:
            name = prefix if not ranks[prefix] else f"{prefix}_{ranks[prefix]}"
            ranks[prefix] += 1
        named.setdefault(name, layer.arrays)
    return named


def _keras3_keys(model: Any, ours: dict[str, Any]) -> list[str]:
    """Under which key Keras 3 stores each of our layers: its class and its rank among all layers of the class."""
    ranks: Counter[str] = Counter()
    keys = {}
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        keys[id(layer)] = kind if not ranks[kind] else f"{kind}_{ranks[kind]}"
        ranks[kind] += 1
    return [keys[id(layer)] for layer in ours.values()]
