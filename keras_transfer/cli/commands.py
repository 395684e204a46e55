"""Verbs as plugins bring them."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.verbs import VERBS
from keras_transfer.discovery import Entry, ExtensionPoint, PluginStatus


def _check(entry: Entry, found: Any) -> PluginStatus:
    if not isinstance(found, click.Command):
        reason = f"{entry.value} is a {type(found).__name__}, not a click.Command."
        return PluginStatus(entry, "broken", reason)
    if entry.name in VERBS:
        return PluginStatus(entry, "duplicate", f"keras-transfer has a verb {entry.name!r} of its own.")
    return PluginStatus(entry, "ok", "", found.get_short_help_str(80))


COMMANDS = ExtensionPoint("command", "keras_transfer.commands", _check)
