"""Targets as plugins bring them: the spec, the extension point, and what is installed. Light."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
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
SOURCES = ("first", "all", "agreeing")


@dataclass(frozen=True)
class TargetSpec:
    """A target: what is made for a runtime, and by which rules.

    Attributes:
        name: what people type: ``microcontroller``.
        summary: one line.
        precisions: of the ``.tflite`` it takes.
        rules: what the runtime takes of such a file.
        all_integer: int8 must be all-integer: no number in the file is a float.
        sources: of which of the precisions that are asked for it is made: ``first`` (the first that it takes), ``all``,
            or ``agreeing``: as all, but one after the first is left out, with a warning, where it is refused or
            answers otherwise.
        package: the distribution that it is made or proven with; empty where nothing more is needed.
        oldest: of that; empty: any.
        beside: other distributions that it needs, each with its oldest version.
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
    sources: str = SOURCES[0]
    package: str = ""
    oldest: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    extra: str = ""
    distribution: str = "keras-transfer"
    factory: str = ""
    contract: int = CONTRACT

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """The distributions that it needs, each with its oldest version."""
        return ((self.package, self.oldest), *self.beside) if self.package else ()

    @property
    def installed(self) -> str | None:
        """The version of its package; ``""`` where it needs none; None where something is missing or too old."""
        found = [(_version(name), oldest) for name, oldest in self.needs]
        if any(one is None or _before(one, oldest) for one, oldest in found):
            return None
        return found[0][0] if found else ""

    @property
    def command(self) -> str:
        """What installs its package."""
        return (
            f"pip install '{self.distribution}[{self.extra}]'"
            if self.extra
            else f"pip install {self.package}"
        )

    def require(self) -> None:
        """Raise ``ExportError`` with the command that installs its packages, where one is missing or too old."""
        for name, oldest in self.needs:
            found = _version(name)
            if found is None:
                raise ExportError(
                    f"The target {self.name!r} needs {name}, which is not installed: {self.command}"
                )
            if _before(found, oldest):
                raise ExportError(
                    f"The target {self.name!r} needs {name} {oldest} or newer, and {found} is installed: "
                    f"{self.command.replace('install', 'install -U', 1)}"
                )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _before(version: str, oldest: str) -> bool:
    """Whether a version is older, by its numbers."""
    found, wanted = ([int(part) for part in re.findall(r"\d+", text)] for text in (version, oldest))
    return found[: len(wanted)] < wanted


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
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", spec.name):
        return f"its name is {spec.name!r}, which is no name of a folder; small letters, digits and - are expected."
    if spec.sources not in SOURCES:
        return f"its sources are {spec.sources!r}; known are {', '.join(SOURCES)}."
    if spec.factory:
        there, reason = guarded(lambda: importlib.util.find_spec(spec.factory.partition(":")[0]) is not None)
        if not there:
            return f"its factory is {spec.factory!r}: {reason or 'there is no such module'}."
    return ""


TARGETS = ExtensionPoint("target", "keras_transfer.targets", _check)
