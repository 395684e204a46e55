"""What a task gives back, checked where it is given: a wrong value is a sentence to the task's author, no traceback."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

from keras_transfer.errors import PluginError


def returned(task: str, method: str, value: Any, expected: type, what: str) -> Any:
    """The value, if it is of that type.

    Args:
        task: name of the task. method: what gave the value.
        expected: its type. what: how that is called in the message.

    Raises:
        PluginError: it is something else.
    """
    if not isinstance(value, expected):
        raise PluginError(
            f"The task {task!r}: {method} gave {_shown(value)}; {what} is expected. That is a fault of the task: tell "
            "its author."
        )
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


def checked_metrics(task: str, given: Any, promised: Mapping[str, str]) -> dict[str, Any]:
    """What ``evaluate`` gave, with NumPy's numbers as Python's own.

    Raises:
        PluginError: no dictionary, a metric that was promised and is not there, or one that is no finite number (None
            says that it cannot be measured).
    """
    metrics = plain(returned(task, "evaluate", given, Mapping, "a dictionary of metrics"))
    missing = [name for name in promised if name not in metrics]
    if missing:
        raise PluginError(
            f"The task {task!r} promised the metrics {', '.join(missing)} and evaluate gave none; it gave "
            f"{', '.join(metrics) or 'nothing'}."
        )
    for name in promised:
        value = metrics[name]
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not number:
            raise PluginError(
                f"The task {task!r}: evaluate gave {name} = {_shown(value)}; a finite number is expected, or None "
                "where it cannot be measured."
            )
    _require_json(task, "evaluate", metrics)
    return metrics


def checked_notes(task: str, notes: Any) -> dict[str, Any]:
    """What ``fit`` left in ``context.notes``, as ``run.json`` keeps it. Raises ``PluginError`` for what JSON cannot
    hold.
    """
    found = plain(returned(task, "context.notes", notes, Mapping, "a dictionary"))
    _require_json(task, "context.notes", found)
    return found


def _require_json(task: str, where: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"The task {task!r}: {where} holds {name!r}, which JSON cannot hold ({error}). Numbers, texts, lists "
                "and dictionaries are expected."
            ) from error


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    return f"a {type(value).__name__} ({text[:60]}{'...' if len(text) > 60 else ''})"
