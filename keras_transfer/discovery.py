"""Entry points -> what is installed and whether it works. Nothing is imported until it is asked for.

What a plugin can bring is an :class:`ExtensionPoint`. Each owner has its own, with its own check of what an entry point
names: tasks in ``tasks/specs.py``, verbs in ``cli/commands.py``, backbones and weights in ``backbone_specs.py``. This
module knows none of them.

One broken plugin never breaks the command line: its status keeps the distribution, the version, the entry
point's value and the exception; using it repeats the reason. Two plugins of one name are both refused.
``KERAS_TRANSFER_PLUGINS=a,b`` restricts which plugins are considered (the built-in ones always are).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_transfer.errors import PluginError

OWN = "keras-transfer"
"""The distribution whose plugins are the built-in ones."""


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
            "name": self.entry.name,
            "state": self.state,
            "summary": self.summary,
            "reason": self.reason,
            "distribution": self.entry.distribution,
            "version": self.entry.version,
            "value": self.entry.value,
        }


@dataclass(frozen=True)
class ExtensionPoint:
    """A way in for plugins.

    Attributes:
        kind: what comes in by it, in a word: ``"task"``.
        group: the entry-point group.
        check: the state of an entry point and what it names, which has been imported.
        imports: whether what it names is imported for its state; otherwise ``check`` is given None.
    """

    kind: str
    group: str
    check: Callable[[Entry, Any], PluginStatus]
    imports: bool = True


def entries(point: ExtensionPoint) -> list[Entry]:
    """All plugins of a kind that are installed and not excluded, sorted by name; nothing is imported."""
    return [
        entry for entry in _installed(point.group, _places()) if considered(entry.name, entry.distribution)
    ]


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


def statuses(point: ExtensionPoint) -> list[PluginStatus]:
    """The state of every plugin of a kind. Imports what the kind's check needs, catching whatever goes wrong."""
    found = entries(point)
    return [_status(point, entry, found)[0] for entry in found]


def load(point: ExtensionPoint, name: str) -> Any:
    """What the plugin of that name brings; None when no plugin has one of this name.

    Raises ``PluginError`` when it is broken, incompatible or duplicated; the message says why.
    """
    found = entries(point)
    named = [entry for entry in found if entry.name == name]
    if not named:
        return None
    named.sort(key=lambda entry: entry.distribution != OWN)  # the core keeps its names
    status, thing = _status(point, named[0], found)
    if status.state != "ok":
        raise PluginError(
            f"The {point.kind} {name!r} ({status.entry.distribution} {status.entry.version}) is {status.state}: "
            f"{status.reason}"
        )
    return thing


def judged(
    entry: Entry, spec: Any, expected: type, contracts: tuple[int, int], fault: Callable[[], str]
) -> PluginStatus:
    """The state of a plugin that brings a spec, as every kind of spec is judged.

    Args:
        spec: what the entry point names: with ``name``, ``summary`` and ``contract``.
        expected: its class.
        contracts: the oldest and the newest contract that is spoken here.
        fault: what else is wrong with it, asked of one of such a contract; empty where nothing is.
    """
    if not isinstance(spec, expected):
        what = f"{entry.value} is a {type(spec).__name__}, not a {expected.__name__}."
        return PluginStatus(entry, "broken", what)
    contract, summary = getattr(spec, "contract", None), getattr(spec, "summary", "")
    if not isinstance(contract, int):
        return PluginStatus(entry, "broken", f"its contract is {contract!r}, not a whole number.")
    oldest, newest = contracts
    if not oldest <= contract <= newest:
        reason = (
            f"it is written for contract {contract}; this keras-transfer speaks {oldest} to {newest}. Upgrade the "
            "older of the two."
        )
        return PluginStatus(entry, "incompatible", reason, summary)
    name = getattr(spec, "name", None)
    if name != entry.name:
        reason = f"it is called {name!r} and its entry point {entry.name!r}; give both one name."
    else:
        reason = fault()
    return PluginStatus(entry, "broken" if reason else "ok", reason, summary)


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


def _status(point: ExtensionPoint, entry: Entry, found: list[Entry]) -> tuple[PluginStatus, Any]:
    """What became of one entry point, and what it names where that is ok and imported."""
    rivals = [other for other in found if other.name == entry.name and other != entry]
    if any(rival.distribution == OWN for rival in rivals):
        reason = f"keras-transfer has a {point.kind} {entry.name!r} of its own."
        return PluginStatus(entry, "duplicate", reason), None
    if rivals and entry.distribution != OWN:
        names = " and ".join(sorted({entry.distribution, *(rival.distribution for rival in rivals)}))
        return PluginStatus(entry, "duplicate", f"{names} both offer it; uninstall one of them."), None
    thing, reason = guarded(entry.load) if point.imports else (None, "")
    if reason:
        return PluginStatus(entry, "broken", reason), None
    status = point.check(entry, thing)
    return status, thing if status.state == "ok" else None
