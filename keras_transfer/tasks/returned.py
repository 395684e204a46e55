"""Checks of what a task gives back: a wrong value is a sentence to the task's author, no traceback.

``who`` begins each sentence: ``The task 'novelty' of kt-novelty 0.1.0``.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_transfer.errors import PluginError
from keras_transfer.tasks.base import OutputContract, TrainingPlan

BLAME = "That is a fault of the task: tell its author."
PHASE = ("epoch", "rule", "parameters", "trainable", "blocks")
"""What each phase of a plan tells at least."""


def returned(who: str, method: str, value: Any, expected: type, what: str) -> Any:
    """The value, if it is of that type.

    Args:
        who: see above. method: what gave the value.
        expected: its type. what: how that is called in the message.

    Raises:
        PluginError: it is something else.
    """
    if not isinstance(value, expected):
        raise PluginError(f"{who}: {method} gave {_shown(value)}; {what} is expected. {BLAME}")
    return value


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's own, in mappings and sequences, too; anything else as it is."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def checked_metrics(who: str, given: Any, promised: Mapping[str, str]) -> dict[str, Any]:
    """What ``evaluate`` gave, with NumPy's numbers as Python's own.

    Raises:
        PluginError: no dictionary, a metric that was promised and is not there, or one that is no finite number (None
            says that it cannot be measured).
    """
    metrics = plain(returned(who, "evaluate", given, Mapping, "a dictionary of metrics"))
    missing = [name for name in promised if name not in metrics]
    if missing:
        raise PluginError(
            f"{who} promised the metrics {', '.join(missing)} and evaluate gave none; it gave "
            f"{', '.join(metrics) or 'nothing'}."
        )
    for name in promised:
        value = metrics[name]
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not number:
            raise PluginError(
                f"{who}: evaluate gave {name} = {_shown(value)}; a finite number is expected, or None "
                "where it cannot be measured."
            )
    require_json(who, "evaluate", metrics)
    return metrics


def checked_notes(who: str, notes: Any) -> dict[str, Any]:
    """The notes of a training, as ``run.json`` keeps them. Raises ``PluginError`` for what JSON cannot hold."""
    found = plain(returned(who, "fit's notes", notes, Mapping, "a dictionary"))
    require_json(who, "fit's notes", found)
    return json.loads(json.dumps(found))  # as a run that is opened again has them


def checked_history(who: str, history: Any) -> list[dict[str, Any]]:
    """One dictionary per epoch. Raises ``PluginError`` for rows that are none, or that JSON cannot hold."""
    rows = list(returned(who, "fit's history", history, Sequence, "a list of one dictionary per epoch"))
    for row in rows:
        returned(who, "fit's history", row, Mapping, "one dictionary per epoch")
    found = [plain(row) for row in rows]
    for row in found:
        require_json(who, "fit's history", row, allow_nan=True)
    return found


def checked_answers(who: str, answers: Any, count: int) -> list[dict[str, Any]]:
    """What ``predict`` tells of ``count`` images. Raises ``PluginError`` for anything but a dictionary of each."""
    told = list(returned(who, "predict", answers, Sequence, "a list of one dictionary per image"))
    if len(told) != count:
        raise PluginError(f"{who}: predict gave {len(told)} answers for {count} images. {BLAME}")
    for one in told:
        returned(who, "predict", one, Mapping, "one dictionary per image")
        require_json(who, "predict", one)
    return told


def checked_decisions(who: str, given: Any, count: int) -> np.ndarray | None:
    """What ``decide`` gave for ``count`` images, as one array; None: nothing is decided.

    Raises:
        PluginError: it is something else than one decision per image, or decisions of several shapes.
    """
    if given is None:
        return None
    try:
        decided = np.asarray(given)
    except ValueError:  # rows of several lengths
        decided = np.asarray(None)
    if decided.dtype == object or decided.shape[:1] != (count,):
        shape = f"something of the shape {decided.shape}" if decided.ndim else f"a {type(given).__name__}"
        raise PluginError(
            f"{who}: decide gave {shape} for {count} images; one decision per image, all of one shape, is expected, or "
            f"None. {BLAME}"
        )
    return decided


def checked_contract(who: str, contract: Any, shape: tuple[int, ...]) -> OutputContract:
    """What ``output_contract`` says of a model whose outputs have this shape, without the batch.

    Raises:
        PluginError: no contract, or that of another model.
    """
    found = returned(who, "output_contract", contract, OutputContract, "an OutputContract")
    if tuple(found.shape) != shape or len(found.names) != shape[-1]:
        raise PluginError(
            f"{who}: output_contract says {len(found.names)} names and the shape {tuple(found.shape)}; the model gives "
            f"{shape}. {BLAME}"
        )
    return found


def checked_plan(who: str, plan: Any) -> TrainingPlan | None:
    """What ``training_plan`` tells; None: nothing. Raises ``PluginError`` for a phase that lacks something."""
    if plan is None:
        return None
    returned(who, "training_plan", plan, TrainingPlan, "a TrainingPlan, or None,")
    for phase in plan.phases:
        missing = [name for name in PHASE if name not in phase]
        if missing:
            raise PluginError(
                f"{who}: training_plan gave a phase without {', '.join(missing)}; `epoch` and what "
                f"FreezePlan.to_dict gives are expected. {BLAME}"
            )
    return plan


def require_json(who: str, where: str, values: Mapping[str, Any], *, allow_nan: bool = False) -> None:
    """Raise ``PluginError`` that names the key of a value that JSON cannot hold."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=allow_nan)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"{who}: {where} holds {name!r}, which JSON cannot hold ({error}). Numbers, texts, lists "
                "and dictionaries are expected."
            ) from error


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    return f"a {type(value).__name__} ({text[:60]}{'...' if len(text) > 60 else ''})"
