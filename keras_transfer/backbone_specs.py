"""The rows of all backbones, the catalog's and those that plugins add; and who brings weights. Light."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from keras_transfer.catalog import CATALOG, OWN, BackboneSpec
from keras_transfer.discovery import Entry, ExtensionPoint, PluginStatus, entries, guarded, load, statuses
from keras_transfer.errors import unknown_name


def get_spec(name: str) -> BackboneSpec:
    """The row of a backbone. Case, ``-`` and ``_`` do not matter: ``MobileNetV2`` is ``mobilenet_v2``.

    Plugins may add rows (entry-point group ``keras_transfer.backbones``).

    Raises:
        UsageError: no backbone has this name; the closest ones are named.
        PluginError: a plugin's row that is broken or there twice.
    """
    spec = {_plain(known): spec for known, spec in CATALOG.items()}.get(_plain(name))
    if spec is not None:
        return spec
    added = [entry.name for entry in entries(BACKBONES)]
    for known in added:
        if _plain(known) == _plain(name):
            return load(BACKBONES, known)
    raise unknown_name("backbone", name, [*CATALOG, *added])


def pyramid_of(backbone: str) -> tuple[str, ...]:
    """Layers that are the levels P2 to P5 of a backbone; none of a user's own file (``path:...``), which names none.

    Raises what :func:`get_spec` raises for a name that is not in the catalog.
    """
    return () if backbone.startswith(OWN) else get_spec(backbone).pyramid


def full_name(name: str) -> str:
    """The name a backbone has in the catalog; a file of the user's (``path:FILE``) keeps its own.

    Raises as :func:`get_spec`.
    """
    return name if name.startswith(OWN) else get_spec(name).name


def all_specs() -> list[BackboneSpec]:
    """Every row: the catalog's own, then those that plugins add and that work."""
    working = [status.entry.name for status in statuses(BACKBONES) if status.state == "ok"]
    return [*CATALOG.values(), *(load(BACKBONES, name) for name in working)]


def _plain(name: str) -> str:
    """What two spellings of a backbone's name have in common."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _check_backbone(entry: Entry, found: Any) -> PluginStatus:
    if not isinstance(found, BackboneSpec):
        reason = f"{entry.value} is a {type(found).__name__}, not a BackboneSpec."
        return PluginStatus(entry, "broken", reason)
    if found.name != entry.name:
        reason = f"it is called {found.name!r} and its entry point {entry.name!r}; give both one name."
        return PluginStatus(entry, "broken", reason)
    if _plain(entry.name) in {_plain(name) for name in CATALOG}:
        return PluginStatus(entry, "duplicate", f"the catalog has a backbone {entry.name!r} of its own.")
    return PluginStatus(entry, "ok", "", found.paper)


def _check_weights(entry: Entry, _: Any) -> PluginStatus:
    package = entry.value.partition(":")[0].partition(".")[0]
    there, reason = guarded(lambda: importlib.util.find_spec(package) is not None)
    if not there:
        return PluginStatus(entry, "broken", reason or f"there is no package {package!r}.")
    return PluginStatus(entry, "ok", "", f"weights for {entry.name}")


BACKBONES = ExtensionPoint("backbone", "keras_transfer.backbones", _check_backbone)
WEIGHTS = ExtensionPoint("weights", "keras_transfer.weights", _check_weights, imports=False)
