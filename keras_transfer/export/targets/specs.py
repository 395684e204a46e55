"""Targets as plugins bring them: the spec, the extension point, and what is installed. Light."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

from keras_transfer.discovery import (
    Entry,
    ExtensionPoint,
    PluginStatus,
    entries,
    guarded,
    judged,
    load,
    statuses,
)
from keras_transfer.errors import ExportError, unknown_name
from keras_transfer.export.targets.rules import Rules
from keras_transfer.records.export_options import PRECISIONS

CONTRACT = 1
"""The version of the contract between a target and this package."""


@dataclass(frozen=True)
class TargetSpec:
    """A target: what is made for a runtime, and by which rules.

    Attributes:
        name: what people type: ``microcontroller``.
        summary: one line.
        precisions: of the ``.tflite`` it takes.
        rules: what the runtime takes of such a file.
        all_integer: int8 must be all-integer: no number in the file is a float.
        package: the distribution that it is made or proven with; empty where nothing more is needed.
        extra: the extra of ``keras-transfer`` (or of the plugin) that installs it.
        distribution: whose extra that is.
        factory: ``"package.module:Class"`` of a :class:`keras_transfer.export.targets.base.Target`, imported on use;
            empty: files are judged by the rules (``inspect``), and nothing is made.
        contract: the version it is written for.
    """

    name: str
    summary: str
    precisions: tuple[str, ...]
    rules: Rules
    all_integer: bool = False
    package: str = ""
    extra: str = ""
    distribution: str = "keras-transfer"
    factory: str = ""
    contract: int = CONTRACT

    @property
    def installed(self) -> str | None:
        """The version of its package; ``""`` where it needs none; None where it is missing."""
        if not self.package:
            return ""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def command(self) -> str:
        """What installs its package."""
        return (
            f"pip install '{self.distribution}[{self.extra}]'"
            if self.extra
            else f"pip install {self.package}"
        )

    def require(self) -> None:
        """Raise ``ExportError`` with the command that installs its package, where that is missing."""
        if self.installed is None:
            raise ExportError(
                f"The target {self.name!r} needs {self.package}, which is not installed: {self.command}"
            )


def target_spec(name: str) -> TargetSpec:
    """The spec of an installed target.

    Raises:
        UsageError: no installed target has this name; the closest ones are named.
        PluginError: the plugin is broken, incompatible or duplicated; the message says why.
    """
    spec = load(TARGETS, name)
    if spec is None:
        raise unknown_name("target", name, [entry.name for entry in entries(TARGETS)])
    return spec


def all_targets() -> list[TargetSpec]:
    """Every target that works, by name."""
    return [load(TARGETS, status.entry.name) for status in statuses(TARGETS) if status.state == "ok"]


def _check(entry: Entry, spec: Any) -> PluginStatus:
    return judged(entry, spec, TargetSpec, (CONTRACT, CONTRACT), lambda: _fault(spec))


def _fault(spec: TargetSpec) -> str:
    """What is wrong with a spec; empty where nothing is."""
    if not spec.precisions or set(spec.precisions) - set(PRECISIONS):
        return (
            f"its precisions are {', '.join(spec.precisions) or 'none'}; known are {', '.join(PRECISIONS)}."
        )
    if spec.factory:
        there, reason = guarded(lambda: importlib.util.find_spec(spec.factory.partition(":")[0]) is not None)
        if not there:
            return f"its factory is {spec.factory!r}: {reason or 'there is no such module'}."
    return ""


TARGETS = ExtensionPoint("target", "keras_transfer.targets", _check)
