"""Entry points -> what is installed and whether it works. Nothing is imported until it is asked for.

One broken plugin never breaks the command line: its status keeps the distribution, the version, the entry
point's value and the exception; using it repeats the reason. Two plugins of one name are both refused.
``KERAS_TRANSFER_PLUGINS=a,b`` restricts which plugins are considered (the built-in ones always are).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_transfer import options as option_tools
from keras_transfer.errors import PluginError, unknown_name

TASKS = "keras_transfer.tasks"
COMMANDS = "keras_transfer.commands"
BACKBONES = "keras_transfer.backbones"
WEIGHTS = "keras_transfer.weights"
KINDS = {"task": TASKS, "command": COMMANDS, "backbone": BACKBONES, "weights": WEIGHTS}
"""What a plugin can bring, and the entry-point group it comes in by."""
OWN = "keras-transfer"
RESERVED = frozenset(
    (
        *(
            "file",
            "precision",
            "bytes",
            "sha256",
            "inputs",
            "outputs",
            "metrics",
            "images",
            "agreement",
            "finite",
        ),
        *(
            "max_difference",
            "mean_difference",
            "milliseconds",
            "tolerance",
            "passed",
            "reasons",
            "doubts",
            "loss",
            "loss_low",
            "difference",
        ),
        *("model", "task", "data", "split", "views", "skipped", "trained_on"),
    )
)
"""What rows of reports hold besides a task's metrics."""


@dataclass(frozen=True)
class Entry:
    """One entry point as its distribution declares it; nothing of it is imported."""

    group: str
    name: str
    value: str
    distribution: str
    version: str

    def load(self) -> Any:
        """Import the object. Whatever its module raises comes out of here."""
        return metadata.EntryPoint(self.name, self.value, self.group).load()


@dataclass(frozen=True)
class PluginStatus:
    """What became of one plugin: ``state`` is ``ok``, ``broken``, ``incompatible`` or ``duplicate``."""

    entry: Entry
    state: str
    reason: str = ""
    summary: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return {
            "kind": next(kind for kind, group in KINDS.items() if group == self.entry.group),
            "name": self.entry.name,
            "state": self.state,
            "summary": self.summary,
            "reason": self.reason,
            "distribution": self.entry.distribution,
            "version": self.entry.version,
            "value": self.entry.value,
        }


def entries(group: str) -> list[Entry]:
    """All entry points of a group that are installed and not excluded, sorted by name; nothing is imported."""
    return [entry for entry in _installed(group, _places()) if considered(entry.name, entry.distribution)]


def _places() -> tuple[tuple[str, int], ...]:
    """Where distributions are looked for, and when something was last installed there or removed."""
    found = []
    for place in sys.path:
        with suppress(OSError):
            found.append((place, Path(place or ".").stat().st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=8)
def _installed(group: str, places: tuple[tuple[str, int], ...]) -> tuple[Entry, ...]:
    """The entry points of a group; what every distribution says is read once as long as ``places`` is the same."""
    found: dict[Entry, None] = {}
    for point in metadata.entry_points(group=group):
        distribution = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else ""
        found[Entry(group, point.name, point.value, distribution, version)] = None
    return tuple(sorted(found, key=lambda entry: (entry.name, entry.distribution)))


def considered(name: str, distribution: str) -> bool:
    """Whether ``KERAS_TRANSFER_PLUGINS`` leaves a plugin in."""
    only = {part.strip() for part in os.environ.get("KERAS_TRANSFER_PLUGINS", "").split(",") if part.strip()}
    return not only or distribution == OWN or name in only


def statuses(group: str = TASKS) -> list[PluginStatus]:
    """The state of every plugin of a group. Imports what is light (all but weights), catching whatever goes wrong."""
    found = entries(group)
    return [_status(entry, found)[0] for entry in found]


def task_spec(name: str) -> Any:
    """The :class:`~keras_transfer.tasks.base.TaskSpec` of a task.

    Raises:
        UsageError: no installed task has this name.
        PluginError: the plugin is broken, incompatible or duplicated; the message says why.
    """
    found = entries(TASKS)
    if name not in [entry.name for entry in found]:
        raise unknown_name("task", name, [entry.name for entry in found])
    return _load("task", name, found)


def command(name: str) -> Any:
    """The ``click.Command`` a plugin adds as a verb; None when no plugin has one of this name.

    Raises ``PluginError`` when it is broken or duplicated; the message says why.
    """
    return _load("command", name, entries(COMMANDS))


def backbone_spec(name: str) -> Any:
    """The :class:`~keras_transfer.catalog.BackboneSpec` a plugin adds; None when no plugin has one of this name.

    Raises ``PluginError`` when it is broken or duplicated; the message says why.
    """
    return _load("backbone", name, entries(BACKBONES))


def _load(kind: str, name: str, found: list[Entry]) -> Any:
    named = [entry for entry in found if entry.name == name]
    if not named:
        return None
    named.sort(key=lambda entry: entry.distribution != OWN)  # the core keeps its names
    status, thing = _status(named[0], found)
    if status.state != "ok":
        raise PluginError(
            f"The {kind} {name!r} ({status.entry.distribution} {status.entry.version}) is {status.state}: "
            f"{status.reason}"
        )
    return thing


def import_object(path: str) -> Any:
    """Import ``"package.module:Name"``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def guarded(call: Callable[[], Any]) -> tuple[Any, str]:
    """Run what a plugin wrote: its result and no reason, or nothing and the reason it failed.

    Everything is caught, ``sys.exit`` included, except the user's own interruption.
    """
    try:
        return call(), ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (a stranger's module may raise anything)
        return None, f"{type(error).__name__}: {error}"


def _status(entry: Entry, found: list[Entry]) -> tuple[PluginStatus, Any]:
    """What became of one entry point, and what it names where that is ok (of weights nothing is imported)."""
    rivals = [other for other in found if other.name == entry.name and other != entry]
    if any(rival.distribution == OWN for rival in rivals):
        kind = next(kind for kind, group in KINDS.items() if group == entry.group)
        return PluginStatus(
            entry, "duplicate", f"keras-transfer has a {kind} {entry.name!r} of its own."
        ), None
    if rivals and entry.distribution != OWN:
        names = " and ".join(sorted({entry.distribution, *(rival.distribution for rival in rivals)}))
        return PluginStatus(entry, "duplicate", f"{names} both offer it; uninstall one of them."), None
    if entry.group == WEIGHTS:
        package = entry.value.partition(":")[0].partition(".")[0]
        there, reason = guarded(lambda: importlib.util.find_spec(package) is not None)
        if not there:
            return PluginStatus(entry, "broken", reason or f"there is no package {package!r}."), None
        return PluginStatus(entry, "ok", "", f"weights for {entry.name}"), None
    thing, reason = guarded(entry.load)
    if reason:
        return PluginStatus(entry, "broken", reason), None
    judge = {TASKS: _task_status, COMMANDS: _command_status, BACKBONES: _backbone_status}[entry.group]
    status = judge(entry, thing)
    return status, thing if status.state == "ok" else None


def _command_status(entry: Entry, found: Any) -> PluginStatus:
    import click

    from keras_transfer.cli import VERBS

    if not isinstance(found, click.Command):
        return PluginStatus(
            entry, "broken", f"{entry.value} is a {type(found).__name__}, not a click.Command."
        )
    if entry.name in VERBS:
        return PluginStatus(entry, "duplicate", f"keras-transfer has a verb {entry.name!r} of its own.")
    return PluginStatus(entry, "ok", "", found.get_short_help_str(80))


def _backbone_status(entry: Entry, found: Any) -> PluginStatus:
    from keras_transfer.catalog import CATALOG, BackboneSpec, plain_name

    if not isinstance(found, BackboneSpec):
        return PluginStatus(
            entry, "broken", f"{entry.value} is a {type(found).__name__}, not a BackboneSpec."
        )
    if found.name != entry.name:
        reason = f"it is called {found.name!r} and its entry point {entry.name!r}; give both one name."
        return PluginStatus(entry, "broken", reason)
    if plain_name(entry.name) in {plain_name(name) for name in CATALOG}:
        return PluginStatus(entry, "duplicate", f"the catalog has a backbone {entry.name!r} of its own.")
    return PluginStatus(entry, "ok", "", found.paper)


def _task_status(entry: Entry, spec: Any) -> PluginStatus:
    from keras_transfer.tasks.base import CONTRACT, OLDEST_CONTRACT, TaskSpec

    if not isinstance(spec, TaskSpec):
        return PluginStatus(entry, "broken", f"{entry.value} is a {type(spec).__name__}, not a TaskSpec.")
    if not isinstance(spec.contract, int):
        return PluginStatus(entry, "broken", f"its contract is {spec.contract!r}, not a whole number.")
    if not OLDEST_CONTRACT <= spec.contract <= CONTRACT:
        reason = (
            f"it is written for contract {spec.contract}; this keras-transfer speaks {OLDEST_CONTRACT} to {CONTRACT}."
            " Upgrade the older of the two."
        )
        return PluginStatus(entry, "incompatible", reason, spec.summary)
    if spec.name != entry.name:
        reason = f"it is called {spec.name!r} and its entry point {entry.name!r}; give both one name."
        return PluginStatus(entry, "broken", reason, spec.summary)
    there, reason = guarded(lambda: importlib.util.find_spec(spec.factory.partition(":")[0]) is not None)
    if not there:
        reason = f"its factory is {spec.factory!r}: {reason or 'there is no such module'}."
        return PluginStatus(entry, "broken", reason, spec.summary)
    names, reason = guarded(lambda: {field.name for field in dataclasses.fields(spec.options)})
    if reason:
        return PluginStatus(entry, "broken", f"its options are no dataclass ({reason}).")
    if spec.main_metric not in spec.metrics or set(spec.metrics.values()) - {"higher", "lower"}:
        reason = f"its main metric {spec.main_metric!r} and its metrics {dict(spec.metrics)} do not fit each other."
        return PluginStatus(entry, "broken", reason, spec.summary)
    if taken := sorted(set(spec.metrics) & RESERVED):
        reason = f"its metrics have names that reports use themselves: {', '.join(taken)}. Rename them."
        return PluginStatus(entry, "broken", reason, spec.summary)
    _, reason = guarded(lambda: option_tools.check(spec.options()))
    if reason:
        return PluginStatus(entry, "broken", f"its options' defaults are refused ({reason})", spec.summary)
    if taken := sorted(names & _core_names()):
        reason = f"its options have the names of the core's own: {', '.join(taken)}. Rename them."
        return PluginStatus(entry, "broken", reason, spec.summary)
    return PluginStatus(entry, "ok", "", spec.summary)


def _core_names() -> set[str]:
    """What ``train`` takes whatever the task: its settings and its own arguments."""
    from keras_transfer.settings import TrainSettings

    own = {
        "data",
        "output",
        "dry_run",
        "task",
        "seed",
        "overwrite",
        "offline",
        "as_json",
        "json",
        "quiet",
        "help",
    }
    return own | set(TrainSettings().flat())
