"""Tasks as plugins bring them: the extension point, and what their specs must hold. Light."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

from keras_transfer import options as option_tools
from keras_transfer.discovery import Entry, ExtensionPoint, PluginStatus, entries, guarded, judged, load
from keras_transfer.errors import unknown_name
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.base import CONTRACT, OLDEST_CONTRACT, TaskSpec

RESERVED = frozenset((
    "file", "precision", "bytes", "sha256", "inputs", "outputs", "metrics", "images", "agreement", "finite",
    "max_difference", "mean_difference", "milliseconds", "tolerance", "passed", "reasons", "doubts", "loss", "loss_low",
    "difference", "model", "task", "data", "split", "views", "skipped", "trained_on",
))  # fmt: skip
"""What rows of reports hold besides a task's metrics."""
ARGUMENTS = frozenset((
    "data", "output", "dry_run", "task", "seed", "overwrite", "offline", "as_json", "json", "quiet", "help",
))  # fmt: skip
"""What ``train`` takes besides its settings, whatever the task."""


def task_spec(name: str) -> TaskSpec:
    """The spec of an installed task.

    Raises:
        UsageError: no installed task has this name.
        PluginError: the plugin is broken, incompatible or duplicated; the message says why.
    """
    spec = load(TASKS, name)
    if spec is None:
        raise unknown_name("task", name, [entry.name for entry in entries(TASKS)])
    return spec


def _check(entry: Entry, spec: Any) -> PluginStatus:
    return judged(entry, spec, TaskSpec, (OLDEST_CONTRACT, CONTRACT), lambda: _fault(spec))


def _fault(spec: TaskSpec) -> str:
    """What is wrong with a spec of a contract that is spoken here; empty where nothing is."""
    there, reason = guarded(lambda: importlib.util.find_spec(spec.factory.partition(":")[0]) is not None)
    if not there:
        return f"its factory is {spec.factory!r}: {reason or 'there is no such module'}."
    names, reason = guarded(lambda: {field.name for field in dataclasses.fields(spec.options)})
    if reason:
        return f"its options are no dataclass ({reason})."
    if spec.main_metric not in spec.metrics or set(spec.metrics.values()) - {"higher", "lower"}:
        return f"its main metric {spec.main_metric!r} and its metrics {dict(spec.metrics)} do not fit each other."
    if taken := sorted(set(spec.metrics) & RESERVED):
        return f"its metrics have names that reports use themselves: {', '.join(taken)}. Rename them."
    _, reason = guarded(lambda: option_tools.check(spec.options()))
    if reason:
        return f"its options' defaults are refused ({reason})"
    if taken := sorted(names & (ARGUMENTS | set(TrainSettings().flat()))):
        return f"its options have the names of the core's own: {', '.join(taken)}. Rename them."
    return ""


TASKS = ExtensionPoint("task", "keras_transfer.tasks", _check)
