"""From the name of a task to an object that does its work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_transfer import options as option_tools
from keras_transfer.discovery import entries, guarded, import_object
from keras_transfer.errors import PluginError, RunError, UsageError, unknown_name
from keras_transfer.records import ModelContract, Origin
from keras_transfer.run import Run
from keras_transfer.tasks.base import NOTHING, TaskSpec
from keras_transfer.tasks.checked import CheckedTask
from keras_transfer.tasks.returned import BLAME
from keras_transfer.tasks.specs import TASKS, task_spec


def load_task(
    name: str,
    task_options: Any = None,
    notes: Mapping[str, Any] = NOTHING,
    run_path: Path | None = None,
) -> tuple[TaskSpec, CheckedTask]:
    """Import a task and give it its options, checked; of a finished training its notes and its run folder, too.

    Raises:
        UsageError: unknown task, or an option out of range.
        PluginError: the plugin is broken; the message says why.
    """
    spec = task_spec(name)
    if task_options is None:
        task_options = spec.options()
    if not isinstance(task_options, spec.options):
        raise UsageError(
            f"The task {name!r} takes {spec.options.__name__}, not {type(task_options).__name__}."
        )
    option_tools.check(task_options)
    factory, reason = guarded(lambda: import_object(spec.factory))
    if reason:
        raise PluginError(f"The task {name!r} cannot be loaded from {spec.factory}: {reason}")
    if notes:  # what is wrong with them is no fault of the plugin's: the caller says whose it is
        task = factory(task_options, notes, run_path)
    else:
        task, reason = guarded(lambda: factory(task_options, NOTHING, run_path))
        if reason:
            raise PluginError(f"The task {name!r} cannot be made by {spec.factory}: {reason}")
    found = origin(name)
    return spec, CheckedTask(task, spec, f"{found.distribution} {found.version}")


UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)
"""What the constructor of a task raises for notes that it cannot read."""
Changes = Mapping[str, Any] | Sequence[str]
"""Task options to measure with instead of the recorded ones: values by name, or texts ``NAME=VALUE``."""


def changed_options(name: str, recorded: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The recorded options of a task with some changed for a measurement, checked as in a training.

    Raises:
        UsageError: an unknown option, one that the training decides, or a value it does not take.
    """
    if not changes:
        return dict(recorded)
    spec = task_spec(name)
    values = changes if isinstance(changes, Mapping) else option_tools.parse(spec.options, changes)
    infos = {info.name: info for info in option_tools.option_infos(spec.options)}
    free = [info.name for info in infos.values() if info.measuring]
    for option in values:
        if option not in infos:
            raise unknown_name("option", option, infos)
        if option not in free:
            raise UsageError(
                f"--set {option}: the training decides that. What a measurement of the task {name} can set: "
                f"{', '.join(free) or 'nothing'}."
            )
    return option_tools.to_dict(option_tools.from_dict(spec.options, {**recorded, **values}))


def task_of_run(run: Run, changes: Changes = ()) -> tuple[TaskSpec, CheckedTask]:
    """The task a run was made with, its options as they were and what the training had noted taken up.

    ``changes`` are options to measure with instead of the recorded ones, see :func:`changed_options`.

    Raises:
        PluginError: the plugin is not installed (the message names its package), or broken.
        UsageError: options it does not know any more.
    """
    contract = run.record.contract
    require_installed(contract.task, str(run.path), run.record.plugin)
    options = changed_options(contract.task, contract.options, changes)
    return task_with_notes(replace(contract, options=options), run.path)


def trained_task(task: CheckedTask, notes: Mapping[str, Any], run_path: Path) -> CheckedTask:
    """The task of a training that has just ended, made with what its ``fit`` noted.

    Raises ``PluginError`` where it cannot read that.
    """
    try:
        return load_task(task.spec.name, task.options, notes, run_path)[1]
    except UNREADABLE as error:
        raise PluginError(
            f"{task.who} cannot be made with what its fit noted ({error!r}). {BLAME}"
        ) from error


def require_installed(name: str, what: str, package: Origin | None) -> None:
    """Raise ``PluginError`` that names the package when the task that made ``what`` is not to be had."""
    if name in [entry.name for entry in entries(TASKS)]:
        return
    source = f"{package.distribution} {package.version}" if package else "a package that is not known"
    only = os.environ.get("KERAS_TRANSFER_PLUGINS")
    hint = f", or left out by KERAS_TRANSFER_PLUGINS={only}" if only else ""
    raise PluginError(
        f"{what} was made with the task {name!r} of {source}, which is not installed{hint}. Install it and repeat the "
        "command."
    )


def task_with_notes(contract: ModelContract, run_path: Path | None = None) -> tuple[TaskSpec, CheckedTask]:
    """An installed task with recorded options and what a training had noted. Errors: :func:`load_task`.

    Raises ``RunError`` for options or notes that the task cannot read.
    """
    spec = task_spec(contract.task)
    try:
        options = option_tools.from_dict(spec.options, dict(contract.options))
        return load_task(contract.task, options, contract.notes, run_path)
    except UNREADABLE as error:
        raise RunError(
            f"The recorded options or notes do not fit the task {contract.task!r} ({error!r}). Train or export again."
        ) from error


def origin(name: str) -> Origin:
    """The distribution an installed task comes from, for ``run.json``."""
    entry = next(entry for entry in entries(TASKS) if entry.name == name)
    return Origin(entry.distribution, entry.version)
